"""Steps that stand for several: when they end, what they answer, and how one spreads over a list once it is known.

Pure. Like compensations, the steps for the entries of such a list come into being while the run goes on, as a function
of plan and facts alone; from then on they are steps like any other. A step that stands for several sends nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from drkit.engine import scoping
from drkit.engine.moves import Moves
from drkit.engine.state import Phase, RunState, Status, StepState
from drkit.errors import DrkitError
from drkit.model.events import Ordered
from drkit.model.plan import Join, PlanStep
from drkit.model.values import Json, utc
from drkit.plan import fanning

_UNTOUCHED = frozenset({Phase.IDLE, Phase.HELD, Phase.BLOCKED, Phase.BACKOFF})


def take_turn(run: Moves, step: StepState, join: Join) -> None:
    """All that it needs has ended: spread over the list, or end with the results of what it stands for."""
    if join.over is not None and not step.spread:
        if run.state.aborting is None:
            _spread(run, step, join)
    else:
        _end(run, step, join)


def _end(run: Moves, step: StepState, join: Join) -> None:
    state = run.state
    step.started_t = state.t  # what took time are the steps that it stands for
    children = [state.steps[need] for need in step.plan.needs if fanning.is_below(need, step.id)]
    value: Json
    if join.of == "items":
        value = [child.result for child in children]
    else:
        value = {child.id[len(step.id) + 1 :]: child.result for child in children if child.after is not None}
    step.after = {"at": utc(state.wall(state.t)), "origin": "its steps", "value": value}
    failed = [child.id for child in children if child.ended is Status.FAILED]
    if children and all(child.ended is Status.SKIPPED for child in children):
        reasons = {child.reason for child in children}
        run.end(step, Status.SKIPPED, reasons.pop() if len(reasons) == 1 else "all its steps were skipped")
    else:
        run.end(step, Status.DONE, f"failed, and optional: {', '.join(failed)}" if failed else None)


# Over a list that only steps have seen


def _spread(run: Moves, step: StepState, join: Join) -> None:
    try:
        items = run.render({"over": join.over}, scoping.visible(run, step.plan.scope))["over"]
    except (DrkitError, LookupError, TypeError, ValueError) as error:
        run.fail(step, f"what it is to be done for is not known: {error}", "untouched", None)
        return
    if not isinstance(items, list):
        run.fail(step, f"it is to be done for each entry of a list, and {join.over} is none", "untouched", None)
        return
    if not items and step.plan.fences:
        run.fail(step, f"{join.over} is empty: nothing would be fenced", "untouched", None)
        return
    step.spread = True
    roots, grown = _entries(step.plan, join, items)
    for place, (root, item) in enumerate(zip(roots, items, strict=True)):
        _open_scopes(run, step.id, join, root, item, place)
    _link(run, step, roots, grown)
    run.move(step, Phase.IDLE)
    if not roots:
        _end(run, step, join)


def _entries(plan: PlanStep, join: Join, items: list[Json]) -> tuple[list[str], list[PlanStep]]:
    """For each entry the step that ends when it is done; and all steps."""
    roots: list[str] = []
    grown: list[PlanStep] = []
    for place, key in enumerate(fanning.keys_of(items)):
        root = f"{plan.id}/{key}"
        own = fanning.begun_by(plan, fanning.for_entry(join.body, plan.id, key), root)
        earlier = roots[place - join.at_once] if join.at_once is not None and place >= join.at_once else None
        grown += fanning.behind(own, root, earlier)
        roots.append(root)
    return roots, grown


def _open_scopes(run: Moves, id: str, join: Join, root: str, item: Json, place: int) -> None:
    """What the steps of this entry read: as planned for any entry, with this one in its place."""
    name = fanning.entry_name(id, root[len(id) + 1 :])
    for key in fanning.scopes_of(join.body, run.state.scopes):
        if not (key == f"{id}/{fanning.ANY_ENTRY}" or fanning.is_below(key, f"{id}/{fanning.ANY_ENTRY}")):
            continue
        planned = run.state.scopes[key]
        changes: dict[str, object] = {"outer": None if planned.outer is None else name(planned.outer)}
        if planned.item and planned.each is None and _is_this_entry(key, id, join):
            changes |= {"each": item, "index": place}
        run.state.scopes[name(key)] = planned.model_copy(update=changes)


def _is_this_entry(key: str, id: str, join: Join) -> bool:
    """Whether the scope's entry is one of this list, not of a list further inside."""
    return fanning.ANY_ENTRY not in key[len(id) + 2 :].split("/")


def _link(run: Moves, step: StepState, roots: list[str], grown: list[PlanStep]) -> None:
    """Put new steps into the graph, between what the step needed and the step."""
    state = run.state
    new = {planned.id for planned in grown}
    for planned in grown:
        state.steps[planned.id] = StepState(planned, len(new.intersection(planned.needs)), grown=True)
        run.admit(planned)
    for planned in grown:
        for need in dict.fromkeys(planned.needs):
            state.steps[need].dependents.append(state.steps[planned.id])
    step.plan = step.plan.model_copy(update={"needs": (*step.plan.needs, *roots)})
    step.missing = len(roots)
    for root in roots:
        state.steps[root].dependents.append(step)
    state.unsettled += len(grown)
    if run.until is not None and step.id in run.until:
        run.until |= new
    run.ready.extend(state.steps[id] for id in (each.id for each in grown) if not state.steps[id].missing)


# What people, or a runbook's `when`, say about all of it


def below(state: RunState, step: StepState) -> Iterator[StepState]:
    """Every step that it stands for, directly or not."""
    return (each for each in state.steps.values() if fanning.is_below(each.id, step.id))


def why_not_skip(state: RunState, step: StepState) -> str | None:
    """Why what it stands for cannot be skipped as a whole now.

    Approvals stand in the way, but not while the runbook's own condition is undecided: then nothing in it has begun,
    and the condition could have left out its approvals as well. Else nobody could pass what nobody can decide.
    """
    undecided = _is_undecided(state, step)
    for each in below(state, step):
        if each.phase is Phase.ENDED:
            continue
        if each.plan.fences:
            return f"{each.id} is a fence: it is never skipped"
        if each.plan.kind == "gate" and not undecided:
            return f"{each.id} is an approval: answer it with drkit approve or drkit reject"
        if each.phase not in _UNTOUCHED or (each.phase is Phase.BLOCKED and each.ended is Status.UNCERTAIN):
            return f"{each.id} is {each.status}"
    return None


def _is_undecided(state: RunState, step: StepState) -> bool:
    when = state.steps.get(f"{step.id}/{fanning.WHEN}")
    return when is not None and when.phase in _UNTOUCHED


def skip(run: Moves, steps: Iterable[StepState], order: Ordered) -> None:
    """Skip these: those whose needs have not ended when their turn comes, the others now."""
    for each in list(steps):
        if each.phase is Phase.IDLE:
            each.skip = order
        elif each.phase in _UNTOUCHED:
            run.end(each, Status.SKIPPED, order.reason)


def not_needed(run: Moves, step: StepState, why: str) -> None:
    """A nested runbook's `when` came out false: none of its steps is done."""
    by: dict[str, Json] = {"name": "the runbook", "how": "when"}
    order = Ordered(t=run.state.t, verb="skip", by=by, step=step.id, reason=why)
    whole = run.state.steps[step.id.rpartition("/")[0]]
    skip(run, (each for each in below(run.state, whole) if each is not step), order)
    run.end(step, Status.SKIPPED, why)
