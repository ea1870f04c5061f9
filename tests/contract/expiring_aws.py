"""moto behind a door that knows which access keys are over, as AWS does: refused before anything is carried out."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from drkit.sandbox.parts._calls import error_body, read_call
from drkit.sandbox.parts._moto import make_moto

_KEY = re.compile(r"Credential=([^/]+)/")


class ExpiringAws:
    """The door. `over`: access keys that have expired; `blips`: how many requests are answered 503 first."""

    def __init__(self) -> None:
        self.over: set[str] = set()
        self.blips = 0
        self.refused: Counter[str] = Counter()
        self.served: Counter[str] = Counter()
        self.url = ""
        self._moto = make_moto()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        headers = {name[5:].replace("_", "-").lower(): text for name, text in environ.items() if name[:5] == "HTTP_"}
        headers["content-type"] = environ.get("CONTENT_TYPE", "")
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        call = read_call(environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["QUERY_STRING"], headers, body)
        found = _KEY.search(headers.get("authorization", ""))
        key = found[1] if found else ""
        if self.blips:
            self.blips -= 1
            start("503 Service Unavailable", [("Content-Type", "text/plain")])
            return [b"later"]
        if key in self.over:
            self.refused[key] += 1
            kind, text, more = error_body(call, "ExpiredToken", "The security token included in the request is expired")
            start("403 Forbidden", [("Content-Type", kind), *more.items()])
            return [text]
        self.served[key] += 1
        environ["wsgi.input"] = _Read(body)
        answer: Iterable[bytes] = self._moto(environ, start)
        return answer


class _Read:
    """A request's body, once more."""

    def __init__(self, body: bytes) -> None:
        import io

        self._body = io.BytesIO(body)
        self.read, self.readline = self._body.read, self._body.readline


@contextmanager
def expiring_aws() -> Iterator[ExpiringAws]:
    """One that listens on loopback."""
    from moto.moto_server.werkzeug_app import MotoRequestHandler
    from werkzeug.serving import ThreadedWSGIServer

    class Quiet(MotoRequestHandler):  # type: ignore[misc]
        def log_request(self, *_: Any) -> None:
            """Nobody reads it."""

    door = ExpiringAws()
    server = ThreadedWSGIServer("127.0.0.1", 0, door, Quiet)
    door.url = f"http://127.0.0.1:{server.port}"
    assert urlsplit(door.url).port == server.port
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    try:
        yield door
    finally:
        server.shutdown()
        serving.join(5)
        server.server_close()
