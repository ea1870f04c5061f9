"""One HTTP call of an experiment, with the meaning that Chaos Toolkit gives its fields. Runs in the worker."""

from __future__ import annotations

from typing import Any


def request(call: dict[str, Any]) -> dict[str, Any]:
    """Send it: `status`, `headers`, `body` whatever the status is; failed if nobody answers, or not in time."""
    import httpx2 as httpx

    headers, arguments, timeout = call["headers"], call["arguments"], call["timeout"]
    limits = httpx.Timeout(timeout) if not isinstance(timeout, list) else httpx.Timeout(timeout[1], connect=timeout[0])
    sent: dict[str, Any] = {}
    if arguments:
        if call["method"] == "GET":
            sent["params"] = arguments
        elif headers and headers.get("Content-Type") == "application/json":
            sent["json"] = arguments
        else:
            sent["data" if isinstance(arguments, dict) else "content"] = arguments
    transport = httpx.HTTPTransport(verify=call["verify_tls"], retries=call["max_retries"])
    try:
        with httpx.Client(transport=transport, timeout=limits, follow_redirects=True) as client:
            told = {name: str(value) for name, value in (headers or {}).items()}
            answer = client.request(call["method"], call["url"], headers=told, **sent)
            as_json = answer.headers.get("content-type") == "application/json"
            body = answer.json() if as_json else answer.text
    except httpx.TimeoutException:
        return {"status": "failed", "error": "activity took too long to complete"}
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        return {"status": "failed", "error": f"failed to connect to {call['url']}: {error}"}
    named: dict[str, str] = {}
    for raw_name, raw_value in answer.headers.raw:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        named[name] = f"{named[name]}, {value}" if name in named else value
    return {"status": "succeeded", "output": {"status": answer.status_code, "headers": named, "body": body}}
