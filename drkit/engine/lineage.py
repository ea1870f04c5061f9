"""What a step rests on, and what rests on it, in the graph as the run knows it. Pure."""

from __future__ import annotations

from drkit.engine.state import RunState, StepState


def ancestors(state: RunState, step: StepState) -> list[str]:
    """Every step it needs, directly or not; the nearest first."""
    found = dict.fromkeys(step.plan.needs)
    queue = list(found)
    for id in queue:
        for need in state.steps[id].plan.needs:
            if need not in found:
                found[need] = None
                queue.append(need)
    return list(found)


def descendants(step: StepState) -> set[str]:
    """The step and every step that needs it, directly or not."""
    found, queue = {step.id}, [step]
    for each in queue:
        for dependent in each.dependents:
            if dependent.id not in found:
                found.add(dependent.id)
                queue.append(dependent)
    return found
