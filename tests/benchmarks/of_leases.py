"""How late faults on a host are healed when whoever injected them was killed, by kind of lease."""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from table import ROOT, Row

sys.path.append(str(ROOT / "tests/contract"))

ROUNDS = 20
LEASE_S = 1.0


def rows() -> list[Row]:
    """The median and the worst of some rounds, from the end of the lease until the fault is not seen any more."""
    from fault_hosts import why_no_rooms

    no_rooms = why_no_rooms("nft")
    return [
        _told("a process of the host's own", _by_process()),
        _told("the host's kernel alone", [] if no_rooms else _by_kernel(), no_rooms),
        _told("a unit of systemd", [], "no systemd is tried here"),
    ]


def _told(kind: str, late_s: Sequence[float], why: str | None = None) -> Row:
    name = f"lease lateness: {kind}"
    if not late_s:
        return (name, None, why or "no injector lived long enough to inject")
    worst = f"median of {len(late_s)} faults whose injector was killed; worst {max(late_s):.3f} s"
    return (name, statistics.median(late_s), worst)


def _by_process() -> list[float]:
    from fault_hosts import lab
    from fault_kills import SLEEPER, Watch, is_stopped, kill_some, leader

    config = {"files": {"etc/services/paused.json": SLEEPER}, "boot": ["svc start paused"]}
    with tempfile.TemporaryDirectory(prefix="dr-bench-") as folder, lab(Path(folder), {"app-1": config}) as hosts:
        pid = leader(hosts, "paused")
        params = {"host": "app-1", "service": "paused", "lease_s": LEASE_S}
        watch = Watch("host.process-pause", params, lambda: is_stopped(pid))
        return [one.late_s for one in kill_some(hosts, watch, 3, ROUNDS) if one.late_s is not None]


def _by_kernel() -> list[float]:
    from fault_hosts import lab
    from fault_kills import ECHO, Echoes, Watch, heal, kill_some

    configs: dict[str, dict[str, Any]] = {
        "app-1": {"isolation": "netns"},
        "app-2": {"isolation": "netns", "files": {"etc/services/echo.json": ECHO}, "boot": ["svc start echo"]},
    }
    late_s = []
    with tempfile.TemporaryDirectory(prefix="dr-bench-") as folder, lab(Path(folder), configs) as hosts:
        hosts.wire("app-1", "app-2")
        echoes = Echoes(hosts)
        watch = Watch("host.partition", {"host": "app-1", "peers": ["10.77.0.2"], "lease_s": LEASE_S}, echoes.silent)
        for round in range(ROUNDS):
            (one,) = kill_some(hosts, watch, 100 + round, 1, lease_too=True)
            if one.late_s is not None:
                late_s.append(one.late_s)
            heal(hosts, watch)
        echoes.end()
    return late_s
