"""What the fold does about steps: readiness, failures, retries, resuming."""

from __future__ import annotations

import pytest
from engine_fakes import LOOK, MAX, Folding, order, plan, step

from drkit.context import step_token
from drkit.engine.decisions import compare
from drkit.engine.fold import Run, replay
from drkit.errors import Unobservable
from drkit.model import events as e
from drkit.model.events import GENESIS, Row
from drkit.model.runbook import Retry


def test_nothing_starts_before_somebody_said_go() -> None:
    f = Folding(step("a"), begin=False)
    assert f.state.phase == "opened"
    assert f.take(e.Began(by=MAX)) == ["prepare a"]


def test_a_step_starts_when_all_its_needs_have_ended_and_not_before() -> None:
    f = Folding(step("a"), step("b"), step("c", "a", "b"))
    assert f.first == ["prepare a", "prepare b"]
    assert f.prepared("a") == ["apply a"]
    assert f.done("a") == []
    assert f.take(e.AlreadySo(step="b", params={}, seen=LOOK)) == ["prepare c"]
    assert f.status("b") == "skipped"
    assert f.prepared("c") == ["apply c"]
    assert f.done("c") == ["finish"]
    assert f.state.outcome is None  # ended only once that is in the journal
    f.take(e.Finished(outcome="done"))
    assert f.state.phase == "finished"


def test_apply_carries_what_the_intent_recorded() -> None:
    f = Folding(step("a"))
    fact = e.Prepared(step="a", attempt=1, params={"name": "a", "to": 7}, before=LOOK)
    (command,) = f.commands(fact)
    assert command.args["params"] == {"name": "a", "to": 7}
    assert command.args["before"] == LOOK
    assert command.args["token"] == "drkit-k7qd-a"


def test_reports_of_an_earlier_attempt_change_nothing() -> None:
    f = Folding(step("a", retry=Retry(times=1)))
    f.prepared("a")
    f.failed("a", world="untouched")
    f.take(e.Fired(timer="retry a 1"))
    assert f.attempt("a") == 2
    assert f.take(e.Done(step="a", attempt=1, after=LOOK)) == []
    assert f.status("a") == "running"


def test_a_failure_pauses_what_depends_on_it_and_nothing_else() -> None:
    f = Folding(step("a"), step("b", "a"), step("c"), step("d", "c"))
    f.prepared("a")
    assert f.failed("a") == []
    assert f.whole("c") == ["prepare d"]
    assert f.state.phase == "running"
    assert f.whole("d") == []
    assert f.state.phase == "paused"
    assert [(b.step, b.command) for b in f.state.blocks()] == [("a", "drkit retry k7qd a")]
    assert f.status("b") == "pending"


def test_a_retry_waits_as_told_and_twice_as_long_the_next_time() -> None:
    f = Folding(step("a", retry=Retry(times=2, backoff=4.0, jitter=0.0)))
    f.prepared("a")
    (timer,) = f.commands(e.Failed(step="a", attempt=1, error="broke", world="untouched"))
    assert timer.args == {"timer": "retry a 1", "at_t": 4.0}
    f.t = 4.0
    assert f.take(e.Fired(timer="retry a 1")) == ["apply a"]  # never observed or rendered again
    (timer,) = f.commands(e.Failed(step="a", attempt=2, error="broke", world="changed"))
    assert timer.args["at_t"] == 12.0
    assert f.take(e.Fired(timer="retry a 2")) == ["recover a"]  # it may have changed something: look first
    assert f.failed("a") == []
    assert f.status("a") == "failed"


def test_jitter_stays_within_its_fraction_and_comes_out_the_same_in_a_replay() -> None:
    waits = []
    for _ in range(2):
        f = Folding(step("a", retry=Retry(times=1, backoff=10.0, jitter=0.2)))
        (timer,) = f.commands(e.Failed(step="a", attempt=1, error="broke", world="untouched"))
        waits.append(timer.args["at_t"])
    assert waits[0] == waits[1] != 10.0
    assert isinstance(waits[0], float) and 8.0 <= waits[0] <= 12.0


def test_what_is_not_safe_to_repeat_is_not_retried_by_itself_once_it_may_have_been_sent() -> None:
    f = Folding(step("a", uses="fake.put-ask", on_failure="retry"))
    f.prepared("a")
    assert f.failed("a", world="unknown") == []
    assert f.status("a") == "failed"


def test_an_optional_step_holds_nothing_back() -> None:
    f = Folding(step("a", optional=True), step("b", "a"))
    f.prepared("a")
    assert f.failed("a") == ["prepare b"]
    assert f.whole("b") == ["finish"]


