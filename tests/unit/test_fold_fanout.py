"""What the fold does about steps that stand for several: joins, lists known only in the run, conditions."""

from __future__ import annotations

from typing import Any

import pytest
from engine_fakes import DANA, LEE, LOOK, Folding, approve, gate, order, step

from drkit.engine.fold import Run
from drkit.engine.refusals import why_not
from drkit.engine.state import Status
from drkit.model import events as e
from drkit.model.plan import Join, PlanScope, PlanStep
from drkit.model.values import Json


def join(id: str, *needs: str, **join: Any) -> PlanStep:
    more = {key: join.pop(key) for key in ("fences", "on_failure") if key in join}
    of = join.pop("of", "items")
    return PlanStep(id=id, number=1, uses="x", kind="join", needs=needs, join=Join(of=of, **join), **more)


SCOPE = {"all/*": PlanScope(item=True)}


def spreading(*, fences: bool = False, uses: str = "fake.put", at_once: int | None = None, **more: Any) -> Folding:
    """`find` sees a list; `all` is done for each entry; `last` follows."""
    body = step("all/*", "find", uses=uses, params={"name": "${ each }", "to": "${ index }"}, scope="all/*", **more)
    return Folding(
        step("find"),
        join("all", "find", over="${ steps.find.value }", body=(body,), at_once=at_once, fences=fences),
        step("last", "all", params={"name": "last", "seen": "${ steps.all }"}),
        scopes=SCOPE,
    )  # fmt: skip


def found(f: Folding, *items: Json) -> list[str]:
    f.prepared("find")
    look: dict[str, Json] = {**LOOK, "value": {"value": list(items)}}
    return f.take(e.Done(step="find", attempt=1, after=look))


def test_a_list_becomes_steps_when_it_is_known_and_the_result_is_the_list_of_theirs() -> None:
    f = spreading()
    assert found(f, "a", "b") == ["prepare all/a", "prepare all/b"]
    f.whole("all/a")
    assert f.status("all") == "pending"
    f.prepared("all/b")
    (command,) = f.commands(e.Done(step="all/b", attempt=1, after=LOOK))
    assert (command.verb, command.step) == ("prepare", "last")
    assert command.args["params"] == {"name": "last", "seen": [{"value": 1}, {"value": 1}]}
    assert f.whole("last") == ["finish"]


def test_an_entrys_command_needs_no_plan_and_reads_the_entry() -> None:
    f = spreading(verify="now.value == index")
    f.prepared("find")
    one, two = f.commands(e.Done(step="find", attempt=1, after={**LOOK, "value": {"value": ["a", "b"]}}))
    assert (one.args["params"], two.args["params"]) == ({"name": "a", "to": 0}, {"name": "b", "to": 1})
    assert two.args["scope"] == {"params": {}, "each": "b", "index": 1}
    assert PlanStep.model_validate(two.args["as"]).id == "all/b"
    assert one.args["token"] != two.args["token"]


def test_an_empty_list_is_done_at_once() -> None:
    f = spreading()
    assert found(f) == ["prepare last"]
    assert (f.status("all"), f.state.results["all"]) == ("done", [])


def test_what_is_no_list_is_a_failure_that_can_be_retried() -> None:
    f = spreading()
    f.prepared("find")
    assert f.done("find") == []  # the fake answers 1
    assert f.status("all") == "failed"
    assert f.state.phase == "paused"
    assert why_not(order("retry", "all", set={"x": 1}), f.state) is not None
    assert why_not(order("done", "all"), f.state) is not None
    assert f.take(order("retry", "all")) == []
    assert f.take(order("skip", "all")) == ["prepare last"]


def test_no_more_than_so_many_at_once() -> None:
    f = spreading(at_once=1)
    assert found(f, "a", "b", "c") == ["prepare all/a"]
    assert f.whole("all/a") == ["prepare all/b"]
    assert f.whole("all/b") == ["prepare all/c"]
    assert f.whole("all/c") == ["prepare last"]


def test_a_fence_over_a_list_is_done_for_every_entry_and_never_for_none() -> None:
    f = spreading(fences=True, uses="fake.fence")
    found(f, "a", "b")
    f.whole("all/a")
    f.prepared("all/b")
    f.failed("all/b")
    assert f.status("last") == "pending"
    assert "fence" in (why_not(order("skip", "all/b"), f.state) or "")
    assert "fence" in (why_not(order("skip", "all"), f.state) or "")
    nobody = spreading(fences=True, uses="fake.fence")
    found(nobody)
    assert nobody.status("all") == "failed"
    assert "nothing would be fenced" in (nobody.state.steps["all"].error or "")
    assert "fence" in (why_not(order("skip", "all"), nobody.state) or "")


def test_an_empty_fence_takes_two_persons() -> None:
    f = spreading(fences=True, uses="fake.fence")
    found(f)
    assert f.take(order("override-fence", "all", loss_s=3.0)) == ["ask all"]
    f.asked("all")
    assert f.take(order("override-fence", "all", LEE, loss_s=3.0)) == ["prepare last"]


