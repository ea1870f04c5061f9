"""Taking a run back: what is undone in which order, and when that is refused. Pure.

Compensations are steps like any other, called `undo:STEP`: planned whole before the first one starts, in reverse
order of dependency, side by side where the graph allows, each with its intent and result in the journal. Before the
first one starts the state store knows that the run is taken back: a journal that is read back from there, without its
tail, never calls done what was undone since.
"""

from __future__ import annotations

from drkit.engine import healing
from drkit.engine.board import Board
from drkit.engine.lineage import descendants
from drkit.engine.state import Phase, RunState, Status, StepState
from drkit.model.plan import PlanStep

PREFIX = "undo:"


def changed(state: RunState, *, to: str | None = None) -> list[StepState]:
    """Steps that changed, or may have changed, the world, in the plan's order; only those after `to` if it is given."""
    after = descendants(state.steps[to]) - {to} if to in state.steps else None
    healed = healing.healed_by_steps(state)
    return [
        step
        for step in state.steps.values()
        if step.intent and step.undoes is None and step.ended is not Status.COMPENSATED
        and step.plan.heals is None and step.id not in healed
        and (after is None or step.id in after)
    ]  # fmt: skip


def why_not_rollback(state: RunState, *, to: str | None = None) -> str | None:
    """Why this run cannot be taken back (as far as `to`), naming what stands in the way; None if it can."""
    if to is not None and to not in state.steps:
        return f'run {state.run} has no step "{to}"'
    steps = changed(state, to=to)
    final = [step.id for step in steps if step.plan.irreversible is not None]
    if final:
        free = ", ".join(step.id for step in steps if step.plan.irreversible is None and step.undo) or "nothing"
        return (
            f"{', '.join(final)} cannot be undone; {free} could. Go on with drkit resume {state.run}, or "
            f"end it with drkit abort {state.run}; how to return is in drkit help failback"
        )
    unclear = [step.id for step in steps if step.undo and "error" in step.undo]
    return f"how to undo {', '.join(unclear)} is not known" if unclear else None


def plan_rollback(state: RunState, *, to: str | None = None) -> list[StepState]:
    """The compensations, linked in reverse order of dependency; a step that needs none is passed over."""
    undone = {step.id: _compensation(step) for step in changed(state, to=to) if step.undo}
    first: dict[str, list[StepState]] = {}
    for step in reversed(_topological(state)):
        # What must be undone before this one: the nearest compensations among what depends on it.
        before = {id(u): u for d in step.dependents for u in ([undone[d.id]] if d.id in undone else first[d.id])}
        first[step.id] = list(before.values())
        if step.id in undone:
            compensation = undone[step.id]
            compensation.missing = len(before)
            for earlier in before.values():
                earlier.dependents.append(compensation)
    return list(undone.values())


def _topological(state: RunState) -> list[StepState]:
    waiting = {step.id: len(set(step.plan.needs)) for step in state.steps.values() if step.undoes is None}
    order = [state.steps[id] for id, count in waiting.items() if not count]
    for step in order:
        for dependent in step.dependents:
            waiting[dependent.id] -= 1
            if not waiting[dependent.id]:
                order.append(dependent)
    return order


def _compensation(step: StepState) -> StepState:
    undo = step.undo or {}
    data = {
        "id": PREFIX + step.id, "number": step.plan.number, "uses": undo["uses"], "kind": "action",
        "title": f"undo {step.plan.title or step.id}", "owner": step.plan.owner, "params": undo["params"],
        "repeat": undo.get("repeat", "ask"), "timeout_s": undo.get("timeout_s", step.plan.timeout_s),
        "poll_s": undo.get("poll_s", step.plan.poll_s), "settle_s": undo.get("settle_s", 0.0),
        "site": step.plan.site, "simulated": step.plan.simulated,
        # Whoever goes on from the state store must not promote behind a fence that was lifted meanwhile.
        "irreversible": "the side that was fenced can write again" if step.plan.fences else None,
    }  # fmt: skip
    return StepState(PlanStep.model_validate(data), 0, undoes=step)


def complete(run: Board) -> bool:
    """Go on with taking the run back; True when there is nothing (left) to undo."""
    state = run.state
    order = state.aborting
    if order is None or not order.args.get("rollback"):
        return True
    if not state.rolling_back:
        state.rolling_back = True
        to = order.args.get("to")
        planned = plan_rollback(state, to=to if isinstance(to, str) else None)
        state.steps |= {step.id: step for step in planned}
        if planned:
            state.busy += 1
            announce(run)
    return all(step.phase is Phase.ENDED for step in state.steps.values() if step.undoes is not None)


def announce(run: Board) -> None:
    """Have it copied to the state store that the run is taken back."""
    run.state.announcing = run.state.seq
    why = "nothing is taken back before the state store knows that it will be"
    run.command("copy", why, None, {"upto": run.state.seq})


def announced(run: Board) -> None:
    """The state store knows, or does not answer: taking back waits for nobody who is down. Begin."""
    state = run.state
    state.announcing = None
    state.busy -= 1
    run.ready.extend(step for step in state.steps.values() if step.undoes is not None and not step.missing)