def test_on_failure_skip_goes_on_and_keeps_the_error() -> None:
    f = Folding(step("a", on_failure="skip"), step("b", "a"))
    f.prepared("a")
    assert f.failed("a") == ["prepare b"]
    assert (f.status("a"), f.state.steps["a"].error) == ("skipped", "broke")


def test_a_fence_that_fails_waits_whatever_the_runbook_says() -> None:
    for policy in ("skip", "abort", "retry"):
        f = Folding(step("a", uses="fake.fence", on_failure=policy, optional=True), step("b", "a"))
        f.prepared("a")
        commands = f.failed("a")
        assert commands == [], policy
        assert f.status("a") == "failed"
        assert f.status("b") == "pending"


def test_on_failure_abort_ends_the_run_when_what_was_sent_has_ended() -> None:
    f = Folding(step("a", on_failure="abort"), step("b"), step("c"), step("d", "b"))
    f.prepared("a")
    f.prepared("b")
    assert f.failed("a") == ["cancel c"]
    assert f.state.phase == "aborting"
    assert f.done("b") == ["finish"]
    f.take(e.Finished(outcome="aborted"))
    assert [f.status(id) for id in "abcd"] == ["failed", "done", "cancelled", "cancelled"]


def test_what_cannot_be_undone_waits_until_its_intent_is_copied() -> None:
    f = Folding(step("a", uses="fake.final"))
    (command,) = f.commands(e.Prepared(step="a", attempt=1, params={"name": "a"}, before=LOOK))
    assert (command.verb, command.args) == ("copy", {"upto": 3})
    assert f.state.point_of_no_return == "a"
    assert f.take(e.Copied(upto=2)) == []
    assert f.take(e.Copied(upto=3)) == ["apply a"]


def test_if_it_cannot_be_copied_a_person_is_asked() -> None:
    f = Folding(step("a", uses="fake.final"))
    f.prepared("a")
    assert f.take(e.Copied(upto=3, error="bucket does not answer")) == ["ask a"]
    assert f.asked("a") == []
    assert f.state.phase == "waiting"
    assert f.answered("a", MAX) == ["apply a"]


def test_what_had_an_intent_and_no_result_is_looked_at_after_a_crash() -> None:
    f = Folding(step("a"), step("b"), step("c", uses="fake.value"), step("d", uses="fake.final"))
    f.prepared("a")
    f.prepared("d")
    assert f.resumed() == ["recover a", "prepare b", "observe c", "copy d"]
    assert f.done("a", adopted=True) == []
    assert f.state.steps["a"].adopted


@pytest.mark.parametrize(("uses", "command"), [("fake.put", "apply a"), ("fake.put-once", "apply a")])
def test_absent_after_a_crash_is_applied_again_where_that_is_safe(uses: str, command: str) -> None:
    f = Folding(step("a", uses=uses))
    f.prepared("a")
    f.resumed()
    assert f.absent("a") == [command]


def test_absent_after_a_crash_is_put_to_a_person_where_it_is_not() -> None:
    f = Folding(step("a", uses="fake.put-ask"))
    f.prepared("a")
    f.resumed()
    assert f.absent("a") == []
    assert f.status("a") == "uncertain"
    assert f.state.phase == "paused"
    assert f.state.blocks()[0].command == "drkit inspect k7qd a"
    assert f.take(order("resolve", "a", as_="not-done")) == ["recover a"]
    assert f.absent("a") == ["apply a"]
    assert f.done("a") == ["finish"]


def test_a_retry_after_an_unknown_outcome_looks_before_it_sends() -> None:
    f = Folding(step("a"))
    f.prepared("a")
    f.failed("a", world="unknown")
    assert f.take(order("retry", "a")) == ["recover a"]
    assert f.failed("a", world="untouched") == []
    assert f.take(order("retry", "a")) == ["recover a"]  # still: an attempt before may have reached the world


def test_timers_are_armed_again_after_a_crash() -> None:
    f = Folding(step("a", retry=Retry(times=1, backoff=4.0, jitter=0.0)))
    f.failed("a", world="untouched")
    (timer,) = f.commands(e.Resumed(by=MAX, host="there", wall=2e6))
    assert timer.args == {"timer": "retry a 1", "at_t": 4.0}
    assert f.take(e.Fired(timer="retry a 1")) == ["prepare a"]
    assert f.take(e.Fired(timer="retry a 1")) == []


