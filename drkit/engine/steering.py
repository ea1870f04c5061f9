"""What operators' orders and answers do to a run, once `refusals` let them through. Pure."""

from __future__ import annotations

from collections.abc import Callable

from drkit.engine import fanout
from drkit.engine.lineage import ancestors, descendants
from drkit.engine.moves import FIRST_VERB, QUESTION_S, Moves
from drkit.engine.refusals import losses_seen
from drkit.engine.state import Ask, Phase, Status, StepState
from drkit.model.events import Ordered
from drkit.model.values import Json, utc

_CANCELLED_AT_ONCE = frozenset({Phase.HELD, Phase.ASKED, Phase.BACKOFF})
#: Nothing was sent: the worker is stopped, and what it still reports is ignored.
_CANCELLED_AT_WORK = frozenset({Phase.PREPARING, Phase.OBSERVING, Phase.ASKING, Phase.COPYING})


def granted(run: Moves, step: StepState, ask: Ask) -> None:
    """Enough different persons said yes."""
    names: list[Json] = [person.get("name") for person in ask.approved_by]
    if ask.purpose == "gate":
        _settle_by_people(run, step, {"approved_by": names, "role": ask.role, **ask.shown})
    elif ask.purpose == "override-fence":
        step.overridden = ask.approved_by
        run.state.overrides.append({"step": step.id, "by": list(step.overridden), "loss_s": ask.shown.get("loss_s")})
        _settle_by_people(run, step, {"overridden_by": names, "loss_s": ask.shown.get("loss_s")})
    elif ask.purpose == "done":
        step.by_hand = ask.approved_by[0]
        run.end(step, Status.DONE, f"declared done by {' and '.join(str(name) for name in names)}")
    elif ask.purpose == "uncopied":
        run.go(step, "apply", f"{names[0]} goes on although its intent is not in the state store")
    elif ask.purpose == "changed":
        run.again(step, f"its changed parameters were approved by {names[0]}")
    else:
        step.agreed = True
        run.go(step, FIRST_VERB[step.plan.kind], f"{names[0]} said so")


def _settle_by_people(run: Moves, step: StepState, value: dict[str, Json]) -> None:
    step.after = {"at": utc(run.state.wall(run.state.t)), "origin": "people", "value": value}
    run.end(step, Status.DONE, None)


def rejected(run: Moves, step: StepState, ask: Ask, why: str) -> None:
    """Somebody said no, or nobody answered in time."""
    if ask.purpose in ("gate", "uncopied", "step"):
        run.fail(step, why, "untouched", None)
    else:  # back to where it was: failed
        step.reason = why
        run.block(step, step.ended)


def _pause(run: Moves, order: Ordered) -> None:
    run.state.paused = order
    run.refresh()


def _resume(run: Moves, order: Ordered) -> None:
    run.state.paused = None
    run.state.until, run.until = None, None
    run.refresh()
    if not run.state.chosen:  # else that comes first: it may stop what is held
        run.release_held()
    if order.args.get("retry_failed"):
        for step in run.state.steps.values():
            if step.phase is Phase.BLOCKED and step.ended is Status.FAILED:
                _try_again(run, step, order)


def _retry(run: Moves, order: Ordered) -> None:
    _try_again(run, run.state.steps[order.step or ""], order)


def _try_again(run: Moves, step: StepState, order: Ordered) -> None:
    """A person's word permits sending again what is observed absent, whatever its action says of repeating."""
    step.retries, step.knocks, step.turned_away_t, step.consent = 0, 0, None, True
    changed = order.args.get("set")
    why = f"{order.by.get('name', 'somebody')} ordered a retry"
    if isinstance(changed, dict) and changed:
        step.changes = {**step.changes, **changed}
        if step.params is not None:
            step.params = {**step.params, **changed}
        gate = _approval_before(run, step)
        if gate is not None:
            shown: dict[str, Json] = {"changed": changed, "ordered_by": order.by.get("name")}
            role = gate.ask.role if gate.ask is not None else None
            why = f"what {gate.id} approved is changed"
            run.question(step, "changed", why, shown=shown, role=role, timeout_s=QUESTION_S)
            return
    run.again(step, why)


def _approval_before(run: Moves, step: StepState) -> StepState | None:
    """A gate that this step could not start without, if the gate was answered."""
    for id in ancestors(run.state, step):
        gate = run.state.steps[id]
        if gate.plan.kind == "gate" and gate.ended is Status.DONE:
            return gate
    return None


