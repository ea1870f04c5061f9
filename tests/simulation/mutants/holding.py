"""Pauses and deadlines, broken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from drkit.engine import board, fold, moves, timers
from drkit.model import events as e
from simulation.mutants.mutant import Handler, Patch, mutant


@mutant
def ignore_the_pause() -> Sequence[Patch]:
    """A paused run goes on."""

    def refresh(self: Any) -> None:
        self._open = self.state.began_t is not None and self.state.outcome is None and not self.state.lease_lost

    return [(board.Board, "refresh", refresh)]


@mutant
def roll_back_while_paused() -> Sequence[Patch]:
    """What a step's `on_failure` chose ahead is carried out although a person holds the run paused."""
    fail = moves.Moves.fail

    def hasty(self: Any, *rest: Any) -> None:
        fail(self, *rest)
        if self.state.chosen:
            self._take_the_choice()

    return [(moves.Moves, "fail", hasty)]


@mutant
def ignore_the_deadline() -> Sequence[Patch]:
    """A run past its deadline goes on."""
    return [(timers, "overdue", lambda run: None)]


@mutant
def forget_the_deadline_after_a_crash() -> Sequence[Patch]:
    """A new runner sets only the timers of steps again."""
    resumed = fold.Run._resumed

    def forgetful(self: Any, fact: e.Resumed) -> None:
        self.timers = {timer: armed for timer, armed in self.timers.items() if timer != timers.DEADLINE}
        resumed(self, fact)

    return [(Handler(e.Resumed), "function", forgetful)]
