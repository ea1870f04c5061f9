"""A run that is aborted still heals what it broke: its heal steps start when their fault is at rest. Pure."""

from __future__ import annotations

from drkit.engine.moves import Moves
from drkit.engine.state import BUSY, Phase, RunState, Status, StepState

_NOT_BEGUN = frozenset({Phase.IDLE, Phase.HELD})


def healed_by_steps(state: RunState) -> frozenset[str]:
    """The steps whose fault a step of the plan heals: a rollback leaves those to it."""
    return frozenset(step.plan.heals for step in state.heals if step.plan.heals is not None)


def proceed(run: Moves) -> None:
    """Start what can be healed now. A heal waits for nothing but its own fault: neither for a runbook nor for people.

    What is still being injected is waited for, or it would arrive after its heal. A fault that may have been injected
    in the lost end of a journal is healed too.
    """
    for step in run.state.heals:
        fault = run.state.steps[step.plan.heals or ""]
        if step.phase not in _NOT_BEGUN or must_wait(run.state, step):
            continue
        if step.next is not None:
            run.go(step, *step.next)
        elif fault.intent or fault.doubtful:
            run.move(step, Phase.IDLE)
            run.ready.append(step)
        else:
            run.end(step, Status.CANCELLED, "its fault was never injected")


def must_wait(state: RunState, step: StepState) -> bool:
    """Whether it heals, in a run that is aborted, what somebody is still at work to inject, or to find out about."""
    fault = state.steps.get(step.plan.heals or "")
    return state.aborting is not None and fault is not None and fault.phase in BUSY


def unfinished(state: RunState) -> bool:
    """Whether a heal is still to be done by us."""
    return any(step.phase not in (Phase.ENDED, Phase.BLOCKED) for step in state.heals)


def failures(state: RunState) -> list[StepState]:
    """Heals that did not succeed: their faults may still be there."""
    return [step for step in state.heals if step.phase is Phase.BLOCKED]