def _skip(run: Moves, order: Ordered) -> None:
    step = run.state.steps[order.step or ""]
    if step.plan.join is not None:
        fanout.skip(run, [*fanout.below(run.state, step), step], order)
    elif step.phase is Phase.IDLE:  # its needs still have to end before what follows it may start
        step.skip = order
    else:
        run.end(step, Status.SKIPPED, order.reason)


def _done(run: Moves, order: Ordered) -> None:
    step = run.state.steps[order.step or ""]
    step.claim = order
    step.attempt += 1
    verb = "recover" if step.plan.kind == "action" else "observe"
    run.send(step, verb, f"{order.by.get('name', 'somebody')} says it is done: look once")


def _resolve(run: Moves, order: Ordered) -> None:
    step = run.state.steps[order.step or ""]
    name = order.by.get("name", "somebody")
    if order.args.get("as") == "done":
        step.by_hand = order.by
        step.after = step.after or step.seen
        run.end(step, Status.DONE, f"{name} saw that it was done: {order.reason or 'no reason given'}")
    else:
        step.consent, step.doubtful = True, False
        run.again(step, f"{name} saw that it was not done")


def _override(run: Moves, order: Ordered) -> None:
    step = run.state.steps[order.step or ""]
    given: dict[str, Json] = {"by": order.by, "answer": "approve", "reason": order.reason, "t": run.state.t}
    if step.phase is Phase.ASKED and step.ask is not None:
        step.ask.answers.append(given)
        if len(step.ask.approved_by) >= step.ask.approvals:
            granted(run, step, step.ask)
        return
    shown: dict[str, Json] = {"loss_s": order.args.get("loss_s"), "fence": step.error, "asked_by": order.by.get("name")}
    if seen := losses_seen(step, run.state):
        shown["loss_seen_s"] = dict(seen)
    run.question(
        step, "override-fence", "going on without the fence observed takes two persons", shown=shown, approvals=2,
        timeout_s=QUESTION_S, answers=(given,),
    )  # fmt: skip


def abort(run: Moves, order: Ordered) -> None:
    """Start nothing new; what was sent ends by itself; what only looks, waits or asks is stopped."""
    run.state.aborting = order
    run.state.paused = None
    run.refresh()
    for step in list(run.state.steps.values()):
        if step.plan.heals is not None:
            continue  # what was broken is healed all the same
        if step.phase in _CANCELLED_AT_WORK:
            run.command("cancel", "the run is being aborted", step, {"attempt": step.attempt})
        if step.phase in _CANCELLED_AT_WORK or step.phase in _CANCELLED_AT_ONCE:
            _cancel(run, step)
    run.ready.clear()


def _cancel(run: Moves, step: StepState) -> None:
    """Stop it where it stands. One that failed before stays failed: its attempts may have changed the world."""
    tried = step.phase is Phase.BACKOFF or (step.phase is Phase.ASKED and step.ended is not Status.PENDING)
    if tried:
        run.block(step, step.ended if step.ended is Status.UNCERTAIN else Status.FAILED)
        return
    if not step.exposed:
        step.intent = False  # journaled, and never sent: there is nothing to undo
    run.end(step, Status.CANCELLED, "the run was aborted")


def _until(run: Moves, order: Ordered) -> None:
    step = run.state.steps[order.step or ""]
    run.state.until = step.id
    run.until = frozenset(ancestors(run.state, step)) | {step.id}


def _from(run: Moves, order: Ordered) -> None:
    later = descendants(run.state.steps[order.step or ""])
    for step in list(run.state.steps.values()):
        if step.id not in later and step.phase in (Phase.IDLE, Phase.HELD):
            step.skip = order
            if step.phase is Phase.HELD:
                run.end(step, Status.SKIPPED, order.reason)


def _step(run: Moves, order: Ordered) -> None:
    run.state.step_by_step = order.args.get("on", True) is not False


ORDERS: dict[str, Callable[[Moves, Ordered], None]] = {
    "pause": _pause,
    "resume": _resume,
    "retry": _retry,
    "skip": _skip,
    "done": _done,
    "resolve": _resolve,
    "override-fence": _override,
    "abort": abort,
    "until": _until,
    "from": _from,
    "step": _step,
}
