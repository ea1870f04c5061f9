"""Why an operator's order or an answer is not carried out, as one sentence that says what to do. Pure."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches

from drkit.engine import compensation, fanout, gates
from drkit.engine.lineage import ancestors, descendants
from drkit.engine.state import Phase, RunState, Status, StepState
from drkit.model.events import Answered, Fact, Ordered


def why_not(fact: Fact, state: RunState) -> str | None:
    """Why this order or answer is refused in this state; None: it is carried out. Other facts are never refused."""
    if isinstance(fact, Answered):
        return _ended(state) or _unknown(fact.step, state) or _why_not_answer(fact, state)
    if isinstance(fact, Ordered):
        rule = _RULES.get(fact.verb)
        if rule is None:
            return f'there is no order "{fact.verb}" (known: {", ".join(sorted(_RULES))})'
        return _ended(state) or rule(fact, state)
    return None


_STRANGER = "a fence is overridden by two persons of drkit.toml (`people`, with a role); you are not one of them"


def _ended(state: RunState) -> str | None:
    if state.outcome is None:
        return None
    return f"run {state.run} has ended ({state.outcome}); see it with drkit status {state.run}"


def _unknown(step: str | None, state: RunState) -> str | None:
    if step in state.steps:
        return None
    close = get_close_matches(step or "", state.steps, 1)
    return f'run {state.run} has no step "{step}"' + (f"; did you mean {close[0]}?" if close else "")


def _why_not_answer(fact: Answered, state: RunState) -> str | None:
    step = state.steps[fact.step]
    ask = step.ask
    if step.phase is not Phase.ASKED or ask is None:
        return f"{step.id} is not waiting for an answer: it is {step.status}"
    if fact.plan_hash != state.plan_hash:
        return "the answer was given for another plan; look again with drkit status " + state.run
    if fact.shown_hash != ask.shown_hash:
        return f"what {step.id} shows has changed since; look again with drkit status {state.run}"
    if gates.is_policy(fact.by) and ask.purpose != "gate":
        return "a drill's recorded policy answers gates only"
    if ask.purpose == "override-fence" and gates.is_stranger(fact.by):
        return _STRANGER
    if not gates.is_policy(fact.by) and not gates.in_role(fact.by, fact.role, ask.roles):
        asked = " or ".join(ask.roles)
        return f"{step.id} must be answered by somebody in the role {asked}; {fact.by.get('name')} is not"
    if fact.answer not in ("approve", "reject"):
        return f'"{fact.answer}" is neither approve nor reject'
    if fact.answer == "approve" and gates.said_before(fact.by, ask.approved_by):
        return f"{fact.by.get('name')} has already approved {step.id}; it takes another person"
    return None


def _pause(fact: Ordered, state: RunState) -> str | None:
    return f"run {state.run} is paused already" if state.paused is not None else None


def _resume(fact: Ordered, state: RunState) -> str | None:
    return f"run {state.run} has not begun" if state.began_t is None else None


def _at(fact: Ordered, state: RunState, *phases: Phase) -> StepState | str:
    """The step the order names, or why it cannot be meant."""
    unknown = _unknown(fact.step, state)
    if unknown is not None:
        return unknown
    step = state.steps[fact.step or ""]
    if state.aborting is not None and step.undoes is None:
        return f"run {state.run} is being aborted"
    if step.phase not in phases:
        return f"{step.id} is {step.status}{_below(step, state)}"
    return step


def _below(step: StepState, state: RunState) -> str:
    """Which of the steps that it stands for somebody must decide about: that is what was meant."""
    if step.plan.join is None:
        return ""
    found = [f"{each.id} is {each.status}" for each in fanout.below(state, step) if each.phase is Phase.BLOCKED]
    return f" and stands for other steps; {', '.join(found)}" if found else " and stands for other steps"


def _retry(fact: Ordered, state: RunState) -> str | None:
    step = _at(fact, state, Phase.BLOCKED)
    if isinstance(step, str):
        return f"only a failed step can be retried; {step}"
    if step.plan.kind in ("join", "when") and fact.args.get("set"):
        return f"{step.id} does nothing itself: it has no parameters to change"
    if step.ended is Status.UNCERTAIN:
        return (
            f"the outcome of {step.id} is unknown: look with drkit inspect {state.run} {step.id}, "
            f"then drkit resolve {state.run} {step.id} --as done|not-done"
        )
    return None


def _skip(fact: Ordered, state: RunState) -> str | None:
    step = _at(fact, state, Phase.IDLE, Phase.HELD, Phase.BLOCKED, Phase.BACKOFF)
    if isinstance(step, str):
        return f"it cannot be skipped now: {step}"
    if step.plan.fences:
        return f"{step.id} is a fence: it is never skipped (drkit override-fence takes two persons and the stated loss)"
    if step.plan.kind == "gate":
        return f"{step.id} is an approval: answer it with drkit approve or drkit reject"
    if step.plan.kind == "when":
        whole = step.id.rpartition("/")[0]
        return f"it decides whether {whole} is needed: drkit skip {state.run} {whole}"
    if step.plan.join is not None and (why := fanout.why_not_skip(state, step)):
        return f"{step.id} cannot be skipped now: {why}"
    if step.ended is Status.UNCERTAIN and step.phase is Phase.BLOCKED:
        return f"the outcome of {step.id} is unknown; first drkit resolve {state.run} {step.id} --as done|not-done"
    if not fact.reason:
        return "a reason is needed: --reason"
    return None


def _done(fact: Ordered, state: RunState) -> str | None:
    step = _at(fact, state, Phase.BLOCKED)
    if isinstance(step, str):
        return f"only a failed step can be declared done; {step}"
    if step.plan.kind == "gate":
        return f"{step.id} is an approval: answer it with drkit approve"
    if step.plan.kind in ("join", "when"):
        return f"{step.id} does nothing itself; drkit retry {state.run} {step.id}"
    if step.ended is Status.UNCERTAIN:
        return f"the outcome of {step.id} is unknown; drkit resolve {state.run} {step.id} --as done|not-done"
    if gates.is_policy(fact.by):
        return "only a person can declare a step done"
    return None if fact.reason else "a reason is needed: --reason"


def _resolve(fact: Ordered, state: RunState) -> str | None:
    step = _at(fact, state, Phase.BLOCKED)
    if isinstance(step, str) or step.ended is not Status.UNCERTAIN:
        now = step if isinstance(step, str) else f"{step.id} is {step.status}"
        return f"only a step whose outcome is unknown can be resolved; {now}"
    if step.plan.fences and fact.args.get("as") == "done":
        return f"{step.id} is a fence: it must be observed (drkit resolve --as not-done), or overridden by two persons"
    if fact.args.get("as") not in ("done", "not-done"):
        return "say --as done or --as not-done"
    return None


def _override(fact: Ordered, state: RunState) -> str | None:
    step = _at(fact, state, Phase.BLOCKED, Phase.ASKED)
    if isinstance(step, str):
        return f"only a fence that failed can be overridden; {step}"
    if not step.plan.fences:
        return f"{step.id} is not a fence"
    loss = fact.args.get("loss_s")
    if isinstance(loss, bool) or not isinstance(loss, int | float) or loss < 0:
        return "state the loss you accept: --accept-data-loss DURATION"
    if gates.is_policy(fact.by):
        return "a drill's recorded policy never overrides a fence"
    if gates.is_stranger(fact.by):
        return _STRANGER
    for seer, seen_s in losses_seen(step, state).items():
        if loss < seen_s:
            return f"{seer} saw that {seen_s:g} s of writes would be lost: state at least that"
    if step.phase is Phase.ASKED:
        ask = step.ask
        if ask is None or ask.purpose != "override-fence":
            return f"{step.id} waits for another answer"
        if gates.said_before(fact.by, ask.approved_by):
            return f"{fact.by.get('name')} has already overridden {step.id}; it takes another person"
        if loss != ask.shown.get("loss_s"):
            return f"the loss stated first was {ask.shown.get('loss_s')} s; both persons must state the same"
    return None


def losses_seen(step: StepState, state: RunState) -> dict[str, float]:
    """Seconds of writes that would be lost, as steps before this one observed them (`loss_s`), the nearest first."""
    results = {id: state.results.get(id) for id in ancestors(state, step)}
    seen = {id: result.get("loss_s") for id, result in results.items() if isinstance(result, dict)}
    return {id: float(s) for id, s in seen.items() if isinstance(s, int | float) and not isinstance(s, bool)}


def _abort(fact: Ordered, state: RunState) -> str | None:
    if state.aborting is not None:
        return f"run {state.run} is being aborted already"
    return compensation.why_not_rollback(state, to=_text(fact.args.get("to"))) if fact.args.get("rollback") else None


def _until(fact: Ordered, state: RunState) -> str | None:
    return _unknown(fact.step, state)


def _from(fact: Ordered, state: RunState) -> str | None:
    unknown = _unknown(fact.step, state)
    if unknown is not None:
        return unknown
    later = descendants(state.steps[fact.step or ""])
    for step in state.steps.values():
        if step.id not in later and step.phase in (Phase.IDLE, Phase.HELD) and (
            step.plan.fences or step.plan.kind == "gate"
        ):  # fmt: skip
            return f"{step.id} comes before {fact.step} and is never skipped"
    return None if fact.reason else "a reason is needed: --reason"


def _step(fact: Ordered, state: RunState) -> str | None:
    return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


_RULES: dict[str, Callable[[Ordered, RunState], str | None]] = {
    "pause": _pause,
    "resume": _resume,
    "retry": _retry,
    "skip": _skip,
    "done": _done,
    "resolve": _resolve,
    "override-fence": _override,
    "abort": _abort,
    "until": _until,
    "from": _from,
    "step": _step,
}
