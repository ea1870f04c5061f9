"""A scheduled scenario's whole plan is a function of seed, inventory and calendar: its hash is the same in any process.

`python test_plan_is_a_function.py ORDER` prints it, with everything that has no order of its own put in that order.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st

from drkit import testing
from drkit.catalog import Catalog
from drkit.chaos.calendar import Facts, Timetable, foresee
from drkit.chaos.choose import Aim, Candidate
from drkit.cli import aiming
from drkit.drill.compile import compile_drill
from drkit.model.environment import Address, Environment, Host, SecretRef, Site
from drkit.model.inventory import Member
from drkit.model.schedule import Calendar
from drkit.model.values import canonical, digest
from drkit.plan.files import LoadedScenario, load_scenario

SCENARIO = """
apiVersion: drkit/v1
kind: Scenario
metadata: {name: two, owner: nobody}
hypothesis: "Nobody cares"
environment: lab
source: east
target: west
parameters: {service: {default: web}}
probes: {made: {uses: process.exists, with: {creates: /made}}}
targets:
  all: {uses: host.inventory, where: {role: web}, never: [web-1]}
  some: {uses: host.inventory, where: {role: app}, pick: 2, max: 50%}
steady_state: [{expect: "probes.made.exists", during: true}]
method:
  - {id: hang, inject: host.process-pause, on: all, with: {service: "${ params.service }"}, duration: 5s}
  - {id: kill, inject: host.process-kill, on: some, with: {service: app}, start: 30s}
stop_when: ["!probes.made.exists"]
seed: "SEED"
schedule:
  {cron: "0 3 * * *", tags: [ok], choose: {group: g, parameters: {service: [web, cache, queue]}}}
"""
NOW = 1.8e9


@cache
def loaded(seed: str) -> LoadedScenario:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "two.yaml"
        path.write_text(SCENARIO.replace("SEED", seed))
        return load_scenario(path)


def environment(hosts: list[str], roles: list[str]) -> Environment:
    key, address = SecretRef(ref="secret://file/key"), Address(host="127.0.0.1", port=22)
    return Environment(
        name="lab", kind="staging", account="0", state_store="file:///store",
        sites=(Site(name="east", kind="region"), Site(name="west", kind="region")),
        hosts=tuple(
            Host(
                name=f"{role}-{number}", site="east", address=address, user="u", key=key, known_host="k",
                machine_id="m", roles=(role, "ok"),
            )
            for role in roles for number in hosts
        ),
    )  # fmt: skip


async def members(spec: LoadedScenario, where: Environment, aim: Aim) -> dict[str, list[Member]]:
    ctx = testing.context(where, source="east", target="west")
    return {
        name: await aiming._chosen(ctx, name, target, Catalog(), set(), spec.spec.seed, aim, None)
        for name, target in spec.spec.targets.items()
    }


def hashes(seed: str, chance: random.Random, days: int = 2) -> list[str]:
    """Of the plan of each day on which the calendar lets it start."""
    hosts, roles = (chance.sample(names, len(names)) for names in (["1", "2", "3", "4"], ["web", "app", "db"]))
    where, spec = environment(hosts, roles), loaded(seed)
    assert spec.spec.schedule is not None
    calendar = Calendar(seed=seed, opt_in=("ok",))
    table = Timetable("two", spec.spec.schedule, None, calendar)
    facts = Facts(inventory={"hosts": [Candidate(host.name, host.roles) for host in where.hosts]})
    found = []
    for each in foresee([table], NOW, facts, NOW + days * 86400):
        assert each.verdict.allowed, each.verdict.why
        aim = Aim(digest([calendar.seed, each.at, "two"]), calendar.opt_in, calendar.opt_out)
        targets = anyio.run(members, spec, where, aim)
        turned = dict(chance.sample(list(targets.items()), len(targets)))
        plan = compile_drill(
            spec, None, where, Catalog(), parameters=dict(each.verdict.drawn), targets=turned
        )  # fmt: skip
        assert digest(plan.model_dump(mode="json", by_alias=True)) == plan.hash
        found.append(plan.hash)
    return found


@cache
def once(seed: str) -> list[str]:
    return hashes(seed, random.Random(0))


@settings(max_examples=6, deadline=None)
@given(st.randoms(use_true_random=False))
def test_no_order_of_the_inventory_changes_the_plan_and_each_day_has_its_own(chance: random.Random) -> None:
    assert hashes("7", chance) == once("7")
    assert len({*once("7"), *once("8")}) == 4


def test_a_fresh_process_with_another_hash_seed_makes_the_same_plan() -> None:
    done = subprocess.run(
        [sys.executable, __file__, "4242"],
        env=os.environ | {"PYTHONHASHSEED": "4242"},
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == canonical(once("7"))


if __name__ == "__main__":
    print(canonical([*hashes("7", random.Random(int(sys.argv[1])))]).decode())
