"""The moves every rule is made of: hold or go on, end, fail, try again, ask. Pure; writes the state, adds commands."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from drkit.context import step_token
from drkit.engine import backoff, gates, scoping
from drkit.engine.board import Board, Render, render_params
from drkit.engine.lineage import ancestors
from drkit.engine.state import Ask, Phase, Purpose, Status, StepState
from drkit.errors import DrkitError
from drkit.model.events import Ordered
from drkit.model.plan import Plan, PlanStep
from drkit.model.values import Json

PHASE_OF: dict[str, Phase] = {
    "prepare": Phase.PREPARING,
    "copy": Phase.COPYING,
    "apply": Phase.APPLYING,
    "observe": Phase.OBSERVING,
    "decide": Phase.OBSERVING,
    "recover": Phase.RECOVERING,
    "ask": Phase.ASKING,
}
FIRST_VERB = {"action": "prepare", "probe": "observe", "gate": "ask", "when": "decide"}
#: How long a question that is no gate of the runbook waits before it has to be put again.
QUESTION_S = 900.0


class Moves(Board):
    """The only ways to take a step further."""

    def __init__(self, plan: Plan, *, render: Render = render_params) -> None:
        super().__init__(plan, render=render)
        steps = self.state.steps
        for planned in plan.steps:
            steps[planned.id] = StepState(planned, len(set(planned.needs)))
        for step in steps.values():
            for need in dict.fromkeys(step.plan.needs):
                steps[need].dependents.append(step)
        self.state.heals = [step for step in steps.values() if step.plan.heals in steps]
        self.state.unsettled = len(steps)
        self._referring = {s.id for s in plan.steps if _refers(s.params)}
        self._reads = {
            s.id: _named_in(s, steps) for s in plan.steps if s.scope is None and "steps" in f"{s.verify}{s.when}"
        }

    def admit(self, step: PlanStep) -> None:
        """A step that came into being while the run goes on."""
        if _refers(step.params):
            self._referring.add(step.id)
        if step.scope is None and "steps" in f"{step.verify}{step.when}":
            self._reads[step.id] = _named_in(step, self.state.steps)

    def release_held(self) -> None:
        """Let those go on that were only held."""
        if not self._open:
            return
        for step in list(self.state.steps.values()):
            if step.phase is Phase.HELD and step.next is not None:
                self.go(step, *step.next)

    # Going on

    def go(self, step: StepState, verb: str, why: str) -> None:
        """Have this done now, or as soon as the run may go on. Looking at what was sent is never held."""
        if verb != "recover" and not self.may_start(step):
            self.move(step, Phase.HELD)
            step.next = (verb, why)
        elif self.state.step_by_step and not step.agreed and verb in ("prepare", "observe"):
            self.question(step, "step", "the run goes one step at a time")
        else:
            self.send(step, verb, why)

    def send(self, step: StepState, verb: str, why: str) -> None:
        """Have this done now."""
        step.next = None
        if step.started_t is None:
            step.started_t = self.state.t
            step.token = step_token(self.state.run, step.id)
            step.attempt = step.attempt or 1
        self.move(step, PHASE_OF[verb])
        if verb == "copy":
            step.copy_upto = self.state.seq
            self.command("copy", why, step, {"upto": self.state.seq})
        elif verb == "ask":
            self._ask_gate(step, why)
        else:
            self.command(verb, why, step, self._args(step))

    def effect(self, step: StepState, why: str) -> None:
        """Send it, after a copy of its intent where it cannot be undone."""
        self.go(step, "apply" if step.plan.irreversible is None else "copy", why)

    def again(self, step: StepState, why: str) -> None:
        """One more attempt: from the start if nothing was ever sent, else look first and send only what is absent."""
        step.attempt += 1
        step.error = step.hint = step.reason = None
        step.ended = Status.PENDING
        if step.plan.join is not None:
            self.move(step, Phase.IDLE)
            self.ready.append(step)
        elif step.plan.kind != "action" or not step.intent:
            self.go(step, FIRST_VERB[step.plan.kind], why)
        elif not step.exposed:
            self.effect(step, why)
        else:
            self.go(step, "recover", why)

    def _args(self, step: StepState) -> dict[str, Json]:
        """All that a worker needs beside the environment."""
        args: dict[str, Json] = {"attempt": step.attempt, "token": step.token, "timeout_s": step.plan.timeout_s}
        if step.intent:
            args["params"] = step.params
            args["before"] = step.before
        else:
            self._render_into(args, step)
        if step.id in self._reads:
            args["steps"] = {id: self.state.results[id] for id in self._reads[step.id] if id in self.state.results}
        if step.plan.scope is not None:
            scoping.tell(self, args, step)
        if step.doubtful:
            args["doubtful"] = True
        if step.claim is not None:
            args["once"] = True
        if step.plan.promotes:
            self._tell_overrides(args, step)
        if step.undoes is not None or step.grown:
            args["as"] = step.plan.model_dump(mode="json", exclude_defaults=True)
        if step.undoes is not None:
            args["guard"] = {
                "uses": step.undoes.plan.uses, "params": step.undoes.params, "before": step.undoes.before,
            }  # fmt: skip
        return args

    def _tell_overrides(self, args: dict[str, Json], step: StepState) -> None:
        """Who promotes must know which fence nobody observed, and on whose word it goes on."""
        before = {id: self.state.steps[id] for id in ancestors(self.state, step)} if self.state.overrides else {}
        told: list[Json] = [
            {
                "step": fence.id, "params": fence.plan.params if fence.params is None else fence.params,
                "by": [person.get("name") for person in fence.overridden], "loss_s": override["loss_s"],
            }
            for override in self.state.overrides
            if (fence := before.get(str(override["step"]))) is not None
        ]  # fmt: skip
        if told:
            args["overrides"] = told

    def _render_into(self, args: dict[str, Json], step: StepState) -> None:
        params: Mapping[str, Any] = step.plan.params
        if step.id in self._referring:
            try:
                params = self.render(params, scoping.visible(self, step.plan.scope))
            except (DrkitError, LookupError, TypeError, ValueError) as error:
                args["broken"] = f"its parameters cannot be filled in: {error}"
        args["params"] = {**params, **step.changes} if step.changes else dict(params)

    # Ending

    def end(self, step: StepState, status: Status, reason: str | None) -> None:
        """It is over: what waited for it may be ready."""
        self.move(step, Phase.ENDED)
        step.ended, step.reason, step.finished_t = status, reason, self.state.t
        step.next = None
        if step.after is not None:
            self.state.results[step.id] = step.after.get("value")
        if step.undoes is not None:
            if status in (Status.DONE, Status.SKIPPED):
                self.move(step.undoes, Phase.ENDED)
                step.undoes.ended = Status.COMPENSATED
        else:
            self.state.unsettled -= 1
        if status is Status.CANCELLED:
            return
        for dependent in step.dependents:
            dependent.missing -= 1
            if not dependent.missing:
                self.ready.append(dependent)

    def block(self, step: StepState, status: Status) -> None:
        """It waits for an operator's decision."""
        self.move(step, Phase.BLOCKED)
        step.ended, step.finished_t = status, self.state.t
        self.state.chosen.pop(step.id, None)  # of an earlier failure: people have decided about that

    def uncertain(self, step: StepState, why: str) -> None:
        """Only a person can say whether it happened."""
        step.error, step.hint = why, f"drkit inspect {self.state.run} {step.id}"
        self.block(step, Status.UNCERTAIN)

    def fail(self, step: StepState, error: str, world: str, hint: str | None) -> None:
        """An attempt did not reach its goal: what `on_failure` says, else a person decides."""
        step.error, step.world, step.hint = error, world, hint
        plan = step.plan
        aborting = self.state.aborting is not None and step.undoes is None and plan.heals is None
        policy = "pause" if plan.fences else plan.on_failure  # a fence is observed, or two persons override it
        if aborting:
            self.block(step, Status.FAILED)
        elif backoff.waits(self, step):
            pass
        elif plan.optional and not plan.fences:
            self.end(step, Status.FAILED, "optional: its failure holds nothing back")
        elif policy == "skip":
            self.end(step, Status.SKIPPED, "its failure was to be skipped (on_failure: skip)")
        else:
            self.block(step, Status.FAILED)
            if policy in ("abort", "rollback") and step.undoes is None:
                by: dict[str, Json] = {"name": "the runbook", "how": f"on_failure: {policy}"}
                reason = f"{step.id} failed (on_failure: {policy})"
                args: dict[str, Json] = {"rollback": policy == "rollback"}
                self.state.chosen[step.id] = Ordered(
                    t=self.state.t, verb="abort", by=by, step=step.id, reason=reason, args=args
                )  # fmt: skip

    # Asking

    def _ask_gate(self, step: StepState, why: str) -> None:
        args: dict[str, Json] = {}
        self._render_into(args, step)
        params = args["params"]
        assert isinstance(params, dict)  # _render_into
        try:
            terms = gates.terms(params)
        except (KeyError, TypeError, ValueError) as error:  # a reference gave something else than was promised
            args.setdefault("broken", f"its parameters do not fit a gate: {error}")
            terms = gates.Terms(None, 1, None, {}, ())
        step.ask = Ask("gate", terms.role, terms.approvals, terms.timeout_s, escalation=terms.escalation)
        self._put(step, why, terms.shown, args.get("broken"))

    def question(
        self, step: StepState, purpose: Purpose, why: str, *, shown: Mapping[str, Json] | None = None,
        approvals: int = 1, timeout_s: float | None = None, answers: tuple[dict[str, Json], ...] = (),
        role: str | None = None,
    ) -> None:  # fmt: skip
        """Put a question that no gate of the runbook asks."""
        step.ask = Ask(purpose, role, approvals, timeout_s, shown=dict(shown or {}), answers=list(answers))
        self.ask_again(step, step.ask, why)

    def ask_again(self, step: StepState, ask: Ask, why: str) -> None:
        """Put a question that no gate asks, as it stands."""
        self.move(step, Phase.ASKING)
        self._put(step, why, dict(ask.shown), None)

    def _put(self, step: StepState, why: str, shown: dict[str, Json], broken: Json) -> None:
        assert step.ask is not None  # both callers just set it
        step.questions += 1
        args: dict[str, Json] = {
            "attempt": step.attempt, "purpose": step.ask.purpose, "shown": shown, "role": step.ask.role,
            "approvals": step.ask.approvals, "plan_hash": self.state.plan_hash,
        }  # fmt: skip
        if broken is not None:
            args["broken"] = broken
        if step.id in self._reads:
            args["steps"] = {id: self.state.results[id] for id in self._reads[step.id] if id in self.state.results}
        if step.plan.scope is not None:
            scoping.tell(self, args, step)
        if step.grown:
            args["as"] = step.plan.model_dump(mode="json", exclude_defaults=True)
        self.command("ask", why, step, args)

    def second_person(self, step: StepState) -> None:
        """Looking did not confirm what a person declared done: another one must say so too."""
        claim = step.claim
        assert claim is not None  # callers look
        step.claim = None
        if step.plan.fences:
            step.reason = "its check does not confirm it; a fence is observed, or overridden with the stated loss"
            self.block(step, Status.FAILED)
            return
        given: dict[str, Json] = {"by": claim.by, "answer": "approve", "reason": claim.reason, "t": self.state.t}
        shown: dict[str, Json] = {"declared_by": claim.by.get("name"), "reason": claim.reason, "seen": step.seen}
        self.question(
            step, "done", "its check does not confirm that it was done by hand", shown=shown, approvals=2,
            timeout_s=QUESTION_S, answers=(given,),
        )  # fmt: skip


def _refers(value: Json) -> bool:
    if isinstance(value, str):
        return "${" in value
    if isinstance(value, dict):
        return any(_refers(item) for item in value.values())
    return isinstance(value, list) and any(_refers(item) for item in value)


def _named_in(step: PlanStep, ids: Collection[str]) -> tuple[str, ...]:
    text = f"{step.verify} {step.when}"
    return tuple(id for id in ids if id in text)
