"""Those who order and approve: rightly, wrongly, too late, twice; and in the end with care, so that a run can end.

They tell the truth about the world (they look at it, and say nothing while something is on its way), and they have no
rights but those of their roles: what they may not do must be refused.
"""

from __future__ import annotations

import random
from typing import Any

from drkit.engine.state import Phase, RunState, Status, StepState
from drkit.model.events import Answered, Fact, Noted, Ordered
from drkit.model.values import Json
from simulation.world import World

Person = dict[str, Json]

DANA: Person = {"name": "dana", "uid": 1001, "how": "unix socket peer", "roles": ["ic"]}
LEE: Person = {"name": "lee", "uid": 1002, "how": "unix socket peer", "roles": ["ic", "dba"]}
MAX: Person = {"name": "max", "uid": 1003, "how": "unix socket peer", "roles": []}
EVERYBODY = (DANA, LEE, MAX)
LOSS_S = 3.0

VERBS = {
    "pause": 2, "resume": 3, "retry": 3, "retry-changed": 1, "skip": 2, "done": 1.5, "resolve": 3, "answer": 6,
    "abort": 0.5, "rollback": 2, "override-fence": 2, "note": 1, "until": 0.3, "step": 0.4, "nonsense": 0.3,
}  # fmt: skip


def order(verb: str, step: str | None, by: Person, **args: Json) -> Ordered:
    """What somebody wants done."""
    return Ordered(verb=verb, step=step, by=dict(by), reason="because", args=args)


def answer(state: RunState, step: StepState, by: Person, said: str = "approve", **more: Any) -> Answered:
    """An answer to what a step shows now, or to nothing."""
    shown = step.ask.shown_hash if step.ask is not None and step.ask.shown_hash else "sha256:nothing"
    role = own_role(step, by) or (step.ask.role if step.ask is not None else None) or "ic"
    return Answered(
        step=step.id, answer=said, by=dict(by), role=more.get("role", role), reason="looks right",
        plan_hash=more.get("plan_hash", state.plan_hash), shown_hash=more.get("shown_hash", shown),
    )  # fmt: skip


def own_role(step: StepState, by: Person) -> str | None:
    """The role in which somebody may answer what a step asks now."""
    roles, own = () if step.ask is None else step.ask.roles, by["roles"]
    assert isinstance(own, list)
    return next((role for role in roles if role in own), None)


