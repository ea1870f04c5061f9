"""The only TCP door to a PostgreSQL server: relays between clients and its Unix socket, and asks before each relay.

Before bytes go in either direction the door asks its keeper, who says `open`, `held` (keep them until the answer
changes) or `shut` (end the connection). It asks *after* having received an answer of the server and before sending it
on, so a commit that is answered too late is never acknowledged. New clients of a shut door get an error that says why.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Literal

State = Literal["open", "held", "shut"]

_HIGH_WATER_BYTES = 1 << 20
_STARTUP_MAX_BYTES = 10_000
_SSL_REQUEST, _GSS_REQUEST, _CANCEL_REQUEST = 80877103, 80877104, 80877102


class Door:
    """Listens on TCP; `keeper(is_replication)` decides for each relay; `why_shut()` is told to new clients."""

    def __init__(self, path: Path, keeper: Callable[[bool], State], why_shut: Callable[[], str]) -> None:
        self.path, self.keeper, self.why_shut = path, keeper, why_shut
        self.sessions: set[Session] = set()

    async def listen(self, host: str, port: int) -> int:
        """Start; the port. Raises OSError."""
        server = await asyncio.get_running_loop().create_server(lambda: _Client(Session(self)), host, port, backlog=256)
        return int(server.sockets[0].getsockname()[1])

    def close_sessions(self, *, replication: bool) -> None:
        """End clients' sessions at once, undelivered bytes included; standbys' only if `replication`."""
        for session in list(self.sessions):
            if replication or not session.is_replication:
                session.abort()

    def changed(self) -> None:
        """The keeper's mind may have changed: go on with what was held, or end it."""
        for session in list(self.sessions):
            session.retry()


class Session:
    """One client and its connection to the server."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.is_replication = False
        self.client: _Client | None = None
        self.backend: _Backend | None = None
        self._held: list[tuple[_Side, bytes]] = []
        self._dial: asyncio.Task[None] | None = None

    def arrived(self, client: _Client) -> None:
        self.client = client
        self.door.sessions.add(self)

    def begin(self, startup: bytes) -> None:
        """The client has said who it is: open the server's side and send that on."""
        assert self.client is not None
        if self.door.keeper(self.is_replication) == "shut":
            self.client.refuse(self.door.why_shut())
            return
        self.client.pause()
        self._dial = asyncio.ensure_future(self._open_backend(startup))

    async def _open_backend(self, startup: bytes) -> None:
        try:
            _, backend = await asyncio.get_running_loop().create_unix_connection(
                lambda: _Backend(self), str(self.door.path)
            )
        except OSError as error:
            if self.client is not None:
                self.client.refuse(f"the server does not answer: {error.strerror or error}")
            return
        self.backend = backend
        assert self.client is not None
        self.relay(backend, startup)
        self.client.resume()

    def relay(self, to: _Side, data: bytes) -> None:
        """Send on, keep or end, as the keeper says now."""
        state: State = "held" if self._held else self.door.keeper(self.is_replication)
        if state == "open":
            to.write(data)
        elif state == "held":
            self._held.append((to, data))
            if to.peer is not None:
                to.peer.pause()
        else:
            self.abort()

    def retry(self) -> None:
        state = self.door.keeper(self.is_replication)
        if state == "shut":
            self.abort()
        elif state == "open" and self._held:
            held, self._held = self._held, []
            for to, data in held:
                to.write(data)
                if to.peer is not None:
                    to.peer.resume()

    def ended(self) -> None:
        """One side closed: the other follows once it has what was sent."""
        for side in (self.client, self.backend):
            if side is not None:
                side.close()
        if self._dial is not None:
            self._dial.cancel()
        self.door.sessions.discard(self)

    def abort(self) -> None:
        self._held.clear()
        for side in (self.client, self.backend):
            if side is not None:
                side.abort()
        if self._dial is not None:
            self._dial.cancel()
        self.door.sessions.discard(self)


class _Side(asyncio.Protocol):
    def __init__(self, session: Session) -> None:
        self.session = session
        self.transport: asyncio.Transport | None = None

    @property
    def peer(self) -> _Side | None:
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.session.ended()

    def pause_writing(self) -> None:
        if self.peer is not None:
            self.peer.pause()

    def resume_writing(self) -> None:
        if self.peer is not None:
            self.peer.resume()

    def write(self, data: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def pause(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    def resume(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Undelivered bytes die here: linger 0 also empties the kernel's buffer."""
        if self.transport is None:
            return
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):  # already disconnected
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


class _Client(_Side):
    """The TCP side. Until the startup packet is complete nothing is relayed."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._startup: bytes | None = b""

    @property
    def peer(self) -> _Side | None:
        return self.session.backend

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.session.arrived(self)

    def data_received(self, data: bytes) -> None:
        if self._startup is None:
            backend = self.session.backend
            if backend is not None:
                self.session.relay(backend, data)
            return
        self._startup += data
        self._read_startup()

    def _read_startup(self) -> None:
        while self._startup is not None and len(self._startup) >= 8:
            length, code = struct.unpack("!II", self._startup[:8])
            if not 8 <= length <= _STARTUP_MAX_BYTES:
                self.abort()
                return
            if code in (_SSL_REQUEST, _GSS_REQUEST):
                self._startup = self._startup[length:]
                self.write(b"N")
                continue
            if len(self._startup) < length:
                return
            packet, self._startup = self._startup, None
            self.session.is_replication = code != _CANCEL_REQUEST and _asks_for_replication(packet[8:length])
            self.session.begin(packet)

    def refuse(self, why: str) -> None:
        """Say why as PostgreSQL would (57P03, cannot connect now), then end."""
        fields = b"SFATAL\0VFATAL\0C57P03\0M" + why.encode() + b"\0\0"
        self.write(b"E" + struct.pack("!I", len(fields) + 4) + fields)
        self.close()


class _Backend(_Side):
    """The Unix socket side."""

    @property
    def peer(self) -> _Side | None:
        return self.session.client

    def data_received(self, data: bytes) -> None:
        client = self.session.client
        if client is not None:
            self.session.relay(client, data)


def _asks_for_replication(parameters: bytes) -> bool:
    words = parameters.split(b"\0")
    pairs = dict(zip(words[::2], words[1::2], strict=False))
    return pairs.get(b"replication", b"off").lower() in (b"true", b"on", b"yes", b"1", b"database")
