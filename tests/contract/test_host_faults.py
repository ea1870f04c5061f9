"""Every fault on a host, for real: seen from outside, healed by drkit, and by its lease alone.

Two hosts with namespaces of their own, joined by a cable of their own. What is broken is observed by who would notice:
another process, the other end of the cable, the kernel. The machine below them is the same before and after each test.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from fault_cases import BUSY_S, CASES, NO_ROOMS, Case, rooms
from fault_hosts import Lab, Machine, changed_s, uptime_s

from drkit.chaos.onhost import IN_KERNEL, faults
from drkit.model.faults import Nothing, fault_key
from drkit.model.observation import State

pytestmark = pytest.mark.skipif(NO_ROOMS is not None, reason=str(NO_ROOMS))

BY_KERNEL = [case for case in CASES if case.fault.lease == IN_KERNEL]
#: While a lease lasts everything has to be injected and seen: a busy machine gets a second, longer one.
LEASES_S = (7.0, 40.0)
#: How long after its lease a fault may still be there, and how long asking all hosts may take.
LATE_S, LOOK_S = 1.0, 10.0
#: All of them at once have to be reverted by one machine, which may be busy.
ALL_LATE_S = 5.0


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with rooms(tmp_path_factory.mktemp("rooms")) as found:
        yield found


@pytest.fixture(autouse=True)
async def machine_unchanged(hosts: Lab) -> AsyncIterator[None]:
    """Its rules, queues, mounts, groups and clock. What a test that failed left is healed, and the next one begins."""
    before = Machine.now(hosts)
    yield
    if any(
        state.read_text().split()[0] in ("armed", "injected")
        for state in hosts.root("app-1").glob("var/lib/drkit/faults/*/state")
    ):
        ctx = hosts.context()
        for left in (await faults(ctx, Nothing())).markers:
            (case,) = [case for case in CASES if case.fault.name == left.fault]
            assert case.fault.heal is not None
            p = case.given(1)
            await case.fault.heal(ctx, p, await case.fault.observe(ctx, p))
        await ctx.providers.aclose()
    assert Machine.now(hosts).same_as(before)


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_a_fault_is_seen_from_outside_and_gone_after_its_heal(hosts: Lab, case: Case) -> None:
    ctx, p = hosts.context(run=f"heal-{case}"), case.given(60)
    case.unseen(hosts)
    before = await case.fault.observe(ctx, p)
    assert case.fault.state(p, before) is State.ABSENT
    await case.fault(ctx, p, before)
    await seen(ctx, case, p, State.HOLDS)
    assert case.broken(hosts)
    (left,) = (await faults(ctx, Nothing())).markers
    assert (left.fault, left.where, left.state) == (case.fault.name, "host app-1", "injected")
    assert case.fault.heal is not None
    await case.fault.heal(replace(ctx, step="heal"), p, before)
    await seen(ctx, case, p, State.ABSENT)
    case.unseen(hosts)
    assert (await faults(ctx, Nothing())).markers == ()
    await ctx.providers.aclose()


async def test_all_of_them_at_once_heal_themselves_when_drkit_is_gone(hosts: Lab) -> None:
    for lease_s in LEASES_S:
        ends = await injected(hosts, CASES, f"lease-{lease_s}", lease_s)
        missed = await never_seen(hosts, CASES, ends)
        if not missed or lease_s == LEASES_S[-1]:
            break
        await forgotten(hosts, lease_s)
    assert missed == []
    await healed_by(hosts, CASES, ends)
    await forgotten(hosts, LOOK_S)
    assert max(changed_s(marker(hosts, case) / "state") for case in CASES) < ends + ALL_LATE_S


@pytest.mark.soak
async def test_the_kernel_ends_faults_when_every_process_of_their_leases_was_killed(hosts: Lab) -> None:
    for lease_s in LEASES_S:
        ends = await injected(hosts, BY_KERNEL, f"kernel-{lease_s}", lease_s)
        for case in BY_KERNEL:
            with suppress(ProcessLookupError):  # it was over too soon, and is tried again
                # Not by a program called kill: some of those take -12345 for -1, which is everybody.
                os.killpg(int((marker(hosts, case) / "lease").read_text().split()[0]), signal.SIGKILL)
        missed = await never_seen(hosts, BY_KERNEL, ends)
        if not missed or lease_s == LEASES_S[-1]:
            break
        await heal_all(hosts)
    assert missed == []
    await anyio.sleep(max(ends + LATE_S - uptime_s(), 0))
    # Its processes are dead: nothing writes down when, so that only looks tell. Who seems broken is looked at alone.
    left_over = [str(case) for case in await still(hosts, BY_KERNEL) if case.broken(hosts)]
    assert left_over == []
    ctx = hosts.context()
    left = (await faults(ctx, Nothing())).markers
    assert {(one.fault, one.state, one.expires_in_s) for one in left} == {
        (case.fault.name, "overdue", None) for case in BY_KERNEL
    }
    await heal_all(hosts)
    assert (await faults(ctx, Nothing())).markers == ()
    await ctx.providers.aclose()


async def heal_all(hosts: Lab) -> None:
    """As `drkit chaos stop --all` does, of what the kernel holds."""
    ctx = hosts.context()
    async with anyio.create_task_group() as group:
        for case in BY_KERNEL:
            assert case.fault.heal is not None
            group.start_soon(case.fault.heal, ctx, case.given(1), await case.fault.observe(ctx, case.given(1)))
    await ctx.providers.aclose()


async def forgotten(hosts: Lab, within_s: float) -> None:
    """No host remembers any fault; that one is healed is written down last."""
    ctx = hosts.context()
    with anyio.fail_after(within_s + LOOK_S):
        while (await faults(ctx, Nothing())).markers:
            await anyio.sleep(0.1)
    await ctx.providers.aclose()


async def injected(hosts: Lab, cases: list[Case], run: str, lease_s: float) -> float:
    """All of them at once; when the last lease ends, by the hosts' clock."""
    ctx = hosts.context(run=run)

    async def one(case: Case) -> None:
        p = case.given(lease_s)
        await case.fault(replace(ctx, step=str(case)), p, await case.fault.observe(ctx, p))

    # A device has one queue at its root, and this one tries whether the kernel could delay: not beside another.
    (late,) = [case for case in cases if case.module == "latency"]
    await one(late)
    async with anyio.create_task_group() as group:
        for case in cases:
            if case is not late:
                group.start_soon(one, case)
    await ctx.providers.aclose()
    return max(int((marker(hosts, case) / "until").read_text()) / 100 for case in cases)


