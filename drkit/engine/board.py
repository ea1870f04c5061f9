"""A run's state, what is wanted of the world because of the fact being taken, and the smallest changes. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Any

from drkit.engine.state import BUSY, Phase, RunState, StepState
from drkit.model.events import Command
from drkit.model.plan import Plan
from drkit.model.values import Json

Render = Callable[[Mapping[str, Any], Mapping[str, Any]], Mapping[str, Any]]


def render_params(params: Mapping[str, Any], scope: Mapping[str, Any]) -> Mapping[str, Any]:
    """`${ steps.ID.field }` replaced by results."""
    from drkit.plan.expressions import render  # costs a parser: only for plans that have references

    return render(params, scope)


class Board:
    """What every rule reads and writes."""

    def __init__(self, plan: Plan, *, render: Render = render_params) -> None:
        self.plan = plan
        self.state = RunState(plan)
        self.out: list[Command] = []
        self.ready: deque[StepState] = deque()
        """Those whose turn has come."""
        self.timers: dict[str, tuple[StepState | None, float]] = {}
        """Those armed: the step (None: the whole run) and when."""
        self.until: frozenset[str] | None = None
        self.render = render
        self._open = False

    def command(self, verb: str, why: str, step: StepState | None, args: dict[str, Json]) -> None:
        """Want something done."""
        self.out.append(Command(verb=verb, why=why, step=None if step is None else step.id, args=args))

    def arm(self, step: StepState | None, timer: str, at_t: float, why: str) -> None:
        """Have `Fired(timer)` reported at `at_t` on the run's clock."""
        self.timers[timer] = (step, at_t)
        self.command("timer", why, step, {"timer": timer, "at_t": at_t})

    def working(self, id: str, attempt: int | None, phases: Collection[Phase]) -> StepState | None:
        """The step, if this report still concerns it: a late one from an earlier attempt does not."""
        step = self.state.steps.get(id)
        if step is None or step.phase not in phases or (attempt is not None and attempt != step.attempt):
            return None
        return step

    def move(self, step: StepState, phase: Phase) -> None:
        """Change the phase, and what is counted by it."""
        state = self.state
        state.busy += (phase in BUSY) - (step.phase in BUSY)
        state.backing_off += (phase is Phase.BACKOFF) - (step.phase is Phase.BACKOFF)
        step.phase = phase

    def refresh(self) -> None:
        """Recompute whether anything may start, after something that bears on it changed."""
        state = self.state
        self._open = (
            state.began_t is not None and state.outcome is None and state.paused is None and not state.lease_lost
        )

    def may_start(self, step: StepState) -> bool:
        """Whether this step may do something new now."""
        if not self._open:
            return False
        if step.undoes is not None or (step.plan.heals is not None and self.state.aborting is not None):
            return True
        return self.state.aborting is None and (self.until is None or step.id in self.until)