class People:
    """Everybody who may say something to one run."""

    def __init__(self, r: random.Random, world: World) -> None:
        self._r, self._world = r, world
        self._tried: dict[str, int] = {}

    def anything(self, state: RunState) -> Fact | None:
        """Somebody says something, whatever the run is doing."""
        r = self._r
        verb = r.choices(list(VERBS), list(VERBS.values()))[0]
        by = r.choice(EVERYBODY)
        step = r.choice(list(state.steps.values()))
        if verb == "answer":
            asked = list(state.asks()) or [step]
            return self._some_answer(state, r.choice(asked), by)
        if verb in ("rollback", "abort"):
            return order("abort", None, by, rollback=verb == "rollback")
        if verb == "note":
            return Noted(text="hm", by=by)
        if verb in ("pause", "resume", "nonsense"):
            return order(verb, None, by)
        if verb == "override-fence":
            step = next((s for s in state.steps.values() if s.plan.fences and s.phase is Phase.BLOCKED), step)
            return order(verb, step.id, by, loss_s=r.choice([LOSS_S, LOSS_S, LOSS_S, 4.0]))
        if verb == "step":
            return order(verb, None, by, on=r.random() < 0.5)
        if verb in ("retry", "retry-changed", "done", "resolve") and state.having(Status.FAILED):
            step = r.choice(state.having(Status.FAILED) + state.having(Status.UNCERTAIN))
        return self._about(state, verb, step, by)

    def _grave(self, state: RunState, step: StepState) -> bool:
        """They know what it would mean to leave that out."""
        below = [one for one in state.steps.values() if one is step or one.id.startswith(f"{step.id}/")]
        return any(one.plan.promotes or one.plan.params.get("name") == "users" for one in below)

    def _about(self, state: RunState, verb: str, step: StepState, by: Person) -> Fact | None:
        if verb == "retry-changed":
            # The same value, written as another parameter: what was approved is void, what is wanted stays.
            return order("retry", step.id, by, set={"to": wanted(step)} if wanted(step) is not None else {"to": 1})
        if verb in ("done", "resolve"):
            return self._true(state, verb, step, by)
        if verb == "skip" and self._r.random() < 0.5:
            step = self._r.choice(_unanswered(state) or [step])
        if verb == "skip" and self._grave(state, step):
            return None
        return order(verb, step.id, by)

    def _true(self, state: RunState, verb: str, step: StepState, by: Person) -> Fact | None:
        """What somebody who looked can say of a step."""
        name = name_of(state, step)
        if name is None or self._world.on_its_way(name):
            return None
        there = self._world.now(name) == wanted(step)
        if verb == "resolve":
            return order("resolve", step.id, by, **{"as": "done" if there else "not-done"})
        return order("done", step.id, by) if there else None

    def _some_answer(self, state: RunState, step: StepState, by: Person) -> Fact:
        r = self._r
        more: dict[str, Any] = {}
        if r.random() < 0.2:
            more = r.choice([{"plan_hash": "sha256:old"}, {"shown_hash": "sha256:old"}, {"role": "janitor"}])
        return answer(state, step, by, r.choice(["approve"] * 5 + ["reject"]), **more)

    def careful(self, state: RunState) -> list[Fact]:
        """What has to be said so that a run that rests goes on."""
        if state.paused is not None or (state.phase == "paused" and state.until is not None):
            return [order("resume", None, DANA)]
        said = [self._care(state, step) for step in state.steps.values()]
        return [fact for fact in said if fact is not None]

    def _care(self, state: RunState, step: StepState) -> Fact | None:
        if step.phase is Phase.ASKED and step.ask is not None:
            if step.ask.purpose == "override-fence" and self._r.random() < 0.5:
                return answer(state, step, LEE, "reject")
            before = {str(person.get("name")) for person in step.ask.approved_by}
            may = [who for who in (LEE, DANA) if not step.ask.roles or own_role(step, who) is not None]
            who = next((who for who in may if who["name"] not in before), None)
            return None if who is None else answer(state, step, who)  # None: until somebody else is asked too
        if step.phase is not Phase.BLOCKED or (state.aborting is not None and step.undoes is None):
            return None
        return self._decide(state, step)

    def _decide(self, state: RunState, step: StepState) -> Fact | None:
        tried = self._tried[step.id] = self._tried.get(step.id, 0) + 1
        if step.plan.kind != "action":
            whole = step.id.rpartition("/")[0] if step.plan.kind == "when" else step.id
            leave = tried > 2 and step.plan.kind != "gate"
            return order("skip", whole, DANA) if leave else order("retry", step.id, DANA)
        name, value = name_of(state, step), wanted(step)
        if name is None or value is None:  # its parameters are not known yet: nothing was sent
            return order("skip" if tried > 3 else "retry", step.id, DANA)
        if self._world.on_its_way(name):
            return None
        if self._world.is_lost(name) and step.undoes is not None:  # there is nothing left to take back
            if step.ended is Status.FAILED:
                return order("skip", step.id, DANA)
            return order("resolve", step.id, DANA, **{"as": "done"})
        if tried > 3 and self._world.now(name) != value and not (name == "west" and self._world.now("east")):
            self._world.set_by_hand(name, value)
        there = self._world.now(name) == value
        if step.ended is Status.UNCERTAIN:
            fence_done = there and step.plan.fences
            return order("resolve", step.id, DANA, **{"as": "done" if there and not fence_done else "not-done"})
        if step.plan.fences and self._r.random() < 0.2:
            return order("skip", step.id, DANA)  # which must be refused
        if step.plan.fences and tried == 2 and self._r.random() < 0.3:
            return order("override-fence", step.id, DANA, loss_s=LOSS_S)
        return order("done" if there and tried > 1 else "retry", step.id, DANA)


def _unanswered(state: RunState) -> list[StepState]:
    """Runbooks and lists that hold an approval nobody was asked for yet."""
    gates = [one.id for one in state.steps.values() if one.plan.kind == "gate" and one.phase is Phase.IDLE]
    wholes = [one for one in state.steps.values() if one.plan.join is not None and one.phase is Phase.IDLE]
    return [whole for whole in wholes if any(gate.startswith(f"{whole.id}/") for gate in gates)]


def name_of(state: RunState, step: StepState) -> str | None:
    """What a step changes."""
    name = (step.params or step.plan.params).get("name")
    return filled(state, str(name), step.plan.scope) if step.plan.kind == "action" and name is not None else None


def filled(state: RunState, text: str, scope: str | None) -> str:
    """A name with its reference to an entry of a list, or to a runbook's parameter, filled in."""
    if "${" not in text or scope is None:
        return text
    read = state.scopes[scope]
    if read.item and "${ each" in text:
        each = read.each["id"] if isinstance(read.each, dict) else read.each
        return text.replace("${ each.id }", str(each)).replace("${ each }", str(each))
    if read.runbook is None or "${ params.name }" not in text:
        return filled(state, text, read.outer)
    given = read.parameters.get("name") or str(read.later["name"])
    given = filled(state, str(given), scope if "${ each" in str(given) else read.outer) if read.later else given
    return text.replace("${ params.name }", str(given))


def wanted(step: StepState) -> int | None:
    """What it shall become."""
    value = (step.params or step.plan.params).get("to")
    return value if isinstance(value, int) else None
