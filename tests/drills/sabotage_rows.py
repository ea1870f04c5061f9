"""What a row of the sabotage table is: a step, what is done to it or to the world before it, and what it must say."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from sabotage_hands import Hands

#: Breaks something for real on entering, and mends it on leaving.
Break = Callable[[Hands], AbstractContextManager[None]]


@dataclass(frozen=True)
class Reply:
    """What somebody answers to a gate."""

    person: str
    role: str
    answer: str = "approve"


@dataclass(frozen=True)
class Row:
    """One sabotage. The step must not end done, and what it says must match `says` (a regular expression)."""

    what: str
    says: str
    how: Break | None = None
    idle: bool = False
    """The action's effect is a no-op: it is called, and sends nothing."""
    replies: tuple[Reply, ...] = ()
    within_s: float = 3.0
    """The step's own timeout is shortened to this."""
    world_well: bool = False
    """The source region is still well."""
    cannot: str = ""
    """Why nothing here can notice it. The step then ends done, and the table says so."""


@dataclass(frozen=True)
class Sabotaged:
    """A step of the runbook with its rows."""

    step: str
    real: str
    """What of it is real in the sandbox."""
    users: str
    """What a user would notice if it silently did nothing."""
    rows: tuple[Row, ...]
    metadata: str = ""
    """What of it the sandbox only keeps as metadata: nothing would be different if it were not so."""


def idle(says: str, *, how: Break | None = None, what: str = "", within_s: float = 2.0) -> Row:
    """Its effect made a no-op."""
    return Row(what or "its effect is a no-op", says, how, idle=True, within_s=within_s)


def broken(what: str, how: Break, says: str, *, within_s: float = 3.0, world_well: bool = False) -> Row:
    """Something it needs is broken before it starts."""
    return Row(what, says, how, within_s=within_s, world_well=world_well)


def unnoticed(what: str, how: Break, why: str) -> Row:
    """Something is broken that cannot be noticed, and why not."""
    return Row(what, "", how, cannot=why, within_s=20.0)


def answered(what: str, says: str, *replies: Reply) -> Row:
    """A gate that people answer so, or not at all."""
    return Row(what, says, replies=replies)
