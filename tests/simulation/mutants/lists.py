"""Steps that stand for several, broken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from drkit.engine import compensation, fanout, moves, scoping
from drkit.engine.state import Status
from drkit.model.plan import Join
from simulation.mutants.mutant import Patch, mutant


@mutant
def do_all_entries_at_once() -> Sequence[Patch]:
    """A list that only the run knows is done all at once, whatever its `at_once`."""
    entries = fanout._entries

    def all_at_once(plan: Any, join: Join, items: Any) -> Any:
        return entries(plan, join.model_copy(update={"at_once": None}), items)

    return [(fanout, "_entries", all_at_once)]


@mutant
def give_every_entry_the_first() -> Sequence[Patch]:
    """What is done for any entry of a list is done to the first one."""
    open_scopes = fanout._open_scopes

    def first(run: Any, id: str, join: Any, root: str, item: Any, place: int) -> None:
        open_scopes(run, id, join, root, run.render({"over": join.over}, _seen(run, id))["over"][0], place)

    return [(fanout, "_open_scopes", first)]


def _seen(run: Any, id: str) -> Any:
    return scoping.visible(run, run.state.steps[id].plan.scope)


@mutant
def lose_the_last_entry() -> Sequence[Patch]:
    """The last entry of a list is left out."""
    begin = moves.Moves.__init__

    def short(self: Any, plan: Any, **more: Any) -> None:
        begin(self, plan, **more)
        whole = self.render
        self.render = lambda params, scope: _shortened(whole(params, scope))

    return [(moves.Moves, "__init__", short)]


def _shortened(rendered: Any) -> Any:
    return {"over": rendered["over"][:-1]} if list(rendered) == ["over"] else rendered


@mutant
def go_on_behind_the_first_entry() -> Sequence[Patch]:
    """What follows a list goes on when its first entry is done."""
    link = fanout._link

    def hasty(run: Any, step: Any, roots: Any, grown: Any) -> None:
        link(run, step, roots, grown)
        step.missing = min(step.missing, 1)

    return [(fanout, "_link", hasty)]


@mutant
def go_on_in_the_middle_of_a_runbook() -> Sequence[Patch]:
    """A nested runbook is taken to be done when one of its steps is."""
    take_turn, end = fanout.take_turn, moves.Moves.end

    def early(self: Any, step: Any, status: Status, reason: str | None) -> None:
        end(self, step, status, reason)
        for dependent in step.dependents if status is Status.DONE else ():
            if dependent.plan.join is not None and dependent.plan.join.of == "runbook" and dependent.missing > 0:
                dependent.missing = 0
                take_turn(self, dependent, dependent.plan.join)

    return [(moves.Moves, "end", early)]


@mutant
def do_what_is_not_needed() -> Sequence[Patch]:
    """A nested runbook is done although its `when` came out false."""
    return [(fanout, "not_needed", lambda run, step, why: run.end(step, Status.SKIPPED, why))]


@mutant
def skip_an_approval_with_its_runbook() -> Sequence[Patch]:
    """Whoever skips a nested runbook skips the approvals in it."""
    why_not_skip = fanout.why_not_skip

    def lenient(state: Any, step: Any) -> str | None:
        refused = why_not_skip(state, step)
        return None if refused is not None and "is an approval" in refused else refused

    return [(fanout, "why_not_skip", lenient)]


@mutant
def leave_entries_as_they_are() -> Sequence[Patch]:
    """A rollback takes back the steps of the plan, and not those for entries of a list that only the run knew."""
    changed = compensation.changed

    def planned(now: Any, *, to: str | None = None) -> list[Any]:
        return [step for step in changed(now, to=to) if not step.grown]

    return [(compensation, "changed", planned)]


@mutant
def undo_entries_in_any_order() -> Sequence[Patch]:
    """Steps for entries of a list that only the run knew are taken back without regard to each other."""
    plan_rollback = compensation.plan_rollback

    def unordered(now: Any, *, to: str | None = None) -> list[Any]:
        undone = plan_rollback(now, to=to)
        for step in undone:
            if step.undoes is not None and step.undoes.grown:
                step.missing = 0
        return undone

    return [(compensation, "plan_rollback", unordered)]
