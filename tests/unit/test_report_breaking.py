"""What a report says of a hypothesis and of a stop: from the journal alone, and null where it cannot be said."""

from __future__ import annotations

from typing import Any

import pytest
from engine_fakes import Folding, order, step

from drkit.model import events as e
from drkit.model.events import Row
from drkit.model.measurements import Findings
from drkit.report.breaking import abort, broken, faults, hypothesis
from drkit.report.timeline import moments


def drill() -> tuple[Folding, list[Row]]:
    """A fault, its heal, and a last look; with the rows of what is told by the test."""
    fault = step("break").model_copy(update={"part": "inject"})
    heal = step("heal-break", "break").model_copy(update={"part": "heal", "heals": "break"})
    last = step("after-1", "heal-break").model_copy(update={"part": "after", "optional": True, "verify": "all is well"})
    fold = Folding(fault, heal, last)
    fold.state.plan = fold.state.plan.but(hypothesis="It is nobody's loss")
    return fold, []


def take(fold: Folding, rows: list[Row], fact: Any) -> None:
    fold.take(fact)
    rows.append(Row.link(len(rows) + 1, "", fact.at(fold.state.t), (), ""))


def ended(fold: Folding, *ids: str) -> None:
    for id in ids:
        fold.whole(id)
    fold.take(e.Finished(outcome="done"))


def test_a_hypothesis_held_if_all_was_well_in_the_end() -> None:
    fold, rows = drill()
    assert hypothesis(fold.state, rows) is not None and hypothesis(fold.state, rows).held is None  # type: ignore[union-attr]
    ended(fold, "break", "heal-break", "after-1")
    told = hypothesis(fold.state, rows)
    assert told is not None and (told.held, told.deviations) == (True, ())


def test_it_is_false_if_a_steady_state_did_not_hold_while_the_fault_was_held() -> None:
    fold, rows = drill()
    fold.whole("break")
    take(fold, rows, e.Deviated(expect="p99 < 0.8", reason="it was 2", verdict="fail"))
    ended(fold, "heal-break", "after-1")
    told = hypothesis(fold.state, rows)
    assert told is not None and (told.held, told.deviations) == (False, ("p99 < 0.8: it was 2",))


def test_it_is_false_if_all_was_not_well_in_the_end() -> None:
    fold, rows = drill()
    fold.whole("break")
    fold.whole("heal-break")
    fold.prepared("after-1")
    fold.take(e.Failed(step="after-1", attempt=1, error="nobody is served", world="untouched"))
    fold.take(e.Finished(outcome="done"))
    told = hypothesis(fold.state, rows)
    assert told is not None and told.held is False and told.deviations == ("all is well: nobody is served",)


def test_without_a_scenario_there_is_no_hypothesis() -> None:
    assert hypothesis(Folding(step("a")).state, []) is None


def test_a_stop_says_who_and_how_long_until_all_was_healed() -> None:
    fold, rows = drill()
    fold.whole("break")
    assert abort(fold.state, rows) is None
    fold.t = 10.0
    take(fold, rows, order("abort"))
    told = abort(fold.state, rows)
    assert told is not None and (told.by, told.latency_seconds, told.healed_at) == ("dana", None, None)
    fold.t = 12.5
    fold.whole("heal-break")
    told = abort(fold.state, rows)
    assert told is not None and (told.latency_seconds, told.healed_at is None) == (2.5, False)


def test_a_stop_before_anything_was_broken_has_nothing_to_measure() -> None:
    fold, rows = drill()
    take(fold, rows, order("abort"))
    told = abort(fold.state, rows)
    assert told is not None and told.latency_seconds is None


@pytest.mark.parametrize("said_by", ["its target", "its step"])
def test_what_was_never_injected_was_not_healed_either_though_its_heal_is_done(said_by: str) -> None:
    fold, rows = drill()
    fold.prepared("break")
    world = "untouched" if said_by == "its step" else "unknown"
    take(fold, rows, e.Failed(step="break", attempt=1, error="its lease could not be armed", world=world))
    take(fold, rows, order("abort"))
    fold.t = 12.5
    fold.whole("heal-break")
    if said_by == "its target":
        take(fold, rows, e.FaultChanged(fault="f", id="break", state="never-injected", detail={"by": "drkit"}))
    (told,) = faults(fold.state, rows)
    assert (told.injected_at, told.reverted_at, told.reverted_by, told.verified_clean) == (None, None, None, None)
    stopped = abort(fold.state, rows)
    assert stopped is not None and (stopped.broken, stopped.healed_at) == (0, None)
    told_at = [moment.what for moment in moments(rows, fold.state, Findings(), [told])]
    assert "Nothing to heal: break" in told_at and not [what for what in told_at if "healed" in what]


