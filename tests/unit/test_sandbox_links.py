"""Links over real sockets: delay, cut, mend, reset."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from drkit.sandbox.links import Endpoint, Link


class Sink:
    """A server that records what reaches it and answers `ok` to each line."""

    def __init__(self) -> None:
        self.received = b""
        self.writers: list[asyncio.StreamWriter] = []

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                self.received += line
                writer.write(b"ok\n")
        writer.close()


@pytest.fixture
async def sink() -> AsyncIterator[tuple[Sink, Endpoint]]:
    sink = Sink()
    server = await asyncio.start_server(sink.handle, "127.0.0.1", 0)
    yield sink, Endpoint("127.0.0.1", server.sockets[0].getsockname()[1])
    server.close()
    for writer in sink.writers:
        writer.close()


@pytest.fixture
async def link(sink: tuple[Sink, Endpoint]) -> AsyncIterator[tuple[Link, Endpoint]]:
    link = Link("wire")
    yield link, await link.open_route(sink[1], "127.1.1.1")
    link.close()


async def eventually(what: object, *, within_s: float = 3.0) -> None:
    assert callable(what)
    deadline = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.005)


async def test_bytes_take_the_delay_each_way(link: tuple[Link, Endpoint]) -> None:
    wire, address = link
    wire.delay_s = 0.1
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(b"warm up\n")
    await reader.readline()
    started = time.monotonic()
    writer.write(b"hello\n")
    assert await reader.readline() == b"ok\n"
    assert 0.2 <= time.monotonic() - started < 0.5
    writer.close()


async def test_order_survives_a_delay_that_shrinks(link: tuple[Link, Endpoint], sink: tuple[Sink, Endpoint]) -> None:
    wire, address = link
    wire.delay_s = 0.15
    _, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(b"first\n")
    await eventually(lambda: bool(wire._connections))
    await asyncio.sleep(0.05)  # the first is still under way
    wire.delay_s = 0.0
    writer.write(b"second\n")
    await eventually(lambda: sink[0].received == b"first\nsecond\n")
    writer.close()


async def test_a_cut_drops_what_is_under_way(link: tuple[Link, Endpoint], sink: tuple[Sink, Endpoint]) -> None:
    wire, address = link
    wire.delay_s = 0.1
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(b"arrives\n")
    assert await reader.readline() == b"ok\n"
    writer.write(b"lost\n")
    await asyncio.sleep(0.03)  # sent, and within the delay
    wire.cut()
    with pytest.raises(TimeoutError):  # stalled: neither data nor an end
        await asyncio.wait_for(reader.read(1), 0.3)
    assert sink[0].received == b"arrives\n"
    writer.close()


async def test_a_cut_link_refuses_and_a_mended_one_serves_on_the_same_port(link: tuple[Link, Endpoint]) -> None:
    wire, address = link
    old_reader, old_writer = await asyncio.open_connection(address.host, address.port)
    old_writer.write(b"x\n")
    await old_reader.readline()
    wire.cut()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(address.host, address.port)
    await wire.mend()
    with pytest.raises(ConnectionResetError):  # a stream with a hole must not go on
        await asyncio.wait_for(old_reader.read(1), 2)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(b"again\n")
    assert await asyncio.wait_for(reader.readline(), 2) == b"ok\n"
    writer.close()


async def test_reset_ends_connections_with_rst_and_keeps_the_link(link: tuple[Link, Endpoint]) -> None:
    wire, address = link
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(b"x\n")
    await reader.readline()
    wire.reset()
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(1), 2)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(b"y\n")
    assert await asyncio.wait_for(reader.readline(), 2) == b"ok\n"
    writer.close()
    await eventually(lambda: wire.connections == 0)


async def test_half_close_and_large_transfers_pass(link: tuple[Link, Endpoint]) -> None:
    wire, _ = link
    total = 0
    done = asyncio.Event()

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal total
        while data := await reader.read(65536):
            total += len(data)
        writer.write(b"bye")
        writer.close()
        done.set()

    server = await asyncio.start_server(count, "127.0.0.1", 0)
    wire.delay_s = 0.01
    address = await wire.open_route(Endpoint("127.0.0.1", server.sockets[0].getsockname()[1]), "127.1.1.1")
    reader, writer = await asyncio.open_connection(address.host, address.port)
    for _ in range(80):
        writer.write(b"z" * 100_000)
        await writer.drain()
    writer.write_eof()
    assert await asyncio.wait_for(reader.read(), 10) == b"bye"
    assert total == 8_000_000
    server.close()


async def test_nobody_behind_the_link_ends_the_clients_connection() -> None:
    wire = Link("wire")
    address = await wire.open_route(Endpoint("127.0.0.1", 1), "127.1.1.1")
    reader, _ = await asyncio.open_connection(address.host, address.port)
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(1), 2)
    wire.close()
