"""data.wal-truncation: a segment of an archive of write-ahead log ends early, as when copying it was cut off."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Interval

from drkit.chaos.faults._archive import Archived, segment
from drkit.chaos.faults._aside import PUT_BACK, SET_ASIDE, AllSpoilt, spoilt
from drkit.chaos.faults._copies import copies_only
from drkit.chaos.onhost import Recipe, host_fault
from drkit.model.faults import fault_key
from drkit.model.observation import State


class WalTruncation(Archived):
    """How much of it stays."""

    keep_percent: Annotated[int, Interval(ge=0, le=99)] = 50
    """Of its bytes."""


@host_fault("data.wal-truncation", observe=spoilt, consent="original", guard=copies_only)
def truncate(p: WalTruncation) -> Recipe:
    """Let only the beginning of a segment be seen in an archive; the whole one is kept beside it."""
    cut = f"""begins() {{ head -c $(($(stat -c %s -- "$was") * {p.keep_percent} / 100)) -- "$was" >"$new"; }}
set_aside "$file" begins"""
    return Recipe(f"{SET_ASIDE}{segment(p)}{cut}", PUT_BACK)


@truncate.check
def truncated(p: WalTruncation, now: AllSpoilt) -> State:
    """It is set aside, and only its beginning is in its place."""
    return now.state(fault_key(truncate.name, p))
