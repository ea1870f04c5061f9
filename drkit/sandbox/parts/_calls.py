"""What an AWS request is (service, operation, region, global write or not) and how AWS words an error. Pure.

The gateway asks this of every request before it lets it through; nothing here knows about servers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

GLOBAL_HOME = "us-east-1"
"""Where the write side of the global services lives (partition `aws`)."""

GLOBAL_SERVICES = frozenset({"route53", "iam", "cloudfront", "organizations", "account", "shield", "waf", "budgets"})
"""One endpoint for the whole partition; their reads are answered everywhere."""

_READ_PREFIXES = ("Get", "List", "Describe", "Simulate", "GenerateCredentialReport", "GenerateServiceLastAccessed")
_MORE_READS = ("BatchGet", "Query", "Scan", "Lookup", "Head", "GET ", "HEAD ")
_XML_SERVICES = frozenset({"route53", "cloudfront"})
_SCOPE = re.compile(r"Credential=([^/,\s]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request")


@dataclass(frozen=True, slots=True)
class Call:
    """One request, as far as the gateway must understand it.

    `region` is the one it is signed for. `caller` is the client's application id (`user_agent_appid`), which tells
    the sandbox's own parts (`sandbox-...`) from drkit and from the service.
    """

    region: str | None
    service: str
    operation: str
    protocol: str
    global_write: bool
    caller: str | None
    bucket: str | None = None

    @property
    def reads(self) -> bool:
        """Nothing is changed by it."""
        return self.operation.startswith((*_READ_PREFIXES, *_MORE_READS))

    def shown(self) -> dict[str, Any]:
        """What the call log keeps."""
        names = ("region", "service", "operation", "global_write", "caller")
        return {name: getattr(self, name) for name in names}


def read_call(method: str, path: str, query: str, headers: Mapping[str, str], body: bytes) -> Call:
    """Understand a request; `headers` has lower-case names. Never raises: what is unknown is `unknown`."""
    region, service = _scope(headers, query)
    protocol, operation = _operation(service, method, path, query, headers, body)
    bucket = (path.lstrip("/").split("/", 1)[0] or None) if service == "s3" else None
    return Call(
        region,
        service,
        operation,
        protocol,
        _is_global_write(service, method, operation, path, query),
        _caller(headers.get("user-agent", "")),
        bucket,
    )


def error_body(call: Call, code: str, message: str) -> tuple[str, bytes, dict[str, str]]:
    """Content type, body and extra headers of an error in the words of the request's own protocol."""
    if call.protocol in ("json", "rest-json"):
        text = json.dumps({"__type": code, "message": message, "Message": message})
        return "application/x-amz-json-1.1", text.encode(), {"x-amzn-errortype": code}
    inner = f"<Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
    if call.protocol == "s3":
        text = f"<Error>{inner}<RequestId>sandbox</RequestId></Error>"
    elif call.protocol == "ec2":
        text = f"<Response><Errors><Error>{inner}</Error></Errors><RequestID>sandbox</RequestID></Response>"
    else:
        text = f"<ErrorResponse><Error><Type>Sender</Type>{inner}</Error><RequestId>sandbox</RequestId></ErrorResponse>"
    return "text/xml", text.encode(), {}


def _scope(headers: Mapping[str, str], query: str) -> tuple[str | None, str]:
    match = _SCOPE.search(headers.get("authorization", ""))
    if match is None and "X-Amz-Credential" in query:  # a presigned URL
        match = _SCOPE.search("Credential=" + parse_qs(query).get("X-Amz-Credential", [""])[0])
    return (match[3], match[4].lower()) if match else (None, "unknown")


def _operation(
    service: str, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes
) -> tuple[str, str]:
    if target := headers.get("x-amz-target"):
        return "json", target.rsplit(".", 1)[-1]
    if headers.get("content-type", "").startswith("application/x-www-form-urlencoded") or "Action=" in query:
        form = parse_qs(body.decode("utf-8", "replace")) or parse_qs(query)
        return ("ec2" if service == "ec2" else "query"), form.get("Action", ["unknown"])[0]
    protocol = "s3" if service == "s3" else "rest-xml" if service in _XML_SERVICES else "rest-json"
    keys = "&".join(sorted(part.split("=", 1)[0] for part in query.split("&") if part and not part.startswith("X-Amz")))
    return protocol, f"{method} {path}" + (f"?{keys}" if keys else "")


def _is_global_write(service: str, method: str, operation: str, path: str, query: str) -> bool:
    if service == "s3":
        # A bucket's name is unique in the partition: making and removing buckets is decided at the global home.
        return method in ("PUT", "DELETE") and not query and "/" not in path.strip("/") and path != "/"
    if service not in GLOBAL_SERVICES:
        return False
    if " " in operation:  # a REST call, known by its method
        return method not in ("GET", "HEAD")
    return not operation.startswith(_READ_PREFIXES)


def _caller(user_agent: str) -> str | None:
    match = re.search(r"\bapp/(\S+)", user_agent)
    return match[1] if match else None
