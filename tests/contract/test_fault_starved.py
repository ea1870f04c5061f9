"""A host all of whose processors compute: its leases go first, and what they start again does not."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from fault_hosts import Lab, changed_s, lab
from fault_kills import SLEEPER, leader
from test_fault_races import inject_args, said

from drkit.chaos import onhost
from drkit.chaos.faults._service import Service
from drkit.chaos.faults.process_kill import Kill, kill
from drkit.chaos.faults.process_pause import processes
from drkit.model.faults import fault_key

LEASE_S = 1.5
#: So many processes want the one processor that all of this is confined to.
BUSY = 24
ROUNDS = 3
ENDS_WITHIN_S = 60.0


def may_go_first() -> bool:
    """Whether this machine lets a process of ours go before all others."""
    try:
        return subprocess.run(["chrt", "-R", "-f", "1", "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


pytestmark = pytest.mark.skipif(not may_go_first(), reason="no process may go first here: needs root and chrt")


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """On one processor; so is all that a test starts."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        names = ("first", "ordinary", "killed")
        files = {f"etc/services/{name}.json": SLEEPER for name in names}
        config = {"files": files, "boot": [f"svc start {name}" for name in names]}
        with lab(tmp_path_factory.mktemp("starved"), {"app-1": config}) as found:
            stubs = found.root("app-1") / "stubs"
            stubs.mkdir()
            (stubs / "chrt").write_text("#!/bin/sh\nexit 1\n")
            (stubs / "chrt").chmod(0o755)
            yield found
    finally:
        os.sched_setaffinity(0, allowed)


@contextmanager
def starved() -> Iterator[None]:
    """Others compute all the while, each as much as it is let."""
    with ExitStack() as stack:
        for _ in range(BUSY):
            process = subprocess.Popen(["sh", "-c", "while :; do :; done"])
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield


def policy(pid: int) -> int:
    """How the kernel schedules a process."""
    return os.sched_getscheduler(pid) & ~os.SCHED_RESET_ON_FORK


def armed(hosts: Lab, service: str, owner: str, *, ordinary: bool) -> Path:
    """Pause a service under a lease that is let go first or is not; the fault's folder."""
    root, args = hosts.root("app-1"), inject_args(hosts, service, owner, LEASE_S)
    args[6] = str(int(args[6]) + 100 * round(ENDS_WITHIN_S))  # however long it takes to arm it
    path = f"{root}/stubs:" if ordinary else ""
    env = {"DRKIT_HOST_ROOT": str(root), "PATH": f"{path}{root}/bin:/usr/bin:/bin"}
    done = subprocess.Popen(
        ["sh", "-c", onhost.script_text(), "drkit-fault", *args], env=env, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert said(done).startswith("injected")
    folder = root / "var/lib/drkit/faults" / args[1]
    lease = int((folder / "lease").read_text().split()[0])
    assert policy(lease) == (os.SCHED_OTHER if ordinary else os.SCHED_FIFO)
    return folder


def late_s(folder: Path) -> float:
    """How long after its lease a fault was healed by it, as its host wrote it down."""
    deadline = time.monotonic() + ENDS_WITHIN_S
    while not (folder / "state").read_text().startswith("healed lease"):
        assert time.monotonic() < deadline, (folder / "log").read_text()
        time.sleep(0.05)
    return changed_s(folder / "state") - int((folder / "until").read_text()) / 100


def test_a_lease_is_served_before_an_ordinary_one_where_everybody_computes(hosts: Lab) -> None:
    told: list[tuple[float, float]] = []
    for round in range(ROUNDS):
        ordinary = armed(hosts, "ordinary", f"ordinary-{round}", ordinary=True)
        first = armed(hosts, "first", f"first-{round}", ordinary=False)
        with starved():
            told.append((late_s(first), late_s(ordinary)))
    print(told)
    assert all(first < ordinary for first, ordinary in told), told


async def test_a_service_that_a_lease_starts_again_does_not_go_first(hosts: Lab) -> None:
    ctx, p = hosts.context(), Kill(host="app-1", service="killed", lease_s=LEASE_S)
    before = leader(hosts, "killed")
    await kill(ctx, p, await processes(ctx, Service(host="app-1", service="killed")))
    folder = hosts.root("app-1") / "var/lib/drkit/faults" / fault_key(kill.name, p)
    assert policy(int((folder / "lease").read_text().split()[0])) == os.SCHED_FIFO
    late_s(folder)
    now = leader(hosts, "killed")
    assert now != before and json.loads(hosts.inside("app-1", "bin/svc", "status", "killed"))["pid"] == now
    assert (policy(now), os.getpriority(os.PRIO_PROCESS, now)) == (os.SCHED_OTHER, 0)
    await ctx.providers.aclose()