def marker(hosts: Lab, case: Case) -> Path:
    return hosts.root("app-1") / "var/lib/drkit/faults" / fault_key(case.fault.name, case.given(1))


async def still(hosts: Lab, cases: list[Case]) -> list[Case]:
    """Which of them are seen; everybody looks at the same time."""
    found: list[Case] = []

    async def look(case: Case) -> None:
        if await anyio.to_thread.run_sync(case.broken, hosts):
            found.append(case)

    async with anyio.create_task_group() as group:
        for case in cases:
            group.start_soon(look, case)
    return sorted(found, key=cases.index)


async def never_seen(hosts: Lab, cases: list[Case], ends: float) -> list[Case]:
    """Which of them are not seen before their leases end. Memory fills while everything else computes: look again."""
    missed = cases
    while missed and uptime_s() < ends:
        there = await still(hosts, missed)
        missed = [case for case in missed if case not in there]
    return missed


async def healed_by(hosts: Lab, cases: list[Case], ends: float) -> None:
    """None is seen any more a second after its time is over."""
    await anyio.sleep(max(ends + LATE_S - uptime_s(), 0))
    # Where everybody looks at once a slow machine seems to be a slow line: who seems broken is looked at alone.
    for case in await still(hosts, cases):
        case.unseen(hosts)


async def seen(ctx: Any, case: Case, p: Any, state: State) -> None:
    """The fault's own observation comes to say so."""
    with anyio.fail_after(BUSY_S):
        while case.fault.state(p, now := await case.fault.observe(ctx, p)) is not state:
            assert now is not None
            await anyio.sleep(0.1)
