"""What people may say to a run, what it does, and why it is refused."""

from __future__ import annotations

from typing import Any

import pytest
from engine_fakes import DANA, LEE, LOOK, MAX, Folding, approve, gate, order, step

from drkit.engine.refusals import why_not
from drkit.model import events as e
from drkit.model.values import Json


def refusal(f: Folding, fact: e.Fact) -> str:
    """Why it is refused; and it must change nothing."""
    why = why_not(fact, f.state)
    assert why is not None
    before = {s.id: s.phase for s in f.state.steps.values()}
    assert f.take(fact) == []
    assert {s.id: s.phase for s in f.state.steps.values()} == before
    return why


def asked(**params: Any) -> Folding:
    f = Folding(gate("go", **params), step("b", "go"))
    assert f.first == ["ask go"]
    f.asked("go")
    return f


def test_an_approval_in_the_right_role_opens_the_gate() -> None:
    f = asked()
    assert f.state.phase == "waiting"
    assert f.answered("go", DANA) == ["prepare b"]
    assert f.state.results["go"] == {"approved_by": ["dana"], "role": "ic"}


def test_two_approvals_need_two_different_persons() -> None:
    f = asked(approvals=2)
    assert f.answered("go", DANA) == []
    assert "already approved" in refusal(f, approve(f.state, "go", DANA))
    same_user: dict[str, object] = {**DANA, "name": "dana-with-another-name"}
    assert "already approved" in refusal(f, approve(f.state, "go", same_user))  # type: ignore[arg-type]
    assert f.answered("go", LEE) == ["prepare b"]


def test_a_wrong_role_is_refused_whatever_role_is_claimed() -> None:
    f = asked()
    assert "role ic" in refusal(f, approve(f.state, "go", MAX))
    assert "role ic" in refusal(f, approve(f.state, "go", DANA, role="dba"))


def test_an_approval_is_void_when_the_plan_or_what_was_shown_changed() -> None:
    f = asked(loss=4.0)
    assert "another plan" in refusal(f, approve(f.state, "go", DANA, plan_hash="sha256:1"))
    assert "has changed" in refusal(f, approve(f.state, "go", DANA, shown_hash="sha256:1"))


def test_what_is_shown_is_filled_in_and_bound_to() -> None:
    f = Folding(step("a"), gate("go", "a", loss="${ steps.a.value }", show={"seen": "${ steps.a.value }"}))
    assert f.whole("a") == ["ask go"]
    f.asked("go")
    ask = f.state.steps["go"].ask
    assert ask is not None and ask.shown == {"seen": 1, "loss_s": 1}


def test_a_rejection_pauses_the_run_and_the_question_can_be_put_again() -> None:
    f = asked()
    assert f.answered("go", DANA, "reject") == []
    assert f.status("go") == "failed"
    assert "rejected by dana" in f.state.blocks()[0].reason
    assert "not waiting" in refusal(f, e.Answered(step="go", answer="approve", by=DANA, role="ic", reason="",
                                                  plan_hash="", shown_hash=""))  # fmt: skip
    assert f.take(order("retry", "go")) == ["ask go"]


def test_an_answer_must_come_in_time_and_an_old_timer_does_not_count() -> None:
    f = asked(timeout=60.0)
    f.answered("go", DANA, "reject")
    f.take(order("retry", "go"))
    f.asked("go")
    assert f.take(e.Fired(timer="ask go 1")) == []
    assert f.status("go") == "waiting"
    f.take(e.Fired(timer="ask go 2"))
    assert f.status("go") == "failed"
    assert "nobody answered within 60 s" in str(f.state.steps["go"].error)


def test_a_drills_policy_answers_gates_and_counts_for_all_persons() -> None:
    f = Folding(gate("go", approvals=2), step("b", "go"), policy={"name": "nightly", "ic": "approve"})
    assert f.asked("go")[-1] == "answer go"
    policy: dict[str, object] = {"name": "nightly", "uid": None, "how": "drill policy nightly"}
    assert f.answered("go", policy) == ["prepare b"]  # type: ignore[arg-type]


def test_a_policy_says_nothing_about_roles_it_does_not_name() -> None:
    f = Folding(gate("go", role="dba"), policy={"name": "nightly", "ic": "approve"})
    assert f.asked("go") == ["timer go"]


def failed_fence() -> Folding:
    steps = step("fence", uses="fake.fence"), step("promote", "fence", promotes=True), step("b", "promote")
    f = Folding(*steps, policy={"name": "n", "*": "approve"}, drill=True)
    f.prepared("fence")
    f.failed("fence", world="untouched")
    return f


