"""What people are told of a run while it goes on: one notice an event, bound to the journal by the event's hash."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Urgency = Literal["info", "needs somebody"]


@dataclass(frozen=True, slots=True)
class Notice:
    """One event's news. `seq` names it wherever it arrives; `head` is that event's hash, an anchor of the journal."""

    run: str
    seq: int
    head: str
    drill: bool
    urgency: Urgency
    subject: str
    """One line."""
    text: str
    """What is so, a line each, and what to type."""
    ends: bool = False
    """The run is over: what was told of it as a whole is closed."""
