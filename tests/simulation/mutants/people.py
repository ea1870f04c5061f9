"""Approvals, questions and fences, broken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from drkit.engine import gates, moves, refusals, sending, state, steering, timers
from drkit.engine.state import Phase
from drkit.model import events as e
from simulation.mutants.mutant import Patch, mutant


@mutant
def one_approval_for_two() -> Sequence[Patch]:
    """The first yes opens a gate that takes two."""
    gate_terms = gates.terms

    def single(params: Any) -> Any:
        return replace(gate_terms(params), approvals=1)

    return [(gates, "terms", single)]


@mutant
def one_person_is_two() -> Sequence[Patch]:
    """The same person may approve twice."""
    return [(gates, "same_person", lambda one, other: False)]


@mutant
def old_approvals_count() -> Sequence[Patch]:
    """An approval counts although what was shown, or the plan, is another one now."""

    def lenient(fact: e.Answered, now: Any) -> str | None:
        step = now.steps[fact.step]
        if step.phase is not Phase.ASKED or step.ask is None:
            return "nobody asks"
        return why_not_answer(replace(fact, plan_hash=now.plan_hash, shown_hash=step.ask.shown_hash), now)

    why_not_answer = refusals._why_not_answer
    return [(refusals, "_why_not_answer", lenient)]


@mutant
def any_role_approves() -> Sequence[Patch]:
    """Whoever answers is taken to be in the role."""
    return [(gates, "in_role", lambda by, claimed, role: True)]


@mutant
def questions_become_approvals() -> Sequence[Patch]:
    """A question that a crash cut off is put again as the approval of the step that it was about."""
    ask_again = moves.Moves.ask_again

    def as_gate(self: Any, step: Any, ask: Any, why: str) -> None:
        if "cut off" in why:
            self.move(step, Phase.IDLE)
            self.go(step, "ask", why)
        else:
            ask_again(self, step, ask, why)

    return [(moves.Moves, "ask_again", as_gate)]


@mutant
def skip_a_fence() -> Sequence[Patch]:
    """A fence may be skipped like any other step."""
    skip = refusals._skip

    def lenient(fact: e.Ordered, now: Any) -> str | None:
        refused = skip(fact, now)
        return None if refused is not None and "is a fence" in refused else refused

    return [(refusals, "_skip", lenient), (refusals, "_RULES", {**refusals._RULES, "skip": lenient})]


@mutant
def override_a_fence_alone() -> Sequence[Patch]:
    """One person is enough to pass a fence."""

    def alone(run: Any, order: e.Ordered) -> None:
        given = {"by": order.by, "answer": "approve", "reason": order.reason, "t": run.state.t}
        step = run.state.steps[order.step or ""]
        step.ask = state.Ask("override-fence", answers=[given], shown={"loss_s": order.args.get("loss_s")})
        steering.granted(run, step, step.ask)

    return [(steering, "ORDERS", {**steering.ORDERS, "override-fence": alone})]


@mutant
def believe_a_blind_fence() -> Sequence[Patch]:
    """A side that does not answer is taken to be fenced."""
    settled = sending.settled

    async def trusting(scene: Any, job: Any, call: Any, before: Any) -> e.Fact:
        fact = await settled(scene, job, call, before)
        if job.action.fences and call.failed is None and not isinstance(fact, e.Done):
            return e.Done(step=job.step.id, attempt=job.attempt, after=job.command.args["before"])
        return fact

    return [(sending, "settled", trusting)]


@mutant
def ask_everybody_at_once() -> Sequence[Patch]:
    """Roles that are to be asked later may answer from the beginning."""

    def everybody(self: Any) -> tuple[str, ...]:
        return () if self.role is None else (self.role, *(role for _, role in self.escalation))

    return [(state.Ask, "roles", property(everybody))]


@mutant
def never_ask_others() -> Sequence[Patch]:
    """When nobody has answered for a while, nobody else is asked."""
    return [(timers, "escalates", lambda step, ask, timer: False)]