def test_two_persons_override_a_fence_with_the_stated_loss() -> None:
    f = failed_fence()
    assert f.take(order("override-fence", "fence", DANA, loss_s=12.0)) == ["ask fence"]
    assert "answer fence" not in f.asked("fence")  # no policy ever answers this
    again = order("override-fence", "fence", DANA, loss_s=12.0)
    assert "another person" in refusal(f, again)
    assert "must state the same" in refusal(f, order("override-fence", "fence", LEE, loss_s=3.0))
    assert f.take(order("override-fence", "fence", LEE, loss_s=12.0)) == ["prepare promote"]
    assert [p["name"] for p in f.state.steps["fence"].overridden] == ["dana", "lee"]
    assert f.state.overrides[0]["loss_s"] == 12.0


def test_the_second_person_may_also_approve_what_is_shown() -> None:
    f = failed_fence()
    f.take(order("override-fence", "fence", DANA, loss_s=12.0))
    f.asked("fence")
    assert "already" in refusal(f, approve(f.state, "fence", DANA))
    policy: dict[str, object] = {"name": "n", "how": "drill policy n"}
    assert "gates only" in refusal(f, approve(f.state, "fence", policy))  # type: ignore[arg-type]
    assert f.answered("fence", LEE) == ["prepare promote"]


def test_a_fence_is_overridden_only_after_it_failed_and_only_with_a_loss() -> None:
    f = failed_fence()
    assert "state the loss" in refusal(f, order("override-fence", "fence", DANA))
    other = Folding(step("a"))
    other.failed("a")
    assert "not a fence" in refusal(other, order("override-fence", "a", DANA, loss_s=1.0))
    policy: dict[str, object] = {"name": "n", "how": "drill policy n"}
    assert "never overrides" in refusal(f, order("override-fence", "fence", policy, loss_s=1.0))  # type: ignore[arg-type]
    running = Folding(step("fence", uses="fake.fence"))
    assert "only a fence that failed" in refusal(running, order("override-fence", "fence", DANA, loss_s=1.0))


def test_whoever_has_no_role_in_the_environment_overrides_nothing() -> None:
    f = failed_fence()
    assert "two persons of drkit.toml" in refusal(f, order("override-fence", "fence", MAX, loss_s=12.0))
    f.take(order("override-fence", "fence", DANA, loss_s=12.0))
    f.asked("fence")
    assert "you are not one of them" in refusal(f, order("override-fence", "fence", MAX, loss_s=12.0))
    assert "you are not one of them" in refusal(f, approve(f.state, "fence", MAX))


def test_who_promotes_is_told_of_the_override_and_nobody_else_is() -> None:
    f = failed_fence()
    f.take(order("override-fence", "fence", DANA, loss_s=12.0))
    f.asked("fence")
    (prepare,) = f.commands(order("override-fence", "fence", LEE, loss_s=12.0))
    assert prepare.args["overrides"] == [
        {"step": "fence", "params": {"name": "fence", "to": 1}, "by": ["dana", "lee"], "loss_s": 12.0}
    ]
    f.prepared("promote")
    resumed = f.commands(e.Resumed(by=DANA, host="there", wall=1.0))
    assert [c.args.get("overrides") for c in resumed if c.verb == "recover"] == [prepare.args["overrides"]]
    (b,) = f.commands(e.Done(step="promote", attempt=f.attempt("promote"), after=LOOK))
    assert "overrides" not in b.args


def test_no_less_is_accepted_than_an_earlier_step_saw_would_be_lost() -> None:
    f = Folding(step("positions", uses="fake.value"), step("fence", "positions", uses="fake.fence"))
    seen: dict[str, Json] = {"at": "", "origin": "", "value": {"loss_s": 4.5}}
    f.take(e.Done(step="positions", attempt=1, after=seen, params={}))
    f.prepared("fence")
    f.failed("fence", world="untouched")
    assert "positions saw that 4.5 s" in refusal(f, order("override-fence", "fence", DANA, loss_s=4.0))
    f.take(order("override-fence", "fence", DANA, loss_s=5.0))
    f.asked("fence")
    ask = f.state.steps["fence"].ask
    assert ask is not None
    assert ask.shown == {"loss_s": 5.0, "loss_seen_s": {"positions": 4.5}, "fence": "broke", "asked_by": "dana"}
    assert "5.0 s of writes lost, as dana stated" in f.state.blocks()[0].reason


def test_a_fence_that_failed_names_the_way_past_it() -> None:
    retry, past = failed_fence().state.blocks()
    assert retry.command == "drkit retry k7qd fence"
    assert past.command.startswith("drkit override-fence k7qd fence --accept-data-loss DUR")


@pytest.mark.parametrize("verb", ["skip", "resolve"])
def test_a_fence_is_never_skipped_or_taken_for_done(verb: str) -> None:
    f = failed_fence()
    assert refusal(f, order(verb, "fence", DANA, as_="done"))


def test_a_fence_declared_done_by_hand_must_be_observed() -> None:
    f = failed_fence()
    assert f.take(order("done", "fence")) == ["recover fence"]
    assert f.absent("fence") == []
    assert f.status("fence") == "failed"
    assert "overridden with the stated loss" in str(f.state.steps["fence"].reason)
    f.take(order("done", "fence"))
    assert f.done("fence", adopted=True) == ["prepare promote"]


def test_no_condition_skips_a_fence() -> None:
    f = Folding(step("fence", uses="fake.fence", when="false"), step("promote", "fence"))
    assert f.take(e.NotNeeded(step="fence", attempt=1, why="false")) == []
    assert f.status("fence") == "failed"


def test_pause_lets_what_runs_end_and_resume_goes_on() -> None:
    f = Folding(step("a"), step("b", "a"))
    f.prepared("a")
    f.take(order("pause"))
    assert f.state.phase == "pausing"
    assert f.done("a") == []
    assert f.state.phase == "paused"
    assert "paused already" in refusal(f, order("pause"))
    assert f.take(order("resume")) == ["prepare b"]


def test_an_intent_that_comes_after_a_pause_is_not_sent() -> None:
    f = Folding(step("a"))
    f.take(order("pause"))
    assert f.prepared("a") == []
    assert f.resumed() == []  # nothing was sent: nothing to look for
    assert f.take(order("resume")) == ["apply a"]


def test_skip_waits_for_the_steps_own_needs() -> None:
    f = Folding(step("a"), step("b", "a"), step("c", "b"))
    assert f.take(order("skip", "b")) == []
    assert f.whole("a") == ["prepare c"]
    assert f.status("b") == "skipped"
    assert "is running" in refusal(f, order("skip", "c"))
    assert "did you mean" in refusal(f, order("skip", "bb"))


def test_an_approval_is_not_skipped() -> None:
    f = Folding(step("a"), gate("go", "a"))
    assert "drkit approve" in refusal(f, order("skip", "go"))


def test_resume_can_retry_all_that_failed() -> None:
    f = Folding(step("a"), step("b"))
    f.failed("a", world="untouched")
    f.failed("b", world="untouched")
    assert f.take(order("resume", retry_failed=True)) == ["prepare a", "prepare b"]


def test_retry_with_changed_parameters_is_approved_again_where_they_were_approved() -> None:
    f = Folding(gate("go"), step("b", "go"))
    f.asked("go")
    f.answered("go", DANA)
    f.failed("b", world="untouched")
    assert f.take(order("retry", "b", set={"to": 5})) == ["ask b"]
    f.asked("b")
    assert "role ic" in refusal(f, approve(f.state, "b", MAX))
    (command,) = f.commands(approve(f.state, "b", LEE))
    assert command.args["params"] == {"name": "b", "to": 5}


def test_retry_with_changed_parameters_goes_on_where_nobody_approved_any() -> None:
    f = Folding(step("b"))
    f.prepared("b")
    f.failed("b")
    (command,) = f.commands(order("retry", "b", set={"to": 5}))
    assert (command.verb, command.args["params"]) == ("recover", {"name": "b", "to": 5})


def test_done_by_hand_is_believed_if_the_check_holds() -> None:
    f = Folding(step("a"), step("b", "a"))
    f.prepared("a")
    f.failed("a")
    (command,) = f.commands(order("done", "a"))
    assert (command.verb, command.args["once"]) == ("recover", True)
    assert f.done("a", adopted=True) == ["prepare b"]
    assert f.state.steps["a"].by_hand == DANA


def test_done_by_hand_takes_a_second_person_if_it_does_not() -> None:
    f = Folding(step("a"), step("b", "a"))
    f.prepared("a")
    f.failed("a")
    f.take(order("done", "a"))
    assert f.absent("a") == ["ask a"]
    f.asked("a")
    assert "already" in refusal(f, approve(f.state, "a", DANA))
    assert f.answered("a", MAX) == ["prepare b"]


def test_only_the_uncertain_is_resolved_and_only_the_failed_retried() -> None:
    f = Folding(step("a"))
    f.prepared("a")
    assert "is running" in refusal(f, order("resolve", "a", as_="done"))
    f.uncertain("a")
    assert "drkit resolve k7qd a" in refusal(f, order("retry", "a"))
    assert "--as done or --as not-done" in refusal(f, order("resolve", "a"))
    assert f.take(order("resolve", "a", as_="done")) == ["finish"]


def test_until_stops_there_and_resume_goes_on() -> None:
    f = Folding(step("a"), step("b", "a"), step("c", "b"), step("x"), begin=False)
    f.take(order("until", "b"))
    assert f.take(e.Began(by=DANA)) == ["prepare a"]
    assert f.whole("a") == ["prepare b"]
    assert f.whole("b") == []
    assert f.state.phase == "paused"
    assert f.state.blocks()[0].reason == "stops after b, as ordered"
    assert sorted(f.take(order("resume"))) == ["prepare c", "prepare x"]


def test_from_skips_what_does_not_follow_but_no_fence() -> None:
    f = Folding(step("a"), step("b", "a"), step("c", "b"), begin=False)
    f.take(order("from", "b"))
    assert f.take(e.Began(by=DANA)) == ["prepare b"]
    fenced = Folding(step("f", uses="fake.fence"), step("b", "f"), begin=False)
    assert "never skipped" in refusal(fenced, order("from", "b"))


def test_one_step_at_a_time_asks_before_each() -> None:
    f = Folding(step("a"), step("b", "a"), begin=False)
    f.take(order("step"))
    assert f.take(e.Began(by=DANA)) == ["ask a"]
    f.asked("a")
    assert f.answered("a", DANA) == ["prepare a"]
    assert f.whole("a") == ["ask b"]


def test_nothing_is_ordered_of_a_run_that_has_ended() -> None:
    f = Folding(step("a"))
    f.whole("a")
    f.take(e.Finished(outcome="done"))
    assert "has ended (done)" in refusal(f, order("pause"))
    assert "no order" in refusal(f, order("dance"))


def test_notes_are_kept() -> None:
    f = Folding(step("a"))
    f.take(e.Noted(text="AWS confirms", by=DANA))
    assert [n["text"] for n in f.state.notes] == ["AWS confirms"]


def test_a_question_that_was_cut_off_is_put_again_as_it_was() -> None:
    """Answered with yes it does what it asked about; it never turns into an approval of the step itself."""
    f = Folding(step("a", uses="fake.final"), step("b", "a"))
    f.prepared("a")
    assert f.take(e.Copied(upto=3, error="the bucket is down")) == ["ask a"]
    assert f.resumed() == ["ask a"]
    ask = f.state.steps["a"].ask
    assert ask is not None and ask.purpose == "uncopied" and ask.shown["error"] == "the bucket is down"
    f.asked("a")
    assert f.answered("a", DANA) == ["apply a"]
    assert f.status("a") == "running" and f.status("b") == "pending"


def test_an_override_that_was_cut_off_keeps_its_first_voice_and_the_loss() -> None:
    f = Folding(step("a", uses="fake.fence"))
    f.prepared("a")
    f.failed("a")
    assert f.take(order("override-fence", "a", DANA, loss_s=3.0)) == ["ask a"]
    assert f.resumed() == ["ask a"]
    f.asked("a")
    assert "already" in refusal(f, approve(f.state, "a", DANA))
    f.answered("a", LEE)
    assert f.status("a") == "done" and f.state.overrides[0]["loss_s"] == 3.0


BEA: dict[str, Json] = {"name": "bea", "uid": 1004, "how": "unix socket peer", "roles": ["dba"]}
ESCALATE: list[Json] = [{"after": 60.0, "role": "dba"}, {"after": 120.0, "role": "cto"}]


def test_when_nobody_answers_the_next_role_is_asked_too() -> None:
    f = Folding(gate("go", timeout=600.0, escalate=ESCALATE), step("b", "go"))
    assert f.asked("go") == ["timer go", "timer go", "timer go"]
    assert "role ic" in refusal(f, approve(f.state, "go", BEA, role="dba"))
    f.t = 60.0
    assert f.take(e.Fired(timer="escalate go 1 0")) == []
    assert "ic or dba, as ic has not answered" in f.state.blocks()[0].reason
    assert "role ic or dba" in refusal(f, approve(f.state, "go", MAX, role="cto"))
    assert f.answered("go", BEA, role="dba") == ["prepare b"]


