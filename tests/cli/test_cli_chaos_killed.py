"""`drkit chaos run` killed with SIGKILL, command and runner, at random moments of what it does to real hosts.

Whatever it broke heals itself when its lease is over, and `chaos leftovers` finds nothing.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from chaos_kills import DRILL, FOREGROUND, PHASES, SCHEDULED, WATCHED, Kill, Place, Way, killed
from fault_cases import CASES, NO_ROOMS, Case, rooms, simple
from fault_hosts import Lab as Hosts
from fault_hosts import Machine

SEED = int(os.environ.get("KILLS_SEED", "47"))
KILLS = int(os.environ.get("KILLS", "100"))
AT_ONCE = 4
#: A device has one queue at its root: these two are not injected beside each other.
QUEUES = {"bandwidth", "latency"}
#: What needs no namespaces.
ANYWHERE = [case for case in CASES if case.module in ("process_kill", "process_pause", "service_stop", "cpu_load")]


def drawn(chance: random.Random, among: Sequence[Case], many: int) -> list[Case]:
    """So many different faults."""
    while True:
        found = chance.sample(among, many)
        if not {case.module for case in found} >= QUEUES:
            return found


def killed_together(
    hosts: Hosts, folder: Path, ways: Sequence[Way], faults: Sequence[Case], first: int, *,
    lease_s: tuple[float, float], late_max_s: float,
) -> list[Kill]:  # fmt: skip
    """Runs with as many of these faults each, killed beside each other in a phase of its own each; nothing is left."""
    each = len(faults) // len(ways)

    def one(at: int) -> Kill:
        chance, cases = random.Random(f"{SEED}-{first + at}"), faults[at * each : (at + 1) * each]
        place = Place.made(folder / str(first + at), hosts)
        place.breaks(ways[at], cases, round(chance.uniform(*lease_s), 2))
        phase = ways[at].phases[(first + at) % len(ways[at].phases)]
        return killed(place, ways[at], cases, phase, chance, late_max_s=late_max_s)

    with ThreadPoolExecutor(len(ways)) as pool:
        found = list(pool.map(one, range(len(ways))))
    left = Place.made(folder / f"after-{first}", hosts).left()
    assert left.returncode == 0, (found, left.stdout, left.stderr)
    return found


def test_what_killed_runs_broke_heals_itself(tmp_path: Path) -> None:
    """Of a scenario, of a schedule and of a drill."""
    with simple(tmp_path) as hosts:
        faults = drawn(random.Random(SEED), ANYWHERE, 3)
        ways = (FOREGROUND, SCHEDULED, DRILL)
        seen = killed_together(hosts, tmp_path, ways, faults, 1, lease_s=(2.0, 3.0), late_max_s=3.0)
    assert any(fate.by == "lease" for one in seen for fate in one.fates), summary(seen)


def killed_for_long(tmp_path: Path, kills: int, ways: Sequence[Way]) -> list[Kill]:
    """So many, with two of all faults each; the machine is in the end as it was."""
    chance, seen = random.Random(SEED), list[Kill]()
    with rooms(tmp_path) as hosts:
        before = Machine.now(hosts)
        try:
            while len(seen) < kills:
                faults, drawn_ways = drawn(chance, CASES, 2 * AT_ONCE), chance.choices(ways, k=AT_ONCE)
                seen += killed_together(
                    hosts, tmp_path, drawn_ways, faults, len(seen), lease_s=(3.0, 5.0), late_max_s=1.0
                )  # fmt: skip
        finally:
            print(summary(seen))
        assert Machine.now(hosts).same_as(before)
    return seen


@pytest.mark.soak
@pytest.mark.skipif(NO_ROOMS is not None, reason=str(NO_ROOMS))
def test_what_a_hundred_killed_runs_broke_heals_itself_within_a_second_of_its_lease(tmp_path: Path) -> None:
    seen = killed_for_long(tmp_path, KILLS, (WATCHED, FOREGROUND))
    told = summary(seen)
    assert set(PHASES) <= {one.fell for one in seen}, told
    assert {fate.fault for one in seen for fate in one.fates if fate.seen} == {case.fault.name for case in CASES}, told


@pytest.mark.soak
@pytest.mark.skipif(NO_ROOMS is not None, reason=str(NO_ROOMS))
@pytest.mark.parametrize("way", [SCHEDULED, DRILL], ids=lambda way: way.words[0])
def test_what_killed_schedules_and_drills_broke_heals_itself(tmp_path: Path, way: Way) -> None:
    seen = killed_for_long(tmp_path, 20, (way,))
    assert sum(fate.by == "lease" for one in seen for fate in one.fates) >= len(seen), summary(seen)


def summary(seen: Sequence[Kill]) -> str:
    """Where kills fell, who healed, and how late the latest was."""
    fates = [fate for one in seen for fate in one.fates if fate.begun]
    by, late = Counter(fate.by for fate in fates), [fate for fate in fates if fate.by == "lease"]
    written, looked = (sorted(round(getattr(one, of), 2) for one in late) for of in ("written_s", "looked_s"))
    return (
        f"seed {SEED}: {len(seen)} runs killed, {dict(Counter(one.fell for one in seen))}; {len(fates)} faults begun, "
        f"{sum(fate.seen for fate in fates)} seen after the kill, healed by {dict(by)}; "
        f"by their leases {written[-1:]} s late at worst ({written[len(written) // 2 :][:1]} median); looks that found "
        f"nothing began {looked[-1:]} s after the lease at worst, {sum(one > 1 for one in looked)} later than a second"
    )
