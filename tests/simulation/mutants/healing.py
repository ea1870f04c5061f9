"""The heals of a run that is aborted, broken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from drkit.engine import healing
from drkit.engine.state import Phase, Status
from simulation.mutants.mutant import Patch, mutant


@mutant
def leave_faults_as_they_are() -> Sequence[Patch]:
    """A run that is aborted heals nothing."""
    return [(healing, "proceed", lambda run: None), (healing, "unfinished", lambda state: False)]


@mutant
def end_before_all_is_healed() -> Sequence[Patch]:
    """A run that is aborted ends while its heals are still to be done."""
    return [(healing, "unfinished", lambda state: False)]


@mutant
def heal_while_it_is_broken() -> Sequence[Patch]:
    """A heal does not wait for a fault that is still being injected."""
    return [(healing, "BUSY", frozenset())]


@mutant
def heal_what_nobody_broke() -> Sequence[Patch]:
    """A run that is aborted heals what it never came to break, too."""

    def everything(run: Any) -> None:
        for step in run.state.heals:
            if step.phase is Phase.IDLE:
                run.ready.append(step)

    return [(healing, "proceed", everything)]


@mutant
def take_back_what_is_healed() -> Sequence[Patch]:
    """A rollback takes back what was broken, although a step heals it."""
    return [(healing, "healed_by_steps", lambda state: frozenset())]


@mutant
def say_that_all_is_healed() -> Sequence[Patch]:
    """A run whose heals failed, or never began, is called aborted like any other."""

    def cancelled(run: Any) -> None:
        for step in run.state.heals:
            if step.phase in (Phase.IDLE, Phase.HELD):
                run.end(step, Status.CANCELLED, "never mind")

    return [(healing, "proceed", cancelled), (healing, "failures", lambda state: [])]