def test_those_asked_first_may_still_answer_after_an_escalation() -> None:
    f = Folding(gate("go", approvals=2, escalate=ESCALATE), step("b", "go"))
    f.asked("go")
    f.take(e.Fired(timer="escalate go 1 0"))
    assert f.answered("go", BEA, role="dba") == []
    assert f.answered("go", DANA) == ["prepare b"]


def test_the_last_timeout_stays_and_a_new_question_escalates_anew() -> None:
    f = Folding(gate("go", timeout=600.0, escalate=ESCALATE))
    f.asked("go")
    f.take(e.Fired(timer="escalate go 1 0"))
    f.take(e.Fired(timer="ask go 1"))
    assert f.status("go") == "failed"
    assert f.take(e.Fired(timer="escalate go 1 1")) == []
    assert f.take(order("retry", "go")) == ["ask go"]
    f.asked("go")
    ask = f.state.steps["go"].ask
    assert ask is not None and ask.roles == ("ic",)


def test_timers_that_ran_out_while_the_runner_was_suspended_may_come_in_any_order() -> None:
    f = Folding(gate("go", escalate=ESCALATE))
    f.asked("go")
    f.take(e.Fired(timer="escalate go 1 1"))
    f.take(e.Fired(timer="escalate go 1 0"))
    ask = f.state.steps["go"].ask
    assert ask is not None and ask.roles == ("ic", "dba", "cto")


def test_an_escalation_outlives_the_runner() -> None:
    f = Folding(gate("go", escalate=ESCALATE))
    f.asked("go")
    f.take(e.Fired(timer="escalate go 1 0"))
    assert f.resumed() == ["timer go", "timer go"]
    f.take(e.Fired(timer="escalate go 1 1"))
    ask = f.state.steps["go"].ask
    assert ask is not None and ask.roles == ("ic", "dba", "cto")


def test_a_drills_policy_answers_for_the_role_that_is_asked_later() -> None:
    f = Folding(gate("go", escalate=ESCALATE), policy={"name": "nightly", "dba": "approve"})
    assert "answer go" not in f.asked("go")
    (answer,) = f.commands(e.Fired(timer="escalate go 1 0"))
    assert (answer.verb, answer.args["role"]) == ("answer", "dba")


def test_a_gate_whose_terms_came_out_wrong_fails_and_does_not_stop_the_run() -> None:
    f = Folding(step("a"), gate("go", "a", approvals="${ steps.a.value.many }"))
    assert f.whole("a") == ["ask go"]
    f.take(e.Failed(step="go", attempt=1, error="cannot be filled in", world="untouched"))
    assert f.state.phase == "paused"


def test_a_run_pauses_when_its_deadline_passes_and_what_was_sent_goes_on() -> None:
    f = Folding(step("a"), step("b", "a"), deadline_s=300.0)
    assert f.first == ["timer", "prepare a"]
    f.prepared("a")
    f.t = 300.0
    assert f.take(e.Fired(timer="deadline")) == []  # nothing is cancelled
    assert f.state.phase == "pausing"
    assert f.done("a") == []
    assert f.state.phase == "paused"
    assert f.state.overdue and "deadline of 5:00 has passed" in f.state.blocks()[-1].reason
    assert f.take(order("resume")) == ["prepare b"]


def test_a_deadline_means_nothing_to_a_run_that_is_over_or_being_taken_back() -> None:
    f = Folding(step("a"), step("b", "a"), deadline_s=300.0)
    f.whole("a", undo={"uses": "fake.put", "params": {"name": "a", "to": 0}, "repeat": "safe"})
    assert "prepare undo:a" in f.take(order("abort", rollback=True)) + f.take(
        e.Interrupted(step="b", attempt=1, sent=False)
    )
    assert f.take(e.Fired(timer="deadline")) == []
    assert f.state.paused is None


def test_a_deadline_is_armed_again_by_whoever_resumes() -> None:
    f = Folding(step("a"), deadline_s=300.0)
    assert f.resumed() == ["prepare a", "timer"]


def test_who_saw_that_it_was_not_done_ends_the_doubt_of_a_missing_tail() -> None:
    f = Folding(step("a", uses="fake.put-ask"))
    f.resumed(from_copy=True)
    f.uncertain("a")
    (command,) = f.commands(order("resolve", "a", as_="not-done"))
    assert command.verb == "prepare" and "doubtful" not in command.args
