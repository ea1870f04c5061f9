"""Injectors that die or freeze: what they leave is healed by its lease, and what comes too late is not injected."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest
from fault_hosts import Lab, lab
from fault_kills import SLEEPER, Injector, Watch, is_stopped, kill_some, leader

from drkit.chaos.onhost import faults
from drkit.model.faults import Nothing

LEASE_S = 1.0


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    names = ("killed", "frozen")
    files = {f"etc/services/{name}.json": SLEEPER for name in names}
    boot = [f"svc start {name}" for name in names]
    with lab(tmp_path_factory.mktemp("kills"), {"app-1": {"files": files, "boot": boot}}) as found:
        yield found


async def killed_at_random(hosts: Lab, times: int, seed: int) -> None:
    pid = leader(hosts, "killed")
    params = {"host": "app-1", "service": "killed", "lease_s": LEASE_S}
    watch = Watch("host.process-pause", params, lambda: is_stopped(pid))
    seen = kill_some(hosts, watch, seed, times)
    assert {one.left for one in seen} <= {"", "healed"}
    assert not is_stopped(pid)
    ctx = hosts.context()
    left = await faults(ctx, Nothing())
    await ctx.providers.aclose()
    assert (left.markers, left.silent) == ((), ())
    assert any(one.marked for one in seen)


async def test_what_a_killed_injector_leaves_heals_itself(hosts: Lab) -> None:
    await killed_at_random(hosts, 5, 1)


@pytest.mark.soak
async def test_what_a_hundred_killed_injectors_leave_heals_itself(hosts: Lab) -> None:
    await killed_at_random(hosts, 100, 2)


def frozen_and_woken(hosts: Lab, times: int) -> list[str]:
    """What an injector says that was frozen between its look and its send, for longer than its lease."""
    pid, said, lease_s = leader(hosts, "frozen"), [], 0.3
    injector = Injector(hosts, frozen=True)
    try:
        for number in range(times):
            params = {"host": "app-1", "service": "frozen", "lease_s": lease_s}
            injector.prepare(f"frozen-{times}-{number}", "host.process-pause", params)
            injector.go()
            injector.wait_frozen()
            time.sleep(lease_s + 0.1)
            os.kill(injector.process.pid, signal.SIGCONT)
            said.append(injector.hear())
            assert not is_stopped(pid)
    finally:
        injector.end()
    return said


def test_a_frozen_injector_that_wakes_after_its_lease_injects_nothing(hosts: Lab) -> None:
    assert ["came too late" in said for said in frozen_and_woken(hosts, 5)] == [True] * 5


@pytest.mark.soak
def test_fifty_frozen_injectors_that_wake_after_their_lease_inject_nothing(hosts: Lab) -> None:
    assert ["came too late" in said for said in frozen_and_woken(hosts, 50)] == [True] * 50
