"""The wires of the sandbox: TCP forwarders that can delay, be cut, and reset what runs over them.

A link is what lies between two sites: a name, one state, and any number of routes (listening address → upstream).
What it promises:

- *delay*: every byte arrives at least `delay_s` after it was sent, in order, in both directions; the upstream
  connection is opened one delay after the client's.
- *cut*: from the call on, not one byte is delivered in either direction, including those already on their way. This
  is what makes loss visible: bytes that a killed process had sent would otherwise still arrive. Open connections
  stall, as they do when a region goes dark; new ones are refused. After the cut is mended the stalled ones are reset,
  because a stream with a hole in it must not go on.
- *reset*: every open connection ends with RST, now; the link stays usable.
- *silence*: some of what lies behind it answers nobody: open connections are reset, and so is whoever connects.

`cut`, `reset` and `silence` are synchronous: when they return, it has happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from dataclasses import dataclass, field

_HIGH_WATER_BYTES = 1 << 20


@dataclass(frozen=True)
class Endpoint:
    """A TCP address."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """As the base of HTTP requests."""
        return f"http://{self.host}:{self.port}"


@dataclass
class Route:
    """One listening address of a link and where it leads."""

    listen: Endpoint
    upstream: Endpoint
    placeholder: socket.socket
    """Bound, never listening: keeps the port ours while the link is cut, and makes the kernel refuse connections."""
    server: asyncio.Server | None = None


@dataclass
class Link:
    """One wire between two sites. Make it, then `await open_route(...)` for each address that leads over it."""

    name: str
    delay_s: float = 0.0
    is_cut: bool = False
    silent: frozenset[Endpoint] = frozenset()
    """Upstreams that nobody reaches: whoever connects is reset."""
    turned_away: int = 0
    """Connections to such upstreams that were reset before anything was carried."""
    routes: list[Route] = field(default_factory=list)
    _connections: set[_Connection] = field(default_factory=set)

    async def open_route(self, upstream: Endpoint, host: str, port: int = 0) -> Endpoint:
        """Listen on `host` (port 0: a free one) and lead to `upstream`; returns the address. Raises OSError."""
        placeholder = bind(host, port)
        listen = Endpoint(host, placeholder.getsockname()[1])
        route = Route(listen, upstream, placeholder)
        self.routes.append(route)
        if not self.is_cut:
            await self._listen(route)
        return listen

    def close_route(self, listen: Endpoint) -> None:
        """Stop listening on one address and give the port back; open connections go on."""
        for route in [route for route in self.routes if route.listen == listen]:
            if route.server is not None:
                route.server.close()
            route.placeholder.close()
            self.routes.remove(route)

    async def _listen(self, route: Route) -> None:
        loop = asyncio.get_running_loop()
        sock = bind(route.listen.host, route.listen.port)
        route.server = await loop.create_server(lambda: _Side(self._accepted(route)), sock=sock, backlog=512)

    def _accepted(self, route: Route) -> _Connection:
        connection = _Connection(self, route.upstream)
        self._connections.add(connection)
        return connection

    def cut(self) -> None:
        """Deliver nothing from now on, drop what is under way, refuse new connections."""
        self.is_cut = True
        for route in self.routes:
            if route.server is not None:
                route.server.close()
                route.server = None
        for connection in self._connections:
            connection.stall()

    async def mend(self) -> None:
        """Undo `cut`: reset what stalled, listen again."""
        if not self.is_cut:
            return
        self.reset()
        self.is_cut = False
        for route in self.routes:
            await self._listen(route)

    def silence(self, upstreams: frozenset[Endpoint]) -> None:
        """Only these are silent from now on; what is open to them is reset."""
        self.silent = upstreams
        self.drop(upstreams)

    def drop(self, upstreams: frozenset[Endpoint]) -> None:
        """End with RST what is open to these."""
        for connection in [each for each in self._connections if each.upstream in upstreams]:
            connection.abort()

    def reset(self) -> None:
        """End every open connection with RST."""
        for connection in list(self._connections):
            connection.abort()

    def close(self) -> None:
        """End everything and give the ports back."""
        self.reset()
        for route in self.routes:
            if route.server is not None:
                route.server.close()
                route.server = None
            route.placeholder.close()
        self.routes.clear()

    @property
    def connections(self) -> int:
        """How many connections are open or stalled."""
        return len(self._connections)


class _Connection:
    """One client connection and its twin to the upstream; bytes wait in a queue for each direction."""

    def __init__(self, link: Link, upstream: Endpoint) -> None:
        self.link = link
        self.upstream = upstream
        self.client: _Side | None = None
        self.server: _Side | None = None
        self.stalled = False
        self._dial: asyncio.Task[None] | None = None

    def opened(self, side: _Side) -> None:
        if self.link.is_cut:  # accepted in the same turn of the loop in which the link was cut
            side.abort()
            self.link._connections.discard(self)
        elif self.upstream in self.link.silent:
            self.link.turned_away += self.client is None
            side.abort()
            self.abort()
        elif self.client is None:
            self.client = side
            side.pause()
            self._dial = asyncio.ensure_future(self._open_upstream())
        else:
            self.server = side
            self.client.peer, side.peer = side, self.client
            self.client.resume()

    async def _open_upstream(self) -> None:
        await asyncio.sleep(self.link.delay_s)
        if self.stalled:
            return
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: _Side(self), self.upstream.host, self.upstream.port
            )
        except OSError:  # nobody listens behind the link: the client sees what it would see without one
            self.abort()

    def stall(self) -> None:
        self.stalled = True
        for side in self._sides():
            side.stall()

    def abort(self) -> None:
        for side in self._sides():
            side.abort()
        if self._dial is not None:
            self._dial.cancel()
        self.link._connections.discard(self)

    def lost(self, side: _Side) -> None:
        """One side is gone for good. A stalled connection tells nobody: that news, too, would have to cross the cut."""
        if self.stalled:
            return
        if side.peer is None:
            self.abort()
        elif all(other.closed for other in self._sides()):
            self.link._connections.discard(self)

    def _sides(self) -> list[_Side]:
        return [side for side in (self.client, self.server) if side is not None]


class _Side(asyncio.Protocol):
    """One socket of a connection: what it receives is queued for the peer and delivered when it is due."""

    def __init__(self, connection: _Connection) -> None:
        self.connection = connection
        self.peer: _Side | None = None
        self.closed = False
        self._read_eof = False
        self._wrote_eof = False
        self._transport: asyncio.Transport | None = None
        self._outbox: deque[tuple[float, bytes | None]] = deque()
        self._queued = 0
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection.opened(self)

    def data_received(self, data: bytes) -> None:
        if self.peer is not None and not self.connection.stalled:
            self.peer._enqueue(data)
            if self.peer._queued > _HIGH_WATER_BYTES:
                self.pause()

    def eof_received(self) -> bool:
        self._read_eof = True
        self._close_when_both_ended()
        if self.peer is not None and not self.connection.stalled:
            self.peer._enqueue(None)
        return True  # keep the other direction open

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self.peer is not None and not self.connection.stalled and not self.peer.closed:
            if exc is not None:
                self.peer.abort()
            else:
                self.peer._enqueue(None)
        self.connection.lost(self)

    def pause_writing(self) -> None:
        if self.peer is not None:
            self.peer.pause()

    def resume_writing(self) -> None:
        if self.peer is not None:
            self.peer.resume()

    def pause(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing() and not self.connection.stalled:
            self._transport.resume_reading()

    def stall(self) -> None:
        """Forget what was under way; keep the socket, silently."""
        self._outbox.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.pause()
        self._drop_unsent()

    def _drop_unsent(self) -> None:
        """Bytes that asyncio holds because the socket's buffer was full have not crossed the link either."""
        transport = self._transport
        if transport is not None and transport.get_write_buffer_size() > 0:
            transport.abort()

    def abort(self) -> None:
        """Close with RST: linger 0 makes the kernel drop what is unsent and say so."""
        transport = self._transport
        if transport is None:
            return
        sock = transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):  # already disconnected: nothing left to reset
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()

    def _enqueue(self, data: bytes | None) -> None:
        due = self._loop.time() + self.connection.link.delay_s
        if self._outbox:
            due = max(due, self._outbox[-1][0])  # a delay that shrinks must not let bytes overtake
        elif self.connection.link.delay_s <= 0:
            self._deliver(data)
            return
        self._outbox.append((due, data))
        self._queued += len(data) if data is not None else 0
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._deliver_due)

    def _deliver_due(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._outbox and self._outbox[0][0] <= now + 1e-4:
            _, data = self._outbox.popleft()
            self._queued -= len(data) if data is not None else 0
            self._deliver(data)
        if self._outbox:
            self._timer = self._loop.call_at(self._outbox[0][0], self._deliver_due)
        if self._queued <= _HIGH_WATER_BYTES and self.peer is not None:
            self.peer.resume()

    def _deliver(self, data: bytes | None) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if data is not None:
            transport.write(data)
        elif self.peer is not None and self.peer.closed:
            transport.close()
        elif not self._wrote_eof:
            transport.write_eof()
            self._wrote_eof = True
            self._close_when_both_ended()

    def _close_when_both_ended(self) -> None:
        if self._read_eof and self._wrote_eof and self._transport is not None:
            self._transport.close()


def bind(host: str, port: int) -> socket.socket:
    """A TCP socket that holds an address without listening; a listener may share it. Raises OSError."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock
