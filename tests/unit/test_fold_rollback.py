"""Taking a run back: what is undone, in which order, and what is refused."""

from __future__ import annotations

from typing import Literal

import pytest
from engine_fakes import DANA, Folding, order, step

from drkit.engine.compensation import why_not_rollback
from drkit.model import events as e
from drkit.model.runbook import Retry
from drkit.model.values import Json


def undo(name: str) -> dict[str, Json]:
    return {"uses": "fake.put", "params": {"name": name, "to": 0}, "repeat": "safe", "timeout_s": 3.0}


def diamond() -> Folding:
    """a → (b, c) → d, all done, and e still running."""
    f = Folding(step("a"), step("b", "a"), step("c", "a"), step("d", "b", "c"), step("e"))
    for id in "abcd":
        f.whole(id, undo(id))
    return f


def test_compensations_run_in_reverse_order_side_by_side_where_the_graph_allows() -> None:
    f = diamond()
    assert f.take(order("abort", rollback=True)) == ["cancel e", "prepare undo:d"]
    assert f.state.phase == "rolling_back"
    assert f.whole("undo:d") == ["prepare undo:c", "prepare undo:b"]
    assert f.whole("undo:c") == []
    assert f.whole("undo:b") == ["prepare undo:a"]
    assert f.whole("undo:a") == ["finish"]
    f.take(e.Finished(outcome="rolled_back"))
    assert [f.status(id) for id in "abcde"] == ["compensated"] * 4 + ["cancelled"]


def test_a_step_without_compensation_is_passed_over_and_order_is_kept() -> None:
    f = Folding(step("a"), step("b", "a"), step("c", "b"), step("d"))
    f.whole("a", undo("a"))
    f.whole("b")
    f.whole("c", undo("c"))
    assert f.take(order("abort", rollback=True)) == ["cancel d", "prepare undo:c"]
    assert f.whole("undo:c") == ["prepare undo:a"]


def test_what_was_already_so_is_not_undone() -> None:
    f = Folding(step("a"), step("b"))
    f.take(e.AlreadySo(step="a", params={}, seen={}))
    f.prepared("b")
    f.take(order("abort", rollback=True))
    assert f.done("b") == ["finish"]
    assert f.status("a") == "skipped"


def test_what_was_sent_ends_before_anything_is_undone() -> None:
    f = Folding(step("a"), step("b"))
    f.whole("a", undo("a"))
    f.prepared("b", undo("b"))
    assert f.take(order("abort", rollback=True)) == []
    assert f.failed("b") == ["prepare undo:a", "prepare undo:b"]


def test_a_rollback_goes_on_where_it_was_after_a_crash() -> None:
    f = diamond()
    f.take(order("abort", rollback=True))
    f.prepared("undo:d")
    assert f.resumed() == ["recover undo:d"]
    assert f.absent("undo:d") == ["apply undo:d"]
    assert f.done("undo:d") == ["prepare undo:c", "prepare undo:b"]
    assert sorted(f.resumed()) == ["prepare undo:b", "prepare undo:c"]


def test_a_rollback_past_the_point_of_no_return_is_refused_with_the_ways_forward() -> None:
    f = Folding(step("a"), step("p", "a", uses="fake.final"), step("z"))
    f.whole("a", undo("a"))
    f.prepared("p")
    why = why_not_rollback(f.state)
    assert why is not None
    assert why.startswith("p cannot be undone; a could.")
    assert "drkit abort k7qd" in why and "drkit help failback" in why
    assert f.take(order("abort", rollback=True)) == []
    assert f.state.aborting is None
    assert why_not_rollback(f.state, to="p") is None


def test_a_rollback_may_stop_earlier() -> None:
    f = diamond()
    assert f.take(order("abort", rollback=True, to="a")) == ["cancel e", "prepare undo:d"]
    f.whole("undo:d")
    f.whole("undo:b")
    assert f.whole("undo:c") == ["finish"]
    assert f.status("a") == "done"


def test_a_compensation_that_fails_waits_for_a_person() -> None:
    f = diamond()
    f.take(order("abort", rollback=True))
    f.prepared("undo:d")
    assert f.failed("undo:d") == []
    assert f.state.phase == "paused"
    assert f.take(order("retry", "undo:d", DANA)) == ["recover undo:d"]


def test_on_failure_rollback_takes_the_run_back() -> None:
    f = Folding(step("a"), step("b", "a", on_failure="rollback"))
    f.whole("a", undo("a"))
    f.prepared("b")
    assert f.failed("b") == ["prepare undo:a"]


def test_on_failure_rollback_pauses_where_it_cannot_be() -> None:
    f = Folding(step("a", uses="fake.final"), step("b", "a", on_failure="rollback"))
    f.prepared("a")
    f.take(e.Copied(upto=99))
    f.done("a")
    f.prepared("b")
    assert f.failed("b") == []
    assert "a cannot be undone" in str(f.state.steps["b"].reason)


def test_a_compensation_is_given_what_its_step_had_set() -> None:
    f = Folding(step("a"), step("z"))
    f.whole("a", undo("a"))
    f.copies = False
    f.take(order("abort", rollback=True))
    (command,) = f.commands(e.Copied(upto=f.state.seq))
    guard = command.args["guard"]
    assert isinstance(guard, dict)
    assert (guard["uses"], guard["params"]) == ("fake.put", {"name": "a", "to": 1})
    assert guard["before"] == f.state.steps["a"].before
    assert command.args["timeout_s"] == 3.0


def test_an_intent_that_was_never_sent_is_not_undone() -> None:
    f = Folding(step("a"), step("b"))
    f.whole("a", undo("a"))
    f.take(order("pause"))
    f.prepared("b", undo("b"))
    assert f.take(order("abort", rollback=True)) == ["prepare undo:a"]
    assert f.status("b") == "cancelled"


def test_a_step_that_failed_stays_failed_when_the_run_is_aborted_before_its_retry() -> None:
    f = Folding(step("a", retry=Retry(times=1)), step("b"))
    f.prepared("a", undo("a"))
    f.failed("a", world="changed")
    assert f.take(order("abort", rollback=True)) == ["cancel b", "prepare undo:a"]
    assert f.status("a") == "failed"
    assert f.whole("undo:a") == ["finish"]
    assert f.status("a") == "compensated"


def test_nothing_is_taken_back_before_the_state_store_knows_that_it_will_be() -> None:
    f = diamond()
    f.copies = False
    assert f.take(order("abort", rollback=True)) == ["cancel e", "copy"]
    assert f.state.phase == "rolling_back" and f.status("undo:d") == "pending"
    assert f.take(e.Copied(upto=f.state.seq - 1)) == [], "that copy ends before the order"
    assert f.resumed() == ["copy"], "whoever was to report it is gone"
    assert f.take(e.Copied(upto=f.state.seq)) == ["prepare undo:d"]
    assert f.take(e.Copied(upto=f.state.seq)) == []


def test_taking_back_does_not_wait_for_a_state_store_that_is_down() -> None:
    f = diamond()
    f.copies = False
    f.take(order("abort", rollback=True))
    assert f.take(e.Copied(upto=0, error="it does not answer")) == ["prepare undo:d"]
    assert f.whole("undo:d") == ["prepare undo:c", "prepare undo:b"]


def test_a_rollback_in_the_lost_tail_is_looked_at_before_it_is_carried_out_again() -> None:
    f = diamond()
    f.copies = False
    f.take(order("abort", rollback=True))
    assert f.resumed(from_copy=True) == ["copy"]
    (command,) = f.commands(e.Copied(upto=f.state.seq))
    assert (command.verb, command.step, command.args["doubtful"]) == ("prepare", "undo:d", True)
    assert f.take(e.AlreadySo(step="undo:d", params={}, seen={})) == ["prepare undo:c", "prepare undo:b"]
    assert f.status("d") == "compensated"


def choosing_while_paused(on_failure: Literal["rollback", "abort"] = "rollback") -> Folding:
    """a → b, which fails after a person paused the run; c → d is held."""
    f = Folding(step("a"), step("b", "a", on_failure=on_failure), step("c"), step("d", "c"))
    f.whole("a", undo("a"))
    f.prepared("b")
    f.prepared("c", undo("c"))
    f.take(order("pause"))
    assert f.done("c", undo=undo("c")) == []
    assert f.failed("b") == []
    return f


@pytest.mark.parametrize("on_failure", ["rollback", "abort"])
def test_what_was_chosen_ahead_waits_while_a_person_holds_the_run_paused(
    on_failure: Literal["rollback", "abort"],
) -> None:
    f = choosing_while_paused(on_failure)
    assert (f.state.phase, f.state.aborting) == ("paused", None)
    (why,) = [block.reason for block in f.state.blocks() if block.step is None]
    assert why.startswith("paused by dana: because; then it is ")
    assert why.endswith(f": b failed (on_failure: {on_failure})")
    undone = {"rollback": ["prepare undo:a", "prepare undo:c"], "abort": ["finish"]}
    assert f.take(order("resume")) == undone[on_failure]
    assert (f.status("d"), f.state.chosen) == ("cancelled", {})


def test_what_waits_survives_a_crash_and_begins_nothing_in_a_new_runner() -> None:
    f = choosing_while_paused()
    assert f.resumed() == []
    assert f.take(order("resume")) == ["prepare undo:a", "prepare undo:c"]


@pytest.mark.parametrize("verb", ["retry", "skip", "done"])
def test_a_persons_word_about_the_failed_step_goes_before_what_was_chosen_ahead(verb: str) -> None:
    f = choosing_while_paused()
    begun = f.take(order(verb, "b"))
    assert begun == ([] if verb == "skip" else ["recover b"])
    assert f.take(order("resume")) == ["prepare d"]
    assert f.state.aborting is None


def test_a_step_that_fails_again_after_a_retry_chooses_again() -> None:
    f = choosing_while_paused()
    f.take(order("retry", "b"))
    f.failed("b")
    assert f.take(order("resume")) == ["prepare undo:a", "prepare undo:c"]


def test_what_cannot_be_chosen_lets_the_rest_go_on_after_the_pause() -> None:
    f = Folding(step("a", uses="fake.final"), step("b", "a", on_failure="rollback"), step("c"), step("d", "c"))
    f.prepared("a")
    f.take(e.Copied(upto=99))
    f.done("a")
    f.prepared("b")
    f.prepared("c")
    f.take(order("pause"))
    f.done("c")
    assert f.failed("b") == []
    assert f.take(order("resume")) == ["prepare d"]
    assert "a cannot be undone" in str(f.state.steps["b"].reason)


def test_a_run_paused_by_its_deadline_is_not_taken_back_before_somebody_decides() -> None:
    f = Folding(step("a"), step("b", "a", on_failure="rollback"), deadline_s=60.0)
    f.whole("a", undo("a"))
    f.prepared("b")
    f.take(e.Fired(timer="deadline"))
    assert f.failed("b") == []
    assert f.take(order("resume")) == ["prepare undo:a"]


def test_a_fence_is_lifted_only_when_the_state_store_knows_that_it_will_be() -> None:
    f = Folding(step("a", uses="fake.fence"), step("z"))
    f.whole("a", undo("a"))
    assert f.take(order("abort", rollback=True)) == ["cancel z", "prepare undo:a"]
    assert f.prepared("undo:a") == ["copy undo:a"]
    assert f.state.point_of_no_return is None
    assert f.take(e.Copied(upto=f.state.steps["undo:a"].copy_upto)) == ["apply undo:a"]


def test_without_the_state_store_a_person_says_whether_a_fence_is_lifted() -> None:
    f = Folding(step("a", uses="fake.fence"), step("z"))
    f.whole("a", undo("a"))
    f.take(order("abort", rollback=True))
    f.prepared("undo:a")
    assert f.take(e.Copied(upto=0, error="down")) == ["ask undo:a"]
    f.asked("undo:a")
    assert f.answered("undo:a", DANA) == ["apply undo:a"]
