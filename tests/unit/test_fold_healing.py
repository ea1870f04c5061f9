"""A run that is aborted heals what it broke: what was injected, when it is at rest, whatever else goes on."""

from __future__ import annotations

from engine_fakes import Folding, order, step

from drkit.model import events as e
from drkit.model.plan import PlanStep
from drkit.model.runbook import Retry
from drkit.model.values import Json


def drill() -> Folding:
    """inject → work; heal behind both; a second fault that was not yet injected."""
    return Folding(
        part(step("break"), "inject"), part(step("later", "work"), "inject"), step("work", "break"),
        heal("break", "work", "later"), heal("later", "heal-break"),
    )  # fmt: skip


def part(planned: PlanStep, name: str) -> PlanStep:
    return planned.model_copy(update={"part": name})


def heal(fault: str, *needs: str) -> PlanStep:
    changes = {"part": "heal", "heals": fault, "skippable": False, "retry": Retry(times=1, backoff=1.0, jitter=0)}
    return step(f"heal-{fault}", *needs).model_copy(update=changes)


def test_an_abort_heals_what_was_injected_and_nothing_else() -> None:
    f = drill()
    f.whole("break")
    assert f.take(order("abort")) == ["cancel work", "prepare heal-break"]
    assert f.status("heal-later") == "cancelled"
    assert f.whole("heal-break") == ["finish"]


def test_what_is_being_injected_is_waited_for() -> None:
    f = drill()
    f.prepared("break")
    assert f.take(order("abort")) == []
    assert f.done("break") == ["prepare heal-break"]


def test_healing_waits_for_no_step_that_is_at_work() -> None:
    f = drill()
    f.whole("break")
    f.prepared("work")
    assert f.take(order("abort")) == ["prepare heal-break"]
    assert f.whole("heal-break") == []
    assert f.done("work") == ["finish"]


def test_an_inject_whose_outcome_is_unknown_is_healed() -> None:
    f = drill()
    f.prepared("break")
    f.take(order("abort"))
    assert f.take(e.Uncertain(step="break", attempt=1, reason="no answer", seen=None)) == ["prepare heal-break"]


def test_a_heal_that_fails_is_tried_again_and_then_the_run_has_failed() -> None:
    f = drill()
    f.whole("break")
    f.take(order("abort"))
    f.prepared("heal-break")
    failure = e.Failed(step="heal-break", attempt=1, error="no such luck", world="unknown")
    assert [word.split()[0] for word in f.take(failure)] == ["timer"]
    assert f.take(e.Fired(timer="retry heal-break 1")) == ["recover heal-break"]
    f.take(e.NotDone(step="heal-break", attempt=2, seen={}))
    (finish,) = f.commands(e.Failed(step="heal-break", attempt=3, error="no such luck", world="unknown"))
    assert finish.args["outcome"] == "failed" and "no such luck" in finish.why and "chaos stop" in finish.why


def test_a_rollback_leaves_faults_to_their_heals_and_undoes_the_rest() -> None:
    f = drill()
    undo: dict[str, Json] = {"uses": "fake.put", "params": {"name": "x", "to": 0}, "repeat": "safe", "timeout_s": 3.0}
    f.whole("break", undo)
    f.whole("work", undo)
    assert f.take(order("abort", rollback=True)) == ["cancel later", "prepare heal-break"]
    assert f.whole("heal-break") == ["prepare undo:work"]
    assert f.whole("undo:work") == ["finish"]


def test_a_resumed_abort_still_heals() -> None:
    f = drill()
    f.whole("break")
    f.take(order("abort"))
    f.prepared("heal-break")
    assert f.resumed() == ["recover heal-break"]
