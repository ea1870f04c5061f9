"""data.key-loss: the key that backups are encrypted with is not where it was."""

from __future__ import annotations

import shlex

from drkit.chaos.faults._aside import PUT_BACK, SET_ASIDE, AllSpoilt, spoilt
from drkit.chaos.faults._copies import DataFault, copies_only
from drkit.chaos.onhost import Recipe, host_fault
from drkit.model.faults import fault_key
from drkit.model.observation import State


class KeyLoss(DataFault):
    """Which key: `path` is its file."""


@host_fault("data.key-loss", observe=spoilt, consent="original", guard=copies_only)
def lose(p: KeyLoss) -> Recipe:
    """Take a key file away, as when it was kept only on what burnt; it is kept beside where it was."""
    take = f"""file=$(readlink -f -- {shlex.quote(p.path)})
[ -f "$file" ] || {{ echo "$file is no file"; exit 1; }}
set_aside "$file\""""
    return Recipe(SET_ASIDE + take, PUT_BACK)


@lose.check
def lost(p: KeyLoss, now: AllSpoilt) -> State:
    """It is set aside, and nothing is in its place."""
    return now.state(fault_key(lose.name, p))
