"""The fence, the loss and the way back, on two real PostgreSQL servers behind their agents, links and witness.

Only the steps that these claims need are built (about three seconds a world); terms are shorter than the sandbox's.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from drkit.sandbox import schema
from drkit.sandbox.assembly import build as build_steps
from drkit.sandbox.control import Control
from drkit.sandbox.layout import SOURCE, TARGET, Folders, Settings
from drkit.sandbox.links import Endpoint
from drkit.sandbox.parts._aio import fetch
from drkit.sandbox.supervisor import Supervisor
from drkit.sandbox.worksite import Worksite

SETTINGS = Settings(link_delay_s=0.05, term_s=1.5, margin_s=0.5)


@dataclass
class Databases:
    """Two databases, and how to talk to them."""

    supervisor: Supervisor
    site: Worksite
    control: Control

    def door(self, region: str) -> Endpoint:
        """From inside the region: no link is crossed."""
        return self.site.endpoint(f"agent-{region}")

    def connect(self, region: str, timeout_s: float = 3) -> psycopg.Connection[tuple[Any, ...]]:
        door = self.door(region)
        password = self.supervisor.folders.secret("drkit_admin").read_text().strip()
        return psycopg.connect(
            host=door.host, port=door.port, dbname=schema.DATABASE, user="drkit_admin", password=password,
            autocommit=True, connect_timeout=round(timeout_s),
        )  # fmt: skip

    async def agent(self, region: str, path: str = "/status", body: Any = None) -> dict[str, Any]:
        ready = self.supervisor.parts[f"agent-{region}"].ready
        method = "GET" if body is None else "POST"
        url = f"http://{ready['host']}:{ready['admin_port']}{path}"
        found: dict[str, Any] = (await fetch(method, url, body, timeout_s=20)).json()
        return found

    async def lease(self) -> dict[str, Any]:
        found: dict[str, Any] = (await fetch("GET", f"{self.site.endpoint('witness').url}/lease", timeout_s=3)).json()
        return found

    async def expired(self) -> None:
        await until_async(lambda: self.lease(), lambda lease: lease["expired"], within_s=10)


async def until_async(ask: Callable[[], Any], holds: Callable[[Any], bool], within_s: float) -> Any:
    deadline = time.monotonic() + within_s
    while True:
        found = await ask()
        if holds(found):
            return found
        assert time.monotonic() < deadline, f"still {found}"
        await asyncio.sleep(0.03)


@pytest.fixture
def folder() -> Iterator[Path]:
    """As root the servers run as nobody, who may not enter pytest's own folders."""
    made = Path(tempfile.mkdtemp(prefix="drkit-test-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


@pytest.fixture
async def build(folder: Path) -> AsyncIterator[Callable[..., Any]]:
    supervisor = Supervisor(Folders(folder))
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGCHLD, supervisor.reap)

    async def make(settings: Settings = SETTINGS) -> Databases:
        supervisor.folders.make()
        sockets = {region: str(supervisor.folders.sockets(region)) for region in (SOURCE, TARGET)}
        site = Worksite(supervisor, replace(settings, sockets=sockets), control="")
        await build_steps(site, ["standby"])
        return Databases(supervisor, site, Control(supervisor))

    try:
        yield make
    finally:
        await asyncio.to_thread(supervisor.shut_down)
        loop.remove_signal_handler(signal.SIGCHLD)


@dataclass
class Writer:
    """Inserts canary rows one after the other and keeps when each was acknowledged (CLOCK_BOOTTIME)."""

    connect: Callable[[], psycopg.Connection[tuple[Any, ...]]]
    first: int
    site: str
    acknowledged: list[tuple[int, float]] = field(default_factory=list)
    refused: str | None = None

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        n = self.first
        try:
            connection = self.connect()
            while not self._stop.is_set():
                connection.execute("INSERT INTO canary (n, site) VALUES (%s, %s)", (n, self.site))
                self.acknowledged.append((n, time.clock_gettime(time.CLOCK_BOOTTIME)))
                n += 1
        except psycopg.Error as error:
            self.refused = str(error)

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    async def stop(self) -> None:
        self._stop.set()
        await asyncio.to_thread(self._thread.join, 5)

    async def has(self, count: int) -> None:
        deadline = time.monotonic() + 10
        while len(self.acknowledged) < count:
            assert time.monotonic() < deadline, self.refused
            await asyncio.sleep(0.01)


async def test_a_cut_off_writer_stops_itself_before_another_one_writes(build: Callable[..., Any]) -> None:
    world: Databases = await build()
    old = Writer(lambda: world.connect(SOURCE), 1, SOURCE)  # inside the region that gets cut off: it is not stopped
    await old.has(20)
    cut_at = time.clock_gettime(time.CLOCK_BOOTTIME)
    for link in world.supervisor.links_of(SOURCE):
        link.cut()
    await world.expired()
    with world.connect(TARGET) as promoter:
        assert await asyncio.to_thread(lambda: promoter.execute("SELECT pg_promote(true, 60)").fetchone()) == (True,)
    new = Writer(lambda: world.connect(TARGET), 1_000_000, TARGET)
    await new.has(20)
    await new.stop()

    assert old.ended, "nobody stopped it but itself"
    last_old, first_new = old.acknowledged[-1][1], new.acknowledged[0][1]
    assert cut_at < last_old <= cut_at + SETTINGS.term_s, "it went on writing, and stopped within its term"
    assert last_old < first_new, "no write is acknowledged on both sides"
    status = await world.agent(SOURCE)
    assert (status["role"], status["postgres_pid"]) == ("stopped", None)
    assert status["fenced"]["reason"] == "the lease ran out"
    with pytest.raises(psycopg.OperationalError, match="fenced"):
        world.connect(SOURCE)


async def test_a_promotion_without_a_fence_never_acknowledges_a_write(build: Callable[..., Any]) -> None:
    world: Databases = await build()
    old = Writer(lambda: world.connect(SOURCE), 1, SOURCE)
    await old.has(5)
    promoter = world.connect(TARGET)  # nobody fenced the source, which goes on renewing
    with pytest.raises(psycopg.OperationalError):
        await asyncio.to_thread(lambda: promoter.execute("SELECT pg_promote(true, 60)").fetchone())
    status = await until_async(lambda: world.agent(TARGET), lambda s: s["role"] == "stopped", within_s=10)
    assert status["fenced"]["reason"] == "no writer's lease: held"
    before = len(old.acknowledged)
    await old.has(before + 5)
    await old.stop()
    assert old.refused is None


async def test_a_frozen_agent_acknowledges_nothing_when_it_wakes_up_late(build: Callable[..., Any]) -> None:
    world: Databases = await build()
    old = Writer(lambda: world.connect(SOURCE), 1, SOURCE)
    await old.has(20)
    part = world.supervisor.parts[f"agent-{SOURCE}"]
    part.process.send(signal.SIGSTOP)
    frozen_at = time.clock_gettime(time.CLOCK_BOOTTIME)
    known = len(old.acknowledged)
    deadline = time.monotonic() + SETTINGS.term_s + 1
    while part.running:  # SIGKILL by the kernel's timer, which a stopped process cannot put off
        assert time.monotonic() < deadline, "it outlived its lease"
        await asyncio.sleep(0.02)
    part.process.send(signal.SIGCONT)
    await asyncio.sleep(0.1)
    late = [at for _, at in old.acknowledged[known + 1 :]]
    assert not late, f"acknowledged {late[0] - frozen_at:.3f} s after the freeze"
    assert old.ended
    left = world.supervisor.folders.data(SOURCE)
    assert not _answers(world, SOURCE), f"the server in {left} still runs"


def _answers(world: Databases, region: str) -> bool:
    try:
        world.connect(region).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.mark.parametrize("mode", ["async", "sync"])
async def test_what_an_outage_loses(build: Callable[..., Any], mode: str) -> None:
    world: Databases = await build(replace(SETTINGS, replication=mode))  # type: ignore[arg-type]
    writers = [Writer(lambda: world.connect(SOURCE), k * 1_000_000, SOURCE) for k in range(4)]
    await asyncio.sleep(0.6)
    world.supervisor.black_out(SOURCE)
    assert all(writer.acknowledged for writer in writers)
    for writer in writers:
        await writer.stop()
    await world.expired()
    with world.connect(TARGET) as survivor:
        await asyncio.to_thread(lambda: survivor.execute("SELECT pg_promote(true, 60)"))
        present = {n for (n,) in survivor.execute("SELECT n FROM canary")}
        survivor.execute("INSERT INTO canary (n, site) VALUES (-1, 'first write')")  # not held up by a dead standby
    acknowledged = {n for writer in writers for n, _ in writer.acknowledged}
    lost = acknowledged - present
    if mode == "async":
        assert lost, "50 ms of acknowledged writes were under way"
        assert len(lost) < len(acknowledged)
    else:
        assert not lost


async def test_a_former_writer_comes_back_fenced_and_rejoins_as_a_standby(build: Callable[..., Any]) -> None:
    world: Databases = await build()
    killed = world.supervisor.black_out(SOURCE)
    assert len(killed) >= 2, "the agent and the server at least"
    assert not any(process.alive for process in killed)
    await world.expired()
    with world.connect(TARGET) as survivor:
        await asyncio.to_thread(lambda: survivor.execute("SELECT pg_promote(true, 60)"))
        survivor.execute("INSERT INTO canary (n, site) VALUES (1, 'target')")
    await world.control.restore(SOURCE)
    assert (await world.agent(SOURCE))["fenced"]["reason"] == f"{SOURCE} came back after an outage"

    refused = await world.agent(SOURCE, "/rejoin", {"as": "writer"})
    status = await until_async(lambda: world.agent(SOURCE), lambda s: s["role"] == "stopped", within_s=5)
    assert status["fenced"]["reason"] == "no writer's lease: superseded", refused

    back = world.site.routes["replication-back"]
    rejoined = await world.agent(
        SOURCE, "/rejoin", {"as": "standby", "upstream": {"host": back.host, "port": back.port}}
    )
    assert rejoined["role"] == "standby", rejoined

    async def rows() -> int:
        with world.connect(SOURCE) as standby:
            row = standby.execute("SELECT count(*) FROM canary WHERE site = 'target'").fetchone()
        assert row is not None
        return int(row[0])

    await until_async(rows, lambda count: count == 1, within_s=5)


async def test_a_graceful_fence_loses_nothing_and_frees_the_lease_at_once(build: Callable[..., Any]) -> None:
    world: Databases = await build()
    old = Writer(lambda: world.connect(SOURCE), 1, SOURCE)
    await old.has(50)
    started = time.monotonic()
    status = await world.agent(SOURCE, "/fence", {"mode": "graceful", "reason": "switchover"})
    assert status["role"] == "stopped"
    assert (await world.lease())["released"]
    with world.connect(TARGET) as promoter:
        await asyncio.to_thread(lambda: promoter.execute("SELECT pg_promote(true, 60)"))
        present = {n for (n,) in promoter.execute("SELECT n FROM canary")}
    assert time.monotonic() - started < SETTINGS.term_s + SETTINGS.margin_s + 3
    await old.stop()
    assert {n for n, _ in old.acknowledged} <= present


async def test_the_witness_that_revokes_makes_the_writer_stop(build: Callable[..., Any]) -> None:
    world: Databases = await build()
    await fetch("POST", f"{world.site.endpoint('witness').url}/revoke", {"reason": "failover"}, timeout_s=3)
    status = await until_async(
        lambda: world.agent(SOURCE), lambda s: s["role"] == "stopped", within_s=SETTINGS.term_s + 2
    )
    assert "revoked" in status["fenced"]["reason"]
    assert json.loads(world.supervisor.folders.state(f"agent-{SOURCE}.json").read_text())["fenced"]
