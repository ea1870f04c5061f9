"""What time does to a run: who is asked too when nobody answers, and the deadline of the whole. Pure.

A timer is armed by a command and comes back as a fact; what it is about may be over by then, so each has a name that
says which question, or which attempt, it belongs to.
"""

from __future__ import annotations

from drkit.engine.board import Board
from drkit.engine.state import Ask, Phase, StepState
from drkit.model.events import Ordered
from drkit.model.values import Json, show_duration

DEADLINE = "deadline"


def question(run: Board, step: StepState, ask: Ask) -> None:
    """A question was put: when it is put to others too, and when it must have been answered."""
    for number, (after_s, role) in enumerate(ask.escalation):
        run.arm(step, _escalation(step, number), run.state.t + after_s, f"then {role} is asked too")
    if ask.timeout_s is not None:
        at_t = run.state.t + ask.timeout_s
        run.arm(step, f"ask {step.id} {step.questions}", at_t, "an approval must come by then")


def escalates(step: StepState, ask: Ask, timer: str) -> bool:
    """Ask the next role too, if that is what this timer means and the question still stands.

    Those that ran out while the runner was suspended come in any order: a later one asks those before it too.
    """
    if step.phase is not Phase.ASKED or ask.purpose != "gate":
        return False
    due = [n for n in range(len(ask.escalated), len(ask.escalation)) if timer == _escalation(step, n)]
    if not due:
        return False
    ask.escalated = [role for _, role in ask.escalation[: due[0] + 1]]
    return True


def _escalation(step: StepState, number: int) -> str:
    return f"escalate {step.id} {step.questions} {number}"


def deadline(run: Board) -> None:
    """The run has begun: arm its deadline, if it has one."""
    limit_s = run.plan.deadline_s
    if limit_s is not None:
        run.arm(None, DEADLINE, run.state.t + limit_s, f"the run must be over within {show_duration(limit_s)}")


def overdue(run: Board) -> None:
    """The run's deadline has passed: start nothing new until somebody decides. What was sent goes on to its end."""
    state = run.state
    if state.finishing or state.outcome is not None or state.aborting is not None:
        return
    state.overdue = True
    if state.paused is None:
        by: dict[str, Json] = {"name": "the runbook", "how": "deadline"}
        reason = f"its deadline of {show_duration(run.plan.deadline_s or 0.0)} has passed"
        state.paused = Ordered(t=state.t, verb="pause", by=by, reason=reason)
        run.refresh()
