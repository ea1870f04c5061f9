"""The fence, the loss and the way back, on two real PostgreSQL servers behind their agents, links and witness."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from database_world import SETTINGS, Databases, Writer, databases, until_async

from drkit.sandbox.layout import SOURCE, TARGET
from drkit.sandbox.parts._aio import fetch
from drkit.sandbox.processes import wait_gone


@pytest.fixture
async def build() -> AsyncIterator[Callable[..., Any]]:
    """Makes a world; it is gone with the test."""
    async with AsyncExitStack() as worlds:
        yield lambda *settings: worlds.enter_async_context(databases(*settings))


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
    # Killed at once; how soon the kernel has cleared a process away is its own affair on a busy machine.
    assert wait_gone(killed, within_s=5) == []
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