@pytest.mark.parametrize(
    ("ended_t", "said", "by", "words"),
    [
        (29.9, None, "drkit", "by drkit"),  # nobody else could: its lease was not over
        (30.1, None, None, "nobody saw whether by drkit or by its lease"),
        (29.9, "lease", "lease", "by its lease"),  # the target counts on a clock of its own
        (30.1, "drkit", "drkit", "by drkit"),
    ],
)
def test_who_healed_is_what_the_target_said_or_follows_from_when_its_lease_ended(
    ended_t: float, said: str | None, by: str | None, words: str
) -> None:
    fold, rows = drill()
    fold.t = 10.0
    fold.prepared("break")
    take(fold, rows, e.FaultChanged(fault="f", id="break", state="armed", detail={"left_s": 20.0}))
    fold.done("break")
    fold.t = 28.0
    fold.prepared("heal-break")
    fold.t = ended_t
    if said is not None:
        take(fold, rows, e.FaultChanged(fault="f", id="break", state="healed", detail={"by": said}))
    fold.done("heal-break")
    (told,) = faults(fold.state, rows)
    assert told.reverted_by == by
    line = moments(rows, fold.state, Findings(), [told])
    assert [moment.detail for moment in line if moment.what == "Fault healed: break"] == [words]


@pytest.mark.parametrize("told_before", ["injected", "healed"])
def test_what_may_have_been_injected_before_it_was_turned_away_counts_as_healed(told_before: str) -> None:
    fold, rows = drill()
    fold.prepared("break")
    take(fold, rows, e.FaultChanged(fault="f", id="break", state=told_before))
    take(fold, rows, e.Failed(step="break", attempt=1, error="its lease is over", world="untouched"))
    take(fold, rows, order("abort"))
    fold.whole("heal-break")
    (told,) = faults(fold.state, rows)
    assert told.reverted_at is not None and told.reverted_by is None  # nobody said who, and no lease is known


@pytest.mark.parametrize(
    ("simulated", "healed", "clean"),
    [(None, True, True), (None, False, False), ("counted, not booted", True, None), ("counted", False, False)],
)
def test_where_nothing_real_was_broken_nothing_is_verified(
    simulated: str | None, healed: bool, clean: bool | None
) -> None:
    fault = step("break").model_copy(update={"part": "inject", "simulated": simulated})
    heal = step("heal-break", "break").model_copy(update={"part": "heal", "heals": "break"})
    fold = Folding(fault, heal)
    fold.whole("break")
    if healed:
        fold.whole("heal-break")
    (told,) = faults(fold.state, [])
    assert told.injected_at is not None
    assert (told.verified_clean, told.simulated) == (clean, simulated)


def test_what_is_broken_is_named_as_the_scenario_writes_it_each_once() -> None:
    fold, rows = drill()
    stops = ("lost", "lost > 3")
    fold.state.plan = fold.state.plan.but(stop_when=stops)
    assert broken(fold.state, rows) == ()
    fold.whole("break")
    take(fold, rows, e.Deviated(expect="all is well", reason="it was not", verdict="fail"))
    fold.whole("heal-break")
    fold.prepared("after-1")
    fold.take(e.Failed(step="after-1", attempt=1, error="nobody is served", world="untouched"))
    assert broken(fold.state, rows) == ("steady_state: all is well",)
    for by, reason in (("stop_when", "stop_when: lost > 3: it was 4"), ("terminal", "stop_when: lost: I say so")):
        rows.append(Row.link(1, "", e.Ordered(verb="abort", by={"how": by}, reason=reason).at(1.0), (), ""))
    assert broken(fold.state, rows) == ("steady_state: all is well", "stop_when: lost > 3")
