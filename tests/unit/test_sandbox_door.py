"""The door of a PostgreSQL server: what it lets through while it is open, held and shut. The server is a fake."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from drkit.sandbox.parts._door import Door, State


class Keeper:
    """Answers for clients and for standbys."""

    client: State = "open"
    standby: State = "open"
    before_answer: Callable[[], None] | None = None

    def __call__(self, is_replication: bool) -> State:
        return self.standby if is_replication else self.client


class Fixture:
    def __init__(self, folder: Path) -> None:
        self.keeper = Keeper()
        self.door = Door(folder / "s", self.keeper, lambda: "fenced: for a test")
        self.received = b""
        self.answering = asyncio.Event()
        self.answering.set()
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(4096):
                self.received += data
                await self.answering.wait()
                writer.write(b"answer")
        writer.close()

    async def client(self, **parameters: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(startup(**parameters))
        return reader, writer


def startup(**parameters: str) -> bytes:
    body = struct.pack("!I", 196608) + b"".join(word.encode() + b"\0" for pair in parameters.items() for word in pair)
    return struct.pack("!I", len(body) + 5) + body + b"\0"


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Fixture]:
    fixture = Fixture(tmp_path)
    server = await asyncio.start_unix_server(fixture.serve, tmp_path / "s")
    fixture.port = await fixture.door.listen("127.0.0.1", 0)
    yield fixture
    fixture.answering.set()
    fixture.door.close_sessions(replication=True)
    server.close()


async def read(reader: asyncio.StreamReader) -> bytes:
    return await asyncio.wait_for(reader.read(4096), 2)


async def nothing_comes(reader: asyncio.StreamReader) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.1)


async def test_an_open_door_relays_and_says_no_to_encryption(made: Fixture) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
    writer.write(struct.pack("!II", 8, 80877103))
    assert await read(reader) == b"N"
    packet = startup(user="app")
    for byte in packet:  # in any pieces
        writer.write(bytes([byte]))
        await writer.drain()
    assert await read(reader) == b"answer"
    assert made.received == packet
    writer.close()


async def test_an_answer_that_comes_after_the_door_was_shut_is_never_delivered(made: Fixture) -> None:
    reader, writer = await made.client(user="app")
    assert await read(reader) == b"answer"
    made.answering.clear()
    writer.write(b"COMMIT")
    await asyncio.wait_for(_until(lambda: made.received.endswith(b"COMMIT")), 2)
    made.keeper.client = "shut"  # nobody closes the session: the check before the relay must do
    made.answering.set()
    with pytest.raises(ConnectionResetError):
        await read(reader)
    writer.close()


async def test_a_held_door_keeps_requests_and_answers_until_it_opens(made: Fixture) -> None:
    reader, writer = await made.client(user="app")
    assert await read(reader) == b"answer"
    made.keeper.client = "held"
    writer.write(b"INSERT")
    await nothing_comes(reader)
    assert not made.received.endswith(b"INSERT")
    made.keeper.client = "open"
    made.door.changed()
    assert await read(reader) == b"answer"
    assert made.received.endswith(b"INSERT")
    writer.close()


async def test_what_was_held_dies_when_the_door_is_shut(made: Fixture) -> None:
    reader, writer = await made.client(user="app")
    assert await read(reader) == b"answer"
    made.keeper.client = "held"
    writer.write(b"INSERT")
    await nothing_comes(reader)
    made.keeper.client = "shut"
    made.door.changed()
    with pytest.raises(ConnectionResetError):
        await read(reader)
    assert not made.received.endswith(b"INSERT")
    writer.close()


async def test_a_shut_door_says_why_in_postgresqls_words(made: Fixture) -> None:
    made.keeper.client = "shut"
    reader, writer = await made.client(user="app")
    said = await asyncio.wait_for(reader.read(), 2)
    assert said[:1] == b"E" and b"C57P03\0" in said and b"Mfenced: for a test\0" in said
    assert made.received == b""
    writer.close()


async def test_standbys_may_stay_when_clients_are_sent_away(made: Fixture) -> None:
    standby, standby_writer = await made.client(user="replicator", replication="true")
    client, client_writer = await made.client(user="app")
    assert await read(standby) == await read(client) == b"answer"
    made.keeper.client = "shut"
    made.door.close_sessions(replication=False)
    with pytest.raises(ConnectionResetError):
        await read(client)
    standby_writer.write(b"more log, please")
    assert await read(standby) == b"answer"
    standby_writer.close()
    client_writer.close()


async def _until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.005)
