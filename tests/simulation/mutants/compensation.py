"""Rollbacks broken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from drkit.engine import compensation, undoing
from drkit.engine.lineage import ancestors
from drkit.engine.state import Status
from simulation.mutants.mutant import Patch, mutant


@mutant
def compensate_forward() -> Sequence[Patch]:
    """Compensations run in the order of the steps that they take back."""

    def forward(now: Any, *, to: str | None = None) -> list[Any]:
        undone = {s.id: compensation._compensation(s) for s in compensation.changed(now, to=to) if s.undo}
        for step in now.steps.values():
            before = [undone[id] for id in ancestors(now, step) if id in undone]
            if step.id in undone:
                undone[step.id].missing = len(before)
                for earlier in before:
                    earlier.dependents.append(undone[step.id])
        return list(undone.values())

    return [(compensation, "plan_rollback", forward)]


@mutant
def forget_to_undo_what_failed() -> Sequence[Patch]:
    """Only what is known to be done is taken back."""
    changed = compensation.changed

    def known(now: Any, *, to: str | None = None) -> list[Any]:
        return [step for step in changed(now, to=to) if step.ended is Status.DONE]

    return [(compensation, "changed", known)]


@mutant
def roll_back_what_is_final() -> Sequence[Patch]:
    """A run is rolled back although a step of it cannot be undone."""
    return [(compensation, "why_not_rollback", lambda now, to=None: None)]


@mutant
def roll_back_before_the_copy() -> Sequence[Patch]:
    """A rollback begins at once, whatever the state store knows of it."""

    def at_once(run: Any) -> None:
        compensation.announced(run)
        while run.ready:
            run.begin(run.ready.popleft())

    return [(compensation, "announce", at_once)]


@mutant
def believe_that_nothing_is_left_to_undo() -> Sequence[Patch]:
    """What is to be taken back and does not show yet is taken to have left nothing."""
    return [(undoing, "settle_s", lambda catalog, guard: 0.0)]
