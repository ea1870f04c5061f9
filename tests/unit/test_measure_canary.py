"""The canary against two real PostgreSQL servers: acknowledged, unanswered, refused, and numbers used once."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from drkit.measure import readings
from drkit.measure.canary import Canary, CanaryConfig, CanaryServer, first_number
from drkit.measure.readings import ReadingsWriter
from drkit.model.environment import Address
from drkit.sandbox import postgres

PASSWORD = "correct horse"


class Side:
    """One server on its Unix socket (psycopg takes its folder for a host)."""

    def __init__(self, folder: Path, template: postgres.Server) -> None:
        self.server = postgres.Server(folder.name, template.binaries, folder / "data", folder / "run")
        postgres.make_folders(self.server)
        shutil.rmtree(self.server.data)
        shutil.copytree(template.data, self.server.data, symlinks=True)
        for path in [self.server.data, *self.server.data.rglob("*")]:
            postgres.give_to_owner(path)
        self.server.data.chmod(0o700)
        self.log = folder / "log"
        postgres.configure(self.server, {"fsync": "off"})
        self.process: subprocess.Popen[bytes] | None = None
        self.address = Address(host=str(self.server.sockets), port=postgres.SOCKET_PORT)

    def start(self) -> None:
        self.process = postgres.start(self.server, self.log)

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            postgres.remove_leftover_memory(self.server.data)
            self.process = None

    def ask(self, text: str) -> list[tuple[Any, ...]]:
        where = {"host": self.address.host, "port": self.address.port, "user": "postgres", "password": PASSWORD}
        with psycopg.connect(**where, dbname="postgres", autocommit=True) as connection:  # type: ignore[arg-type]
            cursor = connection.execute(text.encode())
            return cursor.fetchall() if cursor.description else []

    def up(self) -> bool:
        try:
            return bool(self.ask("SELECT 1"))
        except psycopg.OperationalError:
            return False

    def accept_writes(self, yes: bool) -> None:
        self.ask(f"ALTER SYSTEM SET default_transaction_read_only = {'off' if yes else 'on'}")
        self.ask("SELECT pg_reload_conf()")

    def numbers(self) -> set[int]:
        return {row[0] for row in self.ask("SELECT n FROM canary")}


async def until(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.02)


@pytest.fixture(scope="module")
def template() -> Iterator[postgres.Server]:
    # Not pytest's own folder: each session that starts closes that to the user the servers run as.
    folder = Path(tempfile.mkdtemp(prefix="drkit-test-"))
    folder.chmod(0o711)
    try:
        server = postgres.Server("template", postgres.find_binaries(folder), folder / "data", folder / "run")
        postgres.initialise(server, PASSWORD, {"fsync": "off"})
        yield server
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def servers(template: postgres.Server) -> Iterator[tuple[Side, Side]]:
    folder = template.data.parent
    pair = Side(folder / "east", template), Side(folder / "west", template)
    yield pair
    for side in pair:
        side.kill()


@pytest.fixture
async def sides(servers: tuple[Side, Side]) -> tuple[Side, Side]:
    """East takes writes, west does not, and both are empty."""
    for side in servers:
        if side.process is None:
            side.start()
            await until(side.up, 30)
        side.accept_writes(True)
        await until(lambda side=side: side.ask("SHOW default_transaction_read_only") == [("off",)])  # type: ignore[misc]
        side.ask("DROP TABLE IF EXISTS canary")
        side.ask("CREATE TABLE canary (n bigint PRIMARY KEY, site text NOT NULL, written_at timestamptz NOT NULL)")
    servers[1].accept_writes(False)
    return servers


class Kept:
    """The ledger as it grows."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def of(self, outcome: str, site: str | None = None) -> list[int]:
        found = [r for r in readings.read(self.path).records if r.get("outcome") == outcome]
        return [record["n"] for record in found if site is None or record["site"] == site]

    def numbers(self) -> list[int]:
        return [record["n"] for record in readings.read(self.path).records if record["what"] == "write"]