def test_one_entry_is_retried_or_skipped_and_the_others_go_on() -> None:
    f = spreading()
    found(f, "a", "b")
    f.prepared("all/a")
    f.failed("all/a", world="untouched")
    assert f.whole("all/b") == []
    assert f.take(order("retry", "all/a")) == ["apply all/a"]
    f.failed("all/a", world="untouched")
    assert f.take(order("skip", "all/a")) == ["prepare last"]
    assert f.state.results["all"] == [None, {"value": 1}]


def test_skipping_the_whole_skips_what_has_not_begun_and_is_refused_while_some_of_it_runs() -> None:
    f = spreading(at_once=1)
    found(f, "a", "b")
    assert "all/a is running" in (why_not(order("skip", "all"), f.state) or "")
    f.prepared("all/a")
    f.failed("all/a", world="untouched")
    assert f.take(order("skip", "all")) == ["prepare last"]
    assert [f.status(id) for id in ("all/a", "all/b", "all")] == ["skipped"] * 3


def test_entries_are_taken_back_in_reverse_and_before_what_they_needed() -> None:
    f = spreading(at_once=1)
    undo: dict[str, Json] = {"uses": "fake.put", "params": {"name": "x", "to": 0}, "repeat": "safe"}
    f.prepared("find", undo)
    f.take(e.Done(step="find", attempt=1, after={**LOOK, "value": {"value": ["a", "b"]}}, undo=undo))
    f.whole("all/a", undo)
    f.whole("all/b", undo)
    f.take(e.Interrupted(step="last", attempt=1, sent=False))
    assert f.take(order("abort", rollback=True)) == ["prepare undo:all/b"]
    assert f.whole("undo:all/b") == ["prepare undo:all/a"]
    assert f.whole("undo:all/a") == ["prepare undo:find"]
    assert f.whole("undo:find") == ["finish"]


def test_a_run_that_stops_after_the_whole_does_all_of_it() -> None:
    f = spreading()
    f.take(order("until", "all"))
    assert found(f, "a", "b") == ["prepare all/a", "prepare all/b"]
    f.whole("all/a")
    assert f.whole("all/b") == []
    assert f.status("all") == "done" and f.state.phase == "paused"


def test_after_a_crash_the_same_steps_stand_where_they_stood() -> None:
    f = spreading()
    found(f, "a", "b")
    f.prepared("all/a")
    assert f.resumed() == ["recover all/a", "prepare all/b"]
    again = Run(f.plan)
    for fact in f.facts:
        again.take(fact)
    assert [s.id for s in again.state.steps.values()] == [s.id for s in f.state.steps.values()]


def test_a_list_is_not_looked_at_any_more_when_the_run_is_being_aborted() -> None:
    f = spreading()
    f.prepared("find")
    f.take(order("abort"))
    look: dict[str, Json] = {**LOOK, "value": {"value": ["a"]}}
    assert f.take(e.Done(step="find", attempt=1, after=look)) == ["finish"]
    assert "all/a" not in f.state.steps


def test_a_list_of_lists() -> None:
    inner = step("all/*/in/*", "all/*/pick", params={"name": "${ each }"}, scope="all/*/in/*")
    body = (
        step("all/*/pick", "find", params={"name": "${ params.it }"}, scope="all/*"),
        join("all/*/in", "all/*/pick", over="${ steps.pick.value }", body=(inner,)).model_copy(
            update={"scope": "all/*"}
        ),
        join("all/*", "all/*/pick", "all/*/in", of="runbook"),
    )
    scopes = {
        "all/*": PlanScope(item=True, runbook="r", later={"it": "${ each }"}),
        "all/*/in/*": PlanScope(item=True, outer="all/*"),
    }
    f = Folding(step("find"), join("all", "find", over="${ steps.find.value }", body=body), scopes=scopes)
    assert found(f, "a", "b") == ["prepare all/a/pick", "prepare all/b/pick"]
    f.take(e.Prepared(step="all/a/pick", attempt=1, params={"name": "a"}, before=LOOK))
    look: dict[str, Json] = {**LOOK, "value": {"value": ["x", "y"]}}
    one, two = f.commands(e.Done(step="all/a/pick", attempt=1, after=look))
    assert (one.step, one.args["params"]) == ("all/a/in/x", {"name": "x"})
    assert (two.step, two.args["params"]) == ("all/a/in/y", {"name": "y"})
    f.whole("all/a/in/x")
    f.whole("all/a/in/y")
    assert f.state.results["all/a"] == {"pick": {"value": ["x", "y"]}, "in": [{"value": 1}, {"value": 1}]}


# Nested runbooks


