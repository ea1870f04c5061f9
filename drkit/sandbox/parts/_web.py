"""The small HTTP servers of the sandbox's parts: JSON in, JSON out, a thread per connection, loopback only.

A part gives `serve` a function from `Request` to `Reply`; `None` instead of a reply resets the connection (RST), which
is how an endpoint that is down looks to a client. Nothing is logged but failures of the part itself.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NoReturn
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, read whole."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON; an empty one is an empty object. Raises ValueError."""
        return json.loads(self.body) if self.body.strip() else {}


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


def json_reply(value: Any, status: int = 200, **headers: str) -> Reply:
    """An answer with this JSON body."""
    return Reply(status, (json.dumps(value) + "\n").encode(), headers=headers)


Handler = Callable[[Request], Reply | None]


def arm_reset(connection: socket.socket) -> None:
    """From now on closing this connection sends RST, whatever was not yet delivered."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def reset_is_armed(connection: socket.socket) -> bool:
    """True if `arm_reset` was called."""
    on, seconds = struct.unpack("ii", connection.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8))
    return bool(on) and seconds == 0


class Server(ThreadingHTTPServer):
    """A threaded server that can reset a connection instead of closing it."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handle: Handler) -> None:
        self.handle_request_with = handle
        super().__init__(address, _RequestHandler)

    def server_bind(self) -> None:
        """Bind without the reverse lookup of the base class, which may ask a name server."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def shutdown_request(self, request: Any) -> None:
        """Close; without the orderly FIN first where a reset is wanted."""
        if reset_is_armed(request):
            request.close()
        else:
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is not worth a line."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _RequestHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body leave in one packet
    server: Server

    def _respond(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        target = urlsplit(self.path)
        request = Request(
            self.command,
            target.path,
            dict(parse_qsl(target.query, keep_blank_values=True)),
            {name.lower(): value for name, value in self.headers.items()},
            self.rfile.read(length),
        )
        reply = self._reply(request)
        if reply is None:
            arm_reset(self.connection)
            self.close_connection = True
            return
        self.send_response(reply.status)
        for name, value in {"Content-Type": reply.content_type, **reply.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)
        self.wfile.flush()

    def _reply(self, request: Request) -> Reply | None:
        try:
            return self.server.handle_request_with(request)
        except ValueError as error:
            return json_reply({"error": str(error)}, 400)
        except Exception:  # noqa: BLE001 (one request must not end the part)
            traceback.print_exc()
            return json_reply({"error": "internal error; see the part's log"}, 500)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _respond

    def log_message(self, format: str, *args: Any) -> None:
        """Not a line per request: these are polled."""


def serve(address: str, port: int, handle: Handler) -> Server:
    """Start answering at `address:port` (0: a free port) in a thread; `server.server_port` says which. OSError."""
    server = Server((address, port), handle)
    threading.Thread(target=server.serve_forever, args=(0.2,), daemon=True, name=f"http {address}").start()
    return server


def wait_for_term() -> NoReturn:
    """Block until SIGTERM or SIGINT, then end the process at once: its threads hold nothing worth waiting for."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
    while True:
        signal.pause()
