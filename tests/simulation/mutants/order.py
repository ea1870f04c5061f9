"""The fold broken: what begins when, and how often."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from drkit.engine import backoff, fold, moves
from drkit.engine.state import Phase, Status
from drkit.model import events as e
from simulation.mutants.mutant import Handler, Patch, mutant


@mutant
def count_a_need_twice() -> Sequence[Patch]:
    """A step that has ended counts twice for what needs it."""
    end = moves.Moves.end

    def ended(self: Any, step: Any, status: Status, reason: str | None) -> None:
        end(self, step, status, reason)
        for dependent in step.dependents if status is not Status.CANCELLED else ():
            if dependent.missing > 0:
                dependent.missing -= 1
                if not dependent.missing:
                    self.ready.append(dependent)

    return [(moves.Moves, "end", ended)]


@mutant
def reapply_without_looking() -> Sequence[Patch]:
    """After a crash what has an intent and no result is sent again at once."""
    go = moves.Moves.go

    def blind(self: Any, step: Any, verb: str, why: str) -> None:
        go(self, step, "apply" if verb == "recover" and "intent and no result" in why else verb, why)

    return [(moves.Moves, "go", blind)]


@mutant
def repeat_what_must_be_asked() -> Sequence[Patch]:
    """What looks absent is sent again, whatever its action says of repeating."""

    def absent(self: Any, fact: e.NotDone) -> None:
        step = self.working(fact.step, fact.attempt, (Phase.RECOVERING,))
        if step is not None:
            step.attempt += 1
            self.effect(step, "it is absent")

    return [(Handler(e.NotDone), "function", absent)]


@mutant
def repeat_done_steps() -> Sequence[Patch]:
    """After a crash the steps that were done are started again."""
    resumed = fold.Run._resumed

    def again(self: Any, fact: e.Resumed) -> None:
        resumed(self, fact)
        for step in self.state.steps.values():
            if step.ended is Status.DONE and step.plan.kind == "action" and self.state.aborting is None:
                self.state.unsettled += 1
                self.move(step, Phase.IDLE)
                self.go(step, "prepare", "from the beginning")
                return

    return [(Handler(e.Resumed), "function", again)]


@mutant
def drop_the_retry_limit() -> Sequence[Patch]:
    """A step is tried again for ever."""
    waits = backoff.waits

    def endless(run: Any, step: Any) -> bool:
        step.retries = 0
        again = waits(run, step)
        step.retries = 0
        return again

    return [(backoff, "waits", endless)]


@mutant
def knock_for_ever() -> Sequence[Patch]:
    """Whoever is turned away comes again, however long its step has taken and whether or not it may be repeated."""
    return [(backoff, "_may_knock_again", lambda run, step: step.plan.kind == "action")]


@mutant
def prepare_again_at_each_attempt() -> Sequence[Patch]:
    """What was there before is observed anew at each attempt, so that an undo restores what is half changed."""

    def again(self: Any, step: Any, why: str) -> None:
        step.attempt += 1
        step.error = step.hint = step.reason = None
        step.ended = Status.PENDING
        self.go(step, moves.FIRST_VERB[step.plan.kind], why)

    return [(moves.Moves, "again", again)]