def conditional() -> Folding:
    return Folding(
        step("a"),
        PlanStep(id="n/_when", number=1, uses="runbook/n", kind="when", needs=("a",), when="steps.a.value == 1"),
        step("n/x", "n/_when", scope="n", params={"name": "${ params.it }"}),
        step("n/y", "n/x", scope="n", params={"name": "${ steps.x.value }-${ params.seen }"}),
        join("n", "n/x", "n/y", of="runbook"),
        step("b", "n"),
        scopes={"n": PlanScope(runbook="n", parameters={"it": "it"}, later={"seen": "${ steps.a.value }"})},
    )


def test_a_nested_runbook_reads_its_own_steps_and_parameters() -> None:
    f = conditional()
    assert f.whole("a") == ["decide n/_when"]
    f.t = 1.0
    (command,) = f.commands(e.Done(step="n/_when", attempt=1, after=None))
    assert command.args["params"] == {"name": "it"}
    f.prepared("n/x")
    (command,) = f.commands(e.Done(step="n/x", attempt=1, after=LOOK))
    assert command.args["params"] == {"name": "1-1"}
    assert f.whole("n/y") == ["prepare b"]
    assert f.state.results["n"] == {"x": {"value": 1}, "y": {"value": 1}}


def test_a_condition_that_is_false_skips_the_whole_runbook() -> None:
    f = conditional()
    f.whole("a")
    assert f.take(e.NotNeeded(step="n/_when", attempt=1, why="when: no")) == ["prepare b"]
    assert [f.status(id) for id in ("n/_when", "n/x", "n/y", "n")] == ["skipped"] * 4
    assert f.state.steps["n"].reason == "when: no"


def test_a_condition_nobody_can_tell_waits_for_a_person() -> None:
    f = conditional()
    f.whole("a")
    f.take(e.Failed(step="n/_when", attempt=1, error="unknown", world="untouched"))
    assert "drkit skip k7qd n" in (why_not(order("skip", "n/_when"), f.state) or "")
    assert why_not(order("done", "n/_when"), f.state) is not None
    assert f.take(order("retry", "n/_when")) == ["decide n/_when"]
    assert f.resumed() == ["decide n/_when"]
    f.take(e.Failed(step="n/_when", attempt=2, error="unknown", world="untouched"))
    assert f.take(order("skip", "n")) == ["prepare b"]
    assert f.status("n") == "skipped"


def test_a_whole_with_an_approval_in_it_is_not_skipped() -> None:
    f = Folding(step("a"), gate("n/go", "a"), join("n", "n/go", of="runbook"))
    assert "approval" in (why_not(order("skip", "n"), f.state) or "")
    f.whole("a")
    f.asked("n/go")
    f.take(approve(f.state, "n/go", DANA))
    assert f.status("n") == "done"


def undecided() -> Folding:
    return Folding(
        PlanStep(id="n/_when", number=1, uses="runbook/n", kind="when", when="probes.load.value == 1"),
        gate("n/go", "n/_when"),
        step("n/x", "n/go"),
        join("n", "n/go", "n/x", of="runbook"),
        step("b", "n"),
    )


def test_a_whole_whose_condition_nobody_can_tell_is_skipped_with_the_approvals_in_it() -> None:
    f = undecided()
    f.take(e.Failed(step="n/_when", attempt=1, error="unknown", world="untouched"))
    assert f.take(order("skip", "n")) == ["prepare b"]
    assert (f.status("n/go"), f.status("n/x"), f.status("n")) == ("skipped", "skipped", "skipped")


def test_once_its_condition_is_decided_the_approvals_in_it_must_be_answered() -> None:
    f = undecided()
    f.take(e.Done(step="n/_when", attempt=1, after=None))
    assert "approval" in (why_not(order("skip", "n"), f.state) or "")


def test_a_whole_whose_condition_nobody_can_tell_keeps_its_fence() -> None:
    f = Folding(
        PlanStep(id="n/_when", number=1, uses="runbook/n", kind="when", when="probes.load.value == 1"),
        step("n/x", "n/_when", fences=True),
        join("n", "n/x", of="runbook"),
    )
    f.take(e.Failed(step="n/_when", attempt=1, error="unknown", world="untouched"))
    assert "fence" in (why_not(order("skip", "n"), f.state) or "")


def test_an_optional_step_that_failed_does_not_hold_the_whole_back_and_is_named() -> None:
    f = Folding(step("n/x", optional=True), step("n/y"), join("n", "n/x", "n/y", of="runbook"), step("b", "n"))
    f.prepared("n/x")
    f.failed("n/x")
    assert f.whole("n/y") == ["prepare b"]
    assert f.state.steps["n"].ended is Status.DONE
    assert f.state.steps["n"].reason == "failed, and optional: n/x"


@pytest.mark.parametrize("size", [200])
def test_a_long_list_costs_in_proportion_to_its_length(size: int) -> None:
    f = spreading()
    assert len(found(f, *range(size))) == size
    assert sum(len(s.dependents) for s in f.state.steps.values()) <= 3 * size + 3
