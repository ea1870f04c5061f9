"""How a region's gateway speaks HTTP: requests read whole, answers as AWS sends them, connections that can be reset."""

from __future__ import annotations

import io
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from drkit.sandbox.parts._calls import Call, read_call
from drkit.sandbox.parts._moto import error_reply
from drkit.sandbox.parts._web import Reply, arm_reset, reset_is_armed

Answer = Callable[[Call, dict[str, Any], Callable[[], bool]], Reply | None]
"""From a call, its WSGI environment and whether its client is still there to the reply; None: reset the connection."""


def gateway_server(address: str, port: int, answer: Answer) -> Any:
    """The listening server of one region's gateway, not yet serving. Raises OSError."""
    from moto.moto_server.werkzeug_app import MotoRequestHandler
    from werkzeug.serving import ThreadedWSGIServer

    class Handler(MotoRequestHandler):  # type: ignore[misc]
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def run_wsgi(self) -> None:
            if self.headers.get("Expect", "").lower().strip() == "100-continue":
                self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                self.wfile.flush()
            environ = self.make_environ()
            body = _read_body(environ)
            target = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            call = read_call(self.command, target.path, target.query, headers, body)
            if target.path.startswith("/moto-api"):  # would let a client reset the world
                self._send(error_reply(call, 404, "NotFound", "not an AWS API"))
                return
            reply = answer(call, environ, lambda: _connected(self.connection))
            if reply is None:
                arm_reset(self.connection)
                self.close_connection = True
            else:
                self._send(reply)

        def _send(self, reply: Reply) -> None:
            bare = self.command == "HEAD" or reply.status in (204, 304)
            self.send_response(reply.status)
            for name, value in _wire_headers(reply, bare=bare).items():
                self.send_header(name, value)
            self.end_headers()
            if not bare:
                self.wfile.write(reply.body)
            self.wfile.flush()

        def log_request(self, *_: Any) -> None:
            """The call log has it."""

    class GatewayServer(ThreadedWSGIServer):  # type: ignore[misc]
        def shutdown_request(self, request: Any) -> None:
            if reset_is_armed(request):
                request.close()
            else:
                super().shutdown_request(request)

        def handle_error(self, request: Any, client_address: Any) -> None:
            if not isinstance(sys.exception(), ConnectionError):
                super().handle_error(request, client_address)

    return GatewayServer(address, port, lambda environ, start: (), Handler)


def _connected(connection: socket.socket) -> bool:
    """False if the client has closed its side."""
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


def _read_body(environ: dict[str, Any]) -> bytes:
    """Read the request's body whole and put it back, so that a kept-alive connection stays in step."""
    stream = environ["wsgi.input"]
    if environ.get("wsgi.input_terminated"):
        body: bytes = stream.read()
    else:
        body = stream.read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    environ["CONTENT_LENGTH"] = str(len(body))
    environ.pop("HTTP_TRANSFER_ENCODING", None)
    return body


def _wire_headers(reply: Reply, *, bare: bool) -> Mapping[str, str]:
    headers = {**({"Content-Type": reply.content_type} if reply.content_type else {}), **reply.headers}
    if bare:  # of a HEAD, the length is the object's
        return headers
    return {**headers, "Content-Length": str(len(reply.body))}