@contextmanager
def stopped_backend(side: Side) -> Iterator[None]:
    """The server process that serves the canary hangs, connection and all."""
    backend = side.ask("SELECT pid FROM pg_stat_activity WHERE application_name = 'drkit-canary'")[0][0]
    os.kill(backend, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(backend, signal.SIGCONT)


@asynccontextmanager
async def writing(
    folder: Path, sides: tuple[Side, Side], answer_within_s: float = 0.3
) -> AsyncIterator[tuple[Kept, asyncio.Task[None]]]:
    secret = folder / "password"
    secret.write_text(PASSWORD + "\n")
    config = CanaryConfig(
        servers=tuple(CanaryServer(site=s.server.name, address=s.address) for s in sides),
        dbname="postgres", user="postgres", password_file=secret, rate_per_s=100, answer_within_s=answer_within_s,
    )  # fmt: skip
    first = first_number(folder)
    path = folder / f"canary-{first}.jsonl"
    with ReadingsWriter(path, id=str(first), kind="canary") as ledger:
        stop = asyncio.Event()
        task = asyncio.create_task(Canary(config, ledger, first).run(stop))
        try:
            yield Kept(path), task
        finally:
            stop.set()
            await asyncio.wait({task}, timeout=10)
            assert task.cancelled() or task.result() is None


async def test_what_is_acknowledged_is_there_and_the_writer_is_followed_when_it_moves(
    sides: tuple[Side, Side], tmp_path: Path
) -> None:
    east, west = sides
    async with writing(tmp_path, sides) as (kept, _task):
        await until(lambda: len(kept.of("acknowledged")) >= 20)
        there = await asyncio.to_thread(east.numbers)
        assert set(kept.of("acknowledged")[:20]) <= there
        await asyncio.to_thread(east.kill)
        await until(lambda: any(r["what"] == "no-writer" for r in readings.read(kept.path).records))
        await asyncio.to_thread(west.accept_writes, True)
        await until(lambda: len(kept.of("acknowledged", "west")) >= 10)
    assert kept.numbers() == sorted(set(kept.numbers()))  # counted on, and none used twice
    assert set(kept.of("acknowledged", "west")) <= await asyncio.to_thread(west.numbers)
    assert PASSWORD not in kept.path.read_text()


async def test_a_write_without_an_answer_is_a_third_outcome_and_its_number_is_spent(
    sides: tuple[Side, Side], tmp_path: Path
) -> None:
    async with writing(tmp_path, sides) as (kept, _task):
        await until(lambda: len(kept.of("acknowledged")) >= 5)
        with stopped_backend(sides[0]):
            await until(lambda: len(kept.of("unanswered")) == 1)
            spent = kept.of("unanswered")[0]
            await until(lambda: max(kept.of("acknowledged")) > spent + 5)
    assert spent not in kept.of("acknowledged")
    assert kept.numbers() == sorted(set(kept.numbers()))


async def test_a_server_that_became_read_only_refuses_and_nothing_is_taken_for_acknowledged(
    sides: tuple[Side, Side], tmp_path: Path
) -> None:
    east, _ = sides
    async with writing(tmp_path, sides) as (kept, _task):
        await until(lambda: len(kept.of("acknowledged")) >= 5)
        await asyncio.to_thread(east.accept_writes, False)
        await until(lambda: len(kept.of("refused")) == 1)
        assert "read-only" in next(r["reason"] for r in readings.read(kept.path).records if r.get("reason"))
    assert set(kept.of("acknowledged")) == await asyncio.to_thread(east.numbers)


async def test_a_restarted_canary_never_reuses_a_number_even_if_the_database_forgot_it(
    sides: tuple[Side, Side], tmp_path: Path
) -> None:
    async with writing(tmp_path, sides) as (before, _task):
        await until(lambda: len(before.of("acknowledged")) >= 5)
    await asyncio.to_thread(sides[0].ask, "DELETE FROM canary")
    async with writing(tmp_path, sides) as (after, _task):
        await until(lambda: len(after.of("acknowledged")) >= 5)
    assert min(after.numbers()) > max(before.numbers())


async def test_stopping_while_a_write_hangs_leaves_it_unanswered(sides: tuple[Side, Side], tmp_path: Path) -> None:
    async with writing(tmp_path, sides, answer_within_s=60) as (kept, task):
        await until(lambda: len(kept.of("acknowledged")) >= 5)
        with stopped_backend(sides[0]):
            last = max(kept.numbers())
            await asyncio.sleep(0.1)
            task.cancel()
            await asyncio.wait({task}, timeout=5)
            assert task.cancelled()
        # A number is in the ledger when its outcome is: one may have been answered and not yet read when it hung.
        (unanswered,) = kept.of("unanswered")
        assert unanswered == max(kept.numbers()) and last < unanswered <= last + 2
