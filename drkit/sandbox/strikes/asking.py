"""Ask the sandbox's control API from outside of any run."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from drkit.errors import DrkitError


def ask(control: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """GET, or POST if there is a body. DrkitError if it refuses or does not answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{control}/{path}", data=data, method="GET" if body is None else "POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            answer: dict[str, Any] = json.load(reply)
            return answer
    except OSError as error:
        raise DrkitError(f"the sandbox refused {path}: {error}", hint="drkit sandbox status") from error
