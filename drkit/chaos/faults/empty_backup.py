"""data.empty-backup: the newest backup is there, and nothing is in it."""

from __future__ import annotations

from drkit.chaos.faults._aside import PUT_BACK, SET_ASIDE, AllSpoilt, spoilt
from drkit.chaos.faults._backups import BackupPlace, newest
from drkit.chaos.faults._copies import copies_only
from drkit.chaos.onhost import Recipe, host_fault
from drkit.model.faults import fault_key
from drkit.model.observation import State


@host_fault("data.empty-backup", observe=spoilt, consent="original", guard=copies_only)
def empty(p: BackupPlace) -> Recipe:
    """Let an empty file or folder stand for the newest backup, with its name and time; the backup is kept beside it."""
    hollow = """nothing() { if [ -d "$was" ]; then mkdir -- "$new"; else : >"$new"; fi; }
last=$(nth 1) || exit 1
set_aside "$last" nothing"""
    return Recipe(f"{SET_ASIDE}{newest(p)}{hollow}", PUT_BACK)


@empty.check
def emptied(p: BackupPlace, now: AllSpoilt) -> State:
    """It is set aside, and an empty one is in its place."""
    return now.state(fault_key(empty.name, p))
