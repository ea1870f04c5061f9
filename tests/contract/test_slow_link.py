"""A link of the sandbox that is slow for a while: over the supervisor's own API, by drkit and by the lease alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from database_world import SETTINGS, databases, until_async

from drkit import testing
from drkit.context import Context
from drkit.errors import StepFailed, Unobservable
from drkit.model.environment import Environment
from drkit.model.faults import Nothing
from drkit.model.observation import State
from drkit.sandbox.control import serve_control
from drkit.sandbox.layout import SOURCE, Folders
from drkit.sandbox.links import Link
from drkit.sandbox.settings import Link as Named
from drkit.sandbox.slow_link import SlowLink, left, slow, slowness
from drkit.sandbox.supervisor import Supervisor

NAMED = Named(link="replication")


@dataclass
class Lab:
    """A supervisor with one link, and how to talk to it."""

    link: Link
    environment: Environment

    def context(self, step: str = "step") -> Context:
        """Of a run."""
        return testing.context(self.environment, step=step)


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    supervisor = Supervisor(Folders(tmp_path))
    supervisor.folders.make()
    link = supervisor.links["replication"] = Link("replication")
    link.delay_s = 0.05
    url = await serve_control(supervisor)
    environment = Environment(
        name="sandbox", kind="sandbox", account="0", sites=(), state_store="file:///nowhere", control=url
    )
    yield Lab(link, environment)


def given(lease_s: float, delay: float = 2.0) -> SlowLink:
    return SlowLink(link="replication", delay=delay, lease_s=lease_s)


async def test_a_link_is_slow_and_then_as_it_was(lab: Lab) -> None:
    ctx, p = lab.context(), given(600)
    before = await slowness(ctx, NAMED)
    assert slow.state(p, before) is State.ABSENT
    await slow(ctx, p, before)
    assert lab.link.delay_s == 2.0 and slow.state(p, await slowness(ctx, NAMED)) is State.HOLDS
    (marker,) = (await left(ctx, Nothing())).markers
    assert (marker.fault, marker.where, marker.step) == ("sandbox.slow-link", "link replication", "step")
    assert marker.expires_in_s is not None and 500 < marker.expires_in_s <= 600
    await slow(ctx, p, before)  # the same step, asked again
    with pytest.raises(StepFailed, match="replication is slow already, by step of run"):
        await slow(lab.context("another"), given(600, delay=3.0), before)
    assert slow.heal is not None
    await slow.heal(replace(ctx, step="heal"), p, before)
    assert lab.link.delay_s == 0.05 and (await left(ctx, Nothing())).markers == ()
    await slow.heal(ctx, p, before)
    assert lab.link.delay_s == 0.05
    await ctx.providers.aclose()


async def test_its_lease_ends_it_without_drkit(lab: Lab) -> None:
    ctx = lab.context()
    await slow(ctx, given(0.2), await slowness(ctx, NAMED))
    await ctx.providers.aclose()
    ends = time.monotonic() + 10
    while lab.link.delay_s != 0.05:
        assert time.monotonic() < ends
        await asyncio.sleep(0.01)


async def test_a_delay_that_somebody_set_meanwhile_stays(lab: Lab) -> None:
    ctx, p = lab.context(), given(600)
    await slow(ctx, p, await slowness(ctx, NAMED))
    lab.link.delay_s = 1.0
    assert slow.state(p, await slowness(ctx, NAMED)) is State.IN_PROGRESS
    assert slow.heal is not None
    await slow.heal(ctx, p, await slowness(ctx, NAMED))
    assert lab.link.delay_s == 1.0 and slow.state(p, await slowness(ctx, NAMED)) is State.ABSENT
    await ctx.providers.aclose()


async def test_a_link_that_is_not_there_is_named(lab: Lab) -> None:
    ctx = lab.context()
    with pytest.raises(Unobservable, match="no link called nowhere"):
        await slowness(ctx, Named(link="nowhere"))
    with pytest.raises(StepFailed, match=r"there is no link nowhere \(known: replication\)"):
        await slow(ctx, given(600).but(link="nowhere"), await slowness(ctx, NAMED))
    await ctx.providers.aclose()


@pytest.mark.soak
async def test_a_standby_behind_a_slow_link_lags_as_its_writer_says() -> None:
    """Real servers. What the writer has written is not replayed before it can have crossed the link."""
    async with databases(replace(SETTINGS, term_s=30)) as world:
        url = await serve_control(world.supervisor)
        environment = Environment(
            name="sandbox", kind="sandbox", account="0", sites=(), state_store="file:///nowhere", control=url
        )
        ctx, p = testing.context(environment), given(600, delay=1.5)

        def written() -> str:
            with world.connect(SOURCE) as sql:
                sql.execute("insert into canary (n, site) select coalesce(max(n), 0) + 1, 'here' from canary")
                row = sql.execute("select pg_current_wal_lsn()").fetchone()
            assert row is not None
            return str(row[0])

        async def took_s() -> float:
            lsn, began = await asyncio.to_thread(written), time.monotonic()

            async def replayed() -> Any:
                def ask(connection: psycopg.Connection[Any]) -> Any:
                    row = connection.execute(
                        "select bool_or(replay_lsn >= %s::pg_lsn) from pg_stat_replication", [lsn]
                    ).fetchone()
                    return row is not None and row[0]

                with world.connect(SOURCE) as sql:
                    return await asyncio.to_thread(ask, sql)

            await until_async(replayed, bool, within_s=30)
            return time.monotonic() - began

        await slow(ctx, p, await slowness(ctx, NAMED))
        late_s = await took_s()
        assert slow.heal is not None
        await slow.heal(ctx, p, await slowness(ctx, NAMED))
        await ctx.providers.aclose()
        assert late_s >= 1.5
        await took_s()  # what was under way when it was healed has arrived
        assert await took_s() < late_s
