"""The members of a recorded plan are hit again, in its order, or the replay is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from engine_fakes import plan, step
from hypothesis import given
from hypothesis import strategies as st
from plan_fakes import environment

from drkit.chaos.again import Again, chosen_again
from drkit.engine.requests import Request
from drkit.errors import Refused
from drkit.model.inventory import Inventory, Member
from drkit.model.scenario import Target
from drkit.plan.files import load_scenario

TARGET = Target.model_validate({"uses": "host.inventory", "pick": 1})


def inventory(names: list[str]) -> Inventory:
    return Inventory(members=tuple(Member(name=name, group="g") for name in names))


@given(st.permutations(["a", "b", "c", "d"]), st.permutations(["a", "b", "c"]))
def test_the_recorded_members_and_their_order_count_not_the_inventorys(found: list[str], hit: list[str]) -> None:
    assert [m.name for m in chosen_again("t", TARGET, inventory(found), (), hit)] == hit


def test_who_is_gone_is_named_and_what_is_broken_already_still_counts() -> None:
    with pytest.raises(Refused, match="has no b any more"):
        chosen_again("t", TARGET, inventory(["a", "c"]), (), ["b"])
    with pytest.raises(Refused, match="nothing of g would be left"):
        chosen_again("t", TARGET, inventory(["a", "b"]), ("b",), ["a"])


def test_a_run_of_some_of_the_faults_says_all_that_repeats_it(tmp_path: Path) -> None:
    path = tmp_path / "two.yaml"
    path.write_text(SCENARIO)
    spec = load_scenario(path).spec
    whole = request("a-y", "a-x", "b")
    some = Again(whole, ("b",))
    assert some.members(spec) == {"both": ["y", "x"]} and Again(whole).options(spec) == {}
    kept = request("b", **some.options(spec))
    assert (Again(kept).had, Again(kept).members(spec)) == (("b",), {"both": ["y", "x"]})
    assert Again(kept).options(spec) == some.options(spec) == {"only": ["b"], "members": {"both": ["y", "x"]}}
    assert (Again(whole).scenario, Again(kept, ("b",)).had) == ("two", ("b",))
    assert Again(request("b", scenario="/there/two.yaml")).scenario == "/there/two.yaml"


SCENARIO = """
apiVersion: drkit/v1
kind: Scenario
metadata: {name: two, owner: nobody}
hypothesis: "Nobody cares"
targets: {both: {uses: host.inventory}}
method:
  - {id: a, inject: host.process-pause, on: both, with: {service: app}}
  - {id: b, inject: host.process-pause, with: {service: app, host: x}}
"""


def request(*faults: str, **options: Any) -> Request:
    steps = [step(id).model_copy(update={"part": "inject"}) for id in faults]
    return Request(
        run="k7qd", kind="run", plan=plan(*steps, scenario="two"), environment=environment(), by={}, wall=0.0,
        options=options,
    )  # fmt: skip
