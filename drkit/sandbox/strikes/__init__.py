"""What strikes a drill in the sandbox from outside: one module a fault, with how it begins, what it met, how it ends.

Nothing of the drill takes part. Each fault ends by itself, also if whoever began it is killed: its lease is with the
sandbox's gateway or supervisor, or with `timeout`. What it met is counted where it meets it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from drkit.sandbox.processes import Process
from drkit.sandbox.strikes.permissions import Permission


@dataclass(frozen=True, slots=True)
class Drilled:
    """One step of a run in a sandbox."""

    control: str
    """URL of the sandbox's control API."""
    region: str
    """That is entered."""
    run: str
    step: str
    runner: Process
    permissions: tuple[Permission, ...]
    """Calls to AWS that the step makes."""
    after: tuple[Permission, ...] = ()
    """A fault of AWS begins as soon as one of these calls was carried out; empty: at once."""
    loses: bool = False
    """And the answer of that call is lost."""


class Strike(Protocol):
    """A fault and the drill that it strikes."""

    def begin(self) -> None:
        """It is there when this returns (or is lying in wait, `after`). DrkitError."""

    def met(self) -> int:
        """How often it has made a difference so far; to be asked while it lasts."""

    def lasts(self) -> bool:
        """It is not over yet."""

    def end(self) -> None:
        """It is over, before its lease is."""
