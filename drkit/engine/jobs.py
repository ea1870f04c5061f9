"""What a command asks for, with everything that it refers to looked up. No I/O."""

from __future__ import annotations

from typing import Any, NamedTuple

from drkit.catalog import Action, Entry
from drkit.context import Context
from drkit.model.events import Command
from drkit.model.faults import Leased
from drkit.model.observation import Observation
from drkit.model.params import Params
from drkit.model.plan import PlanStep
from drkit.model.values import Json


class Job(NamedTuple):
    """A command, its step and entry, and what these are given. `deadline`: on `clock.monotonic()`."""

    command: Command
    step: PlanStep
    entry: Entry
    params: Params
    attempt: int
    ctx: Context
    deadline: float

    @property
    def plain(self) -> dict[str, Json]:
        """The parameters as they are journaled."""
        return self.params.model_dump(mode="json")

    @property
    def action(self) -> Action[Any, Any]:
        """Its entry, of a step that changes something."""
        assert isinstance(self.entry, Action)  # the plan's kind says so
        return self.entry

    @property
    def lease_s(self) -> float | None:
        """After so long what it breaks has healed itself at its target; None: it breaks nothing, or for good."""
        return self.params.lease_s if self.action.fault and isinstance(self.params, Leased) else None

    @property
    def once(self) -> bool:
        """It is to look once only, and a person judges what was seen."""
        return bool(self.command.args.get("once"))

    @property
    def recorded(self) -> Observation | None:
        """What was there before, as the intent has it; None: there is no intent (somebody says it is done by hand)."""
        look = self.command.args.get("before")
        if not isinstance(look, dict):
            return None
        observation: Observation = self.action.observe.answer.model_validate(look.get("value"))
        return observation

    @property
    def before(self) -> Observation:
        """What was there before, of an effect that is to be sent."""
        before = self.recorded
        assert before is not None  # an effect is sent only after its intent
        return before


def attempt_of(command: Command) -> int:
    """Which attempt at its step it is."""
    attempt = command.args.get("attempt")
    return attempt if isinstance(attempt, int) else 1
