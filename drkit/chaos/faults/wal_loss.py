"""data.wal-loss: a segment of an archive of write-ahead log is not there, though later ones are."""

from __future__ import annotations

from drkit.chaos.faults._archive import Archived, segment
from drkit.chaos.faults._aside import PUT_BACK, SET_ASIDE, AllSpoilt, spoilt
from drkit.chaos.faults._copies import copies_only
from drkit.chaos.onhost import Recipe, host_fault
from drkit.model.faults import fault_key
from drkit.model.observation import State


@host_fault("data.wal-loss", observe=spoilt, consent="original", guard=copies_only)
def lose(p: Archived) -> Recipe:
    """Take a segment out of an archive; a recovery from it ends there, and calls that the end of the log."""
    return Recipe(f'{SET_ASIDE}{segment(p)}set_aside "$file"', PUT_BACK)


@lose.check
def lost(p: Archived, now: AllSpoilt) -> State:
    """It is set aside, and nothing is in its place."""
    return now.state(fault_key(lose.name, p))
