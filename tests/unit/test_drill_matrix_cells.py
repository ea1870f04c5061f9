"""Which cells a matrix has, which faults can touch a step, and how they are counted."""

from __future__ import annotations

from collections import Counter

import pytest
from engine_fakes import gate, plan, step

from drkit.catalog import Catalog
from drkit.drill.matrix import Cell, Ending, Fault, Matrix, Moment, Result, applies, cells, part, sample, touched
from drkit.drill.reach import Reach, reach
from drkit.errors import UsageError
from drkit.model.plan import Join, PlanStep

NOTHING = Reach(frozenset(), frozenset())
AWS = Reach(frozenset({"Aws"}), frozenset({"Aws"}))
HOST = Reach(frozenset({"Ssh"}), frozenset({"Postgres"}))
WEB = Reach(frozenset({"Http"}), frozenset({"Http"}))
WRITES_ONLY = Reach(frozenset({"Aws"}), frozenset())
JOIN = PlanStep(id="all", number=4, uses="", kind="join", needs=("b/c",), join=Join(of="runbook"))
PLAN = plan(step("a"), gate("go", "a"), step("b/c", "go"), JOIN)


@pytest.mark.parametrize(
    ("uses", "effect", "look"),
    [
        ("aws.kms.grant", {"Aws"}, {"Aws"}),
        ("aws.network.open", {"Aws"}, {"Aws"}),  # through a class of its own
        ("vpn.prefer", {"Aws"}, {"Aws", "Ssh"}),  # what the one and the other use
        ("postgres.promote", {"Agents", "Postgres", "WitnessClient"}, {"Agents", "Postgres", "WitnessClient"}),
        ("notify.send", {"Delivery"}, {"Delivery"}),
        ("http.journey", set(), {"Dns", "Http"}),
        ("gate.approve", set(), set()),
    ],
)
def test_what_an_action_reaches_is_read_from_its_code(uses: str, effect: set[str], look: set[str]) -> None:
    assert reach(Catalog().entry(uses)) == Reach(frozenset(effect), frozenset(look))


@pytest.mark.parametrize(
    ("fault", "touches"),
    [
        (Fault.KILL, [NOTHING, AWS, HOST, WEB, WRITES_ONLY]), (Fault.DISK, [NOTHING, AWS, HOST, WEB, WRITES_ONLY]),
        (Fault.THROTTLE, [AWS, WRITES_ONLY]), (Fault.HOSTS, [HOST]), (Fault.DENIED, [AWS, HOST, WEB, WRITES_ONLY]),
        (Fault.STALE, [AWS, HOST, WEB]),
    ],
)  # fmt: skip
def test_a_fault_applies_to_what_it_can_touch(fault: Fault, touches: list[Reach]) -> None:
    every = [NOTHING, AWS, HOST, WEB, WRITES_ONLY]
    assert [each for each in every if applies(Cell("a", Moment.BEFORE, fault), each)] == touches


def test_what_only_stands_for_other_steps_has_no_cells() -> None:
    assert [cell.step for cell in cells(PLAN)[:: len(Fault) * len(Moment)]] == ["a", "go", "b/c"]
    assert len(cells(PLAN)) == 3 * len(Fault) * len(Moment) == len(set(cells(PLAN)))


def test_a_sample_follows_its_seed_and_holds_only_what_applies() -> None:
    reaches = {"a": AWS, "go": NOTHING, "b/c": HOST}
    every = touched(PLAN, reaches)
    drawn = sample(every, 10, seed=1)
    assert drawn == sample(every, 10, seed=1) != sample(every, 10, seed=2)
    assert len(set(drawn)) == 10 and list(drawn) == [cell for cell in cells(PLAN) if cell in drawn]
    assert all(applies(cell, reaches[cell.step]) for cell in drawn)
    assert sample(every, 1000, seed=1) == every


@pytest.mark.parametrize("seed", range(20))
def test_few_cells_are_enough_to_try_every_fault_and_every_moment(seed: int) -> None:
    every = touched(PLAN, {"a": AWS, "go": NOTHING, "b/c": HOST})
    assert {cell.fault for cell in sample(every, len(Fault), seed)} == set(Fault)
    twice = Counter((cell.fault, cell.moment) for cell in sample(every, len(Fault) * len(Moment), seed))
    assert len(twice) == len(Fault) * len(Moment) and set(twice.values()) == {1}


def test_the_parts_are_all_cells_and_each_once() -> None:
    every = cells(PLAN)
    parts = [part(every, f"{number}/7") for number in range(1, 8)]
    assert sorted(cell for each in parts for cell in each) == sorted(every)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    for wrong in ("", "1", "0/3", "4/3", "a/b", "1/-2"):
        with pytest.raises(UsageError):
            part(every, wrong)


def test_a_cell_is_read_as_it_is_written() -> None:
    for cell in cells(PLAN):
        assert Cell.read(str(cell), PLAN) == cell
    for wrong in ("", "a", "a:before", "nobody:before:kill", "a:sometime:kill", "a:before:meteor", "all:before:kill"):
        with pytest.raises(UsageError):
            Cell.read(wrong, PLAN)


def test_the_share_counts_what_passes_by_itself_and_leaves_out_what_does_not_apply() -> None:
    def result(fault: Fault, ending: Ending, repeated: int | None = 0) -> Result:
        return Result(Cell("a", Moment.BEFORE, fault), ending, repeated=repeated)

    found = Matrix(PLAN, (
        result(Fault.KILL, Ending.RESUMED, 2), result(Fault.THROTTLE, Ending.RESUMED, 1),
        result(Fault.STALE, Ending.SAFE_STOP), result(Fault.DENIED, Ending.SAFE_STOP),
        result(Fault.HOSTS, Ending.NOT_APPLICABLE), result(Fault.DISK, Ending.WRONG),
    ), 0, "simulator")  # fmt: skip
    assert found.resumed_share == 2 / 4
    told = found.to_json()
    assert told["totals"] == {"resumed": 2, "safe_stop": 2, "wrong": 1, "not_applicable": 1, "missed": 0}
    assert told["by_fault"]["stale"] == {
        "resumed": 0, "safe_stop": 1, "wrong": 0, "not_applicable": 0, "missed": 0
    }  # fmt: skip
    assert (told["repeated"], len(told["cells"]), told["resumed_share"]) == (3, 5, 0.5)
    assert Matrix(PLAN, (result(Fault.KILL, Ending.RESUMED, None),), 0, "sandbox").repeated is None
    assert Matrix(PLAN, (result(Fault.DENIED, Ending.SAFE_STOP),), 0, "simulator").resumed_share is None
