"""HTTP/1.1 for the parts that live in one event loop (agent, edge, supervisor): a server and a client, small bodies.

The server keeps connections alive; the client opens one per call. Bodies are read whole and bounded. A handler that
returns None resets the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, urlsplit

BODY_MAX_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Message:
    """A request or an answer: the first line's three words, headers in lower case, the body whole."""

    first: tuple[str, str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def method(self) -> str:
        """Of a request."""
        return self.first[0]

    @property
    def path(self) -> str:
        """Of a request, without the query."""
        return urlsplit(self.first[1]).path

    @property
    def query(self) -> dict[str, str]:
        """Of a request."""
        return dict(parse_qsl(urlsplit(self.first[1]).query, keep_blank_values=True))

    @property
    def status(self) -> int:
        """Of an answer."""
        return int(self.first[1])

    @property
    def keeps_alive(self) -> bool:
        """The connection may carry another message after this one."""
        return self.headers.get("connection", "").lower() != "close" and "HTTP/1.0" not in self.first

    def json(self) -> Any:
        """The body as JSON, `{}` if there is none. Raises ValueError."""
        return json.loads(self.body) if self.body.strip() else {}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a handler returns."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})


def answer(value: Any, status: int = 200) -> Answer:
    """A JSON answer."""
    return Answer(status, (json.dumps(value) + "\n").encode())


Handler = Callable[[Message], Awaitable[Answer | None]]


async def read_message(reader: asyncio.StreamReader) -> Message | None:
    """The next message; None at a clean end. Raises ValueError, ConnectionError or IncompleteReadError."""
    line = await reader.readline()
    if not line:
        return None
    words = line.decode("latin-1").rstrip("\r\n").split(" ", 2)
    if len(words) < 2:
        raise ValueError("not HTTP")
    headers: dict[str, str] = {}
    while (line := await reader.readline()) not in (b"\r\n", b"\n", b""):
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    first = (words[0], words[1], words[2] if len(words) > 2 else "")
    return Message(first, headers, await _read_body(reader, headers, is_answer=words[0].startswith("HTTP/")))


async def _read_body(reader: asyncio.StreamReader, headers: Mapping[str, str], *, is_answer: bool) -> bytes:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return await _read_chunks(reader)
    if "content-length" in headers:
        length = int(headers["content-length"])
        if not 0 <= length <= BODY_MAX_BYTES:
            raise ValueError("body too large")
        return await reader.readexactly(length)
    return await reader.read(BODY_MAX_BYTES) if is_answer and headers.get("connection", "") == "close" else b""


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readline()).split(b";")[0], 16):
        if len(body) + size > BODY_MAX_BYTES:
            raise ValueError("body too large")
        body += await reader.readexactly(size)
        await reader.readline()
    while (await reader.readline()) not in (b"\r\n", b"\n", b""):
        pass
    return body


def encode_answer(reply: Answer, *, keep_alive: bool) -> bytes:
    """The bytes of an answer."""
    lines = [f"HTTP/1.1 {reply.status} {_phrase(reply.status)}"]
    lines += [f"{name}: {value}" for name, value in reply.headers.items()]
    lines += [f"Content-Length: {len(reply.body)}", f"Connection: {'keep-alive' if keep_alive else 'close'}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + reply.body


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def encode_request(method: str, target: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """The bytes of a request."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join([*lines, f"Content-Length: {len(body)}"]) + "\r\n\r\n").encode("latin-1") + body


async def serve(handle: Handler, host: str, port: int = 0) -> tuple[asyncio.Server, int]:
    """Answer at `host:port` (0: a free one); the server and its port. Raises OSError."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):  # a client that left is no news
            await _converse(handle, reader, writer)
        writer.close()

    server = await asyncio.start_server(connected, host, port, backlog=512)
    return server, server.sockets[0].getsockname()[1]


async def _converse(handle: Handler, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        try:
            request = await read_message(reader)
        except ValueError as error:
            writer.write(encode_answer(answer({"error": str(error)}, 400), keep_alive=False))
            return
        if request is None:
            return
        try:
            reply = await handle(request)
        except ValueError as error:
            reply = answer({"error": str(error)}, 400)
        except Exception:  # noqa: BLE001 (the boundary: whatever the handler raised is logged and answered)
            traceback.print_exc(file=sys.stderr)
            reply = answer({"error": "internal error; see the part's log"}, 500)
        if reply is None:
            reset(writer)
            return
        writer.write(encode_answer(reply, keep_alive=request.keeps_alive))
        await writer.drain()
        if not request.keeps_alive:
            return


def reset(writer: asyncio.StreamWriter) -> None:
    """End the connection with RST."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def fetch(
    method: str,
    url: str,
    value: Any = None,
    *,
    timeout_s: float,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> Message:
    """One request, one connection. `value` is sent as JSON. Raises OSError or TimeoutError; ValueError if not HTTP."""
    target = urlsplit(url)
    content = body if body is not None else json.dumps(value).encode() if value is not None else b""
    wanted = {"Host": target.netloc, "Connection": "close", "Content-Type": "application/json", **(headers or {})}
    path = (target.path or "/") + (f"?{target.query}" if target.query else "")
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(target.hostname, target.port or 80)
            writer.write(encode_request(method, path, wanted, content))
            reply = await read_message(reader)
    except asyncio.IncompleteReadError as torn:
        raise ConnectionResetError("the answer ended early") from torn
    finally:
        if writer is not None:
            writer.close()
    if reply is None:
        raise ConnectionResetError("no answer")
    return reply