def test_a_lost_lease_starts_nothing_new_until_it_is_held_again() -> None:
    f = Folding(step("a"), step("b", "a"))
    f.prepared("a")
    f.take(e.LeaseChanged(state="lost"))
    assert f.done("a") == []
    assert f.state.phase == "paused"
    assert f.state.blocks()[0].command == "drkit resume k7qd --take-over"
    assert f.take(e.LeaseChanged(state="held", token=8)) == ["prepare b"]
    assert f.state.fencing_token == 8


def test_what_was_not_sent_for_want_of_the_lease_is_sent_when_it_is_held_again() -> None:
    f = Folding(step("a"))
    f.prepared("a")
    f.take(e.LeaseChanged(state="lost"))
    assert f.failed("a", world="untouched") == []
    assert f.take(e.LeaseChanged(state="held")) == ["apply a"]


def test_a_missing_tail_makes_what_may_have_been_sent_doubtful() -> None:
    f = Folding(step("a"), step("b", "a"))
    f.whole("a")
    commands = f.commands(e.Resumed(by=MAX, host="there", wall=2e6, from_copy=True))
    assert [c.args.get("doubtful") for c in commands] == [True]


@pytest.mark.parametrize(("from_copy", "wanted"), [(True, "recover a"), (False, "copy a")])
def test_an_intent_that_waited_for_its_copy_is_looked_at_first_where_the_tail_is_missing(
    from_copy: bool, wanted: str
) -> None:
    f = Folding(step("a", uses="fake.final"))
    assert f.prepared("a") == ["copy a"]
    assert f.take(e.Resumed(by=MAX, host="there", wall=2e6, from_copy=from_copy)) == [wanted]


def test_orders_given_before_the_start_count_for_the_first_step() -> None:
    f = Folding(step("a"), step("b", "a"), begin=False)
    f.take(order("skip", "a"))
    assert f.take(e.Began(by=MAX)) == ["prepare b"]


def test_references_are_filled_in_with_what_was_observed() -> None:
    f = Folding(step("a"), step("b", "a", params={"name": "b", "to": "${ steps.a.value }"}))
    f.prepared("a")
    (command,) = f.commands(e.Done(step="a", attempt=1, after=LOOK))
    assert command.args["params"] == {"name": "b", "to": 1}


def test_a_reference_that_cannot_be_filled_in_fails_the_step_and_not_the_run() -> None:
    def broken(params: object, scope: object) -> dict[str, object]:
        raise Unobservable("steps.a has no answer")

    one = plan(step("b", params={"name": "${ steps.a.value }"}))
    run = Run(one, render=broken)
    (command,) = run.take(e.Began(by=MAX))
    assert "steps.a has no answer" in str(command.args["broken"])


def test_when_says_no() -> None:
    f = Folding(step("a", when="params.x"), step("b", "a"))
    assert f.take(e.NotNeeded(step="a", attempt=1, why="params.x is false")) == ["prepare b"]
    assert f.status("a") == "skipped"


def test_a_replay_arrives_at_the_same_state_and_the_same_commands() -> None:
    f = Folding(step("a"), step("b", "a"))
    f.whole("a")
    rows, run, head = [], Run(f.plan), GENESIS
    for seq, fact in enumerate(f.facts, 1):
        rows.append(Row.link(seq, "", fact, run.take(fact), head))
        head = rows[-1].hash
    again = replay(rows)
    assert {s.id: s.status for s in again.state.steps.values()} == {s.id: s.status for s in f.state.steps.values()}
    assert list(compare(rows)) == []
    rows[-1] = Row.link(rows[-1].seq, "", rows[-1].fact, (), rows[-1].prev)
    (difference,) = compare(rows)
    assert difference.row.seq == len(rows)
    assert [c.verb for c in difference.now] == ["prepare"]


def test_no_two_steps_of_a_run_share_an_idempotency_token() -> None:
    """What an API created for one of them must not pass for the other's; plain names keep the token they had."""
    names = ("a-b", "a_b", "a/b", "undo:a-b", "undo-a-b")
    tokens = {step_token("k7qd", name) for name in names}
    assert len(tokens) == len(names)
    assert step_token("k7qd", "a-b") == "drkit-k7qd-a-b"
    assert all(set(token) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for token in tokens)


def test_an_expression_may_read_results_and_parameters_together() -> None:
    f = Folding(
        step("a"), step("b", "a", params={"name": "b", "to": "${ steps.a.value + params.extra }"}),
        parameters={"extra": 2},
    )  # fmt: skip
    f.prepared("a")
    (command,) = f.commands(e.Done(step="a", attempt=1, after=LOOK))
    assert command.args["params"] == {"name": "b", "to": 3}
