"""data.stale-backup: the newest backup is called new, and what is in it is as old as the one before."""

from __future__ import annotations

from drkit.chaos.faults._aside import PUT_BACK, SET_ASIDE, AllSpoilt, spoilt
from drkit.chaos.faults._backups import BackupPlace, newest
from drkit.chaos.faults._copies import copies_only
from drkit.chaos.onhost import Recipe, host_fault
from drkit.model.faults import fault_key
from drkit.model.observation import State


@host_fault("data.stale-backup", observe=spoilt, consent="original", guard=copies_only)
def age(p: BackupPlace) -> Recipe:
    """Let a copy of the backup before stand for the newest one, with its name and time; that one is kept beside it.

    It takes as much room again as that backup has.
    """
    old = """before() { cp -a --reflink=auto -- "$older" "$new"; }
last=$(nth 1) && older=$(nth 2) || exit 1
set_aside "$last" before"""
    return Recipe(f"{SET_ASIDE}{newest(p)}{old}", PUT_BACK)


@age.check
def aged(p: BackupPlace, now: AllSpoilt) -> State:
    """It is set aside, and the older one is in its place."""
    return now.state(fault_key(age.name, p))
