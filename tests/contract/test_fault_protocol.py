"""The protocol of faults on hosts, tried on the smallest fault: lease first, inject, heal, by drkit and without it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from fault_hosts import Lab, lab

from drkit.chaos.faults._service import Service
from drkit.chaos.faults.process_pause import Pause, pause, processes
from drkit.chaos.onhost import faults
from drkit.errors import Refused, StepFailed
from drkit.model.faults import Nothing, fault_key
from drkit.model.observation import State

SLEEPER = '{"argv": ["sh", "-c", "while :; do sleep 0.05; done"]}'


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    files = {f"etc/services/s{n}.json": SLEEPER for n in range(12)}
    boot = [f"svc start s{n}" for n in range(12)]
    with lab(tmp_path_factory.mktemp("lab"), {"app-1": {"files": files, "boot": boot}}) as found:
        yield found


def stopped(hosts: Lab, service: str) -> bool:
    """Whether the kernel says that the service's leader is stopped."""
    pid = hosts.inside("app-1", "bin/svc", "status", service).split('"pid": ')[1].split(",")[0]
    return "State:\tT" in Path(f"/proc/{pid}/status").read_text()


async def until(what: Callable[[], bool], within_s: float) -> float:
    """Seconds until `what()` is true; fails after `within_s`."""
    started = time.monotonic()
    while not what():
        assert time.monotonic() - started < within_s, "not within the time"
        await anyio.sleep(0.01)
    return time.monotonic() - started


async def test_a_fault_is_seen_from_outside_and_gone_after_its_heal(hosts: Lab) -> None:
    ctx, p = hosts.context("inject"), Pause(host="app-1", service="s0", lease_s=60)
    told: list[object] = []
    ctx = replace(ctx, tell=told.append)
    before = await processes(ctx, Service(host="app-1", service="s0"))
    await pause(ctx, p, before)
    assert stopped(hosts, "s0")
    assert pause.state(p, await processes(ctx, Service(host="app-1", service="s0"))) is State.HOLDS
    (left,) = (await faults(ctx, Nothing())).markers
    assert (left.fault, left.step, left.state) == ("host.process-pause", "inject", "injected")
    assert left.expires_in_s is not None and 30 < left.expires_in_s <= 60
    assert pause.heal is not None
    await pause.heal(replace(ctx, step="heal"), p, before)
    assert not stopped(hosts, "s0")
    assert (await faults(ctx, Nothing())).markers == ()
    assert [(f.id, f.state) for f in told] == [("inject", "armed"), ("inject", "injected"), ("inject", "healed")]  # type: ignore[attr-defined]
    await ctx.providers.aclose()


async def test_a_fault_heals_itself_when_its_lease_is_over(hosts: Lab) -> None:
    ctx, p = hosts.context(), Pause(host="app-1", service="s1", lease_s=3)
    await pause(ctx, p, await processes(ctx, Service(host="app-1", service="s1")))
    assert stopped(hosts, "s1")
    await until(lambda: not stopped(hosts, "s1"), 10)
    state = hosts.root("app-1") / "var/lib/drkit/faults" / fault_key(pause.name, p) / "state"
    await until(lambda: state.read_text().startswith("healed lease"), 5)  # written down last
    assert not [m for m in (await faults(ctx, Nothing())).markers if m.params["service"] == "s1"]
    await ctx.providers.aclose()


async def test_the_same_step_adopts_its_fault_and_another_run_is_refused(hosts: Lab) -> None:
    ctx, p = hosts.context(run="one"), Pause(host="app-1", service="s2", lease_s=30)
    before = await processes(ctx, Service(host="app-1", service="s2"))
    await pause(ctx, p, before)
    await pause(ctx, p, before)
    with pytest.raises(Refused, match="injected already, by drkit-one-step"):
        await pause(hosts.context(run="two"), p, before)
    assert pause.heal is not None
    await pause.heal(ctx, p, before)
    with pytest.raises(Refused, match="lease is over"):  # a step whose fault was healed does not break it again
        await pause(ctx, p, before)
    assert not stopped(hosts, "s2")
    await ctx.providers.aclose()


async def test_an_inject_that_fails_is_reverted_and_leaves_nothing(hosts: Lab) -> None:
    ctx, p = hosts.context(), Pause(host="app-1", service="absent", lease_s=30)
    with pytest.raises(Refused, match="absent does not run"):
        await pause(ctx, p, await processes(ctx, Service(host="app-1", service="absent")))
    assert not [m for m in (await faults(ctx, Nothing())).markers if m.params["service"] == "absent"]
    await ctx.providers.aclose()


async def test_an_older_fencing_token_injects_nothing(hosts: Lab) -> None:
    newer = replace(hosts.context(run="newer"), fencing_token=5)
    p = Pause(host="app-1", service="s3", lease_s=30)
    before = await processes(newer, Service(host="app-1", service="s3"))
    await pause(newer, p, before)
    assert pause.heal is not None
    await pause.heal(newer, p, before)
    with pytest.raises(Refused, match="older than 5"):
        await pause(replace(hosts.context(run="older"), fencing_token=4), p, before)
    (hosts.root("app-1") / "var/lib/drkit/fence").unlink()
    assert not stopped(hosts, "s3")


class Ending:
    """A lease that is over before anything that is sent arrives."""

    def remaining_s(self) -> float:
        return 0.001


async def test_what_comes_after_our_own_lease_injects_nothing(hosts: Lab) -> None:
    ctx = hosts.context()
    late = replace(ctx, lease=Ending())
    p = Pause(host="app-1", service="s4", lease_s=30)
    with pytest.raises(Refused, match="came too late"):
        await pause(late, p, await processes(ctx, Service(host="app-1", service="s4")))
    assert not stopped(hosts, "s4")


async def test_a_revert_that_fails_says_what_is_left_and_the_lease_tries_again(hosts: Lab) -> None:
    ctx, p = hosts.context(), Pause(host="app-1", service="s5", lease_s=2)
    before = await processes(ctx, Service(host="app-1", service="s5"))
    await pause(ctx, p, before)
    revert = hosts.root("app-1") / "var/lib/drkit/faults" / fault_key(pause.name, p) / "revert"
    good = revert.read_text()
    revert.write_text("echo no such luck; exit 3")
    assert pause.heal is not None
    with pytest.raises(StepFailed, match="no such luck") as failed:
        await pause.heal(ctx, p, before)
    assert failed.value.world == "changed"
    assert stopped(hosts, "s5")
    revert.write_text(good)
    await until(lambda: not stopped(hosts, "s5"), 15)
