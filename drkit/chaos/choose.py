"""Draw by a seed: what is drawn is a function of seed, occasion and names alone, whatever order they come in. Pure.

Each name's lot is a SHA-256 of seed, occasion and name; the smallest lot wins. So a name that is added or taken away
changes only the draws that it would win or won, and no version of Python's `random` is part of the contract.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from drkit.model.schedule import Choose
from drkit.model.values import digest


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something of the inventory that may be drawn."""

    name: str
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Aim:
    """How a scheduled run picks its targets: by a seed of its own, among those that opt in."""

    seed: str
    opt_in: tuple[str, ...] = ()
    opt_out: tuple[str, ...] = ()

    def takes(self, tags: Sequence[str]) -> bool:
        """Something with these tags may be hit."""
        return why_not(tags, self.opt_in, self.opt_out) is None


#: What there is to draw from: `hosts`, `regions`. A snapshot, taken before anything is decided.
Inventory = Mapping[str, Sequence[Candidate]]


def lot(seed: str, name: str) -> str:
    """Where a name stands in the order of this seed."""
    return hashlib.sha256(f"{seed}\0{name}".encode()).hexdigest()


def draw(seed: str, occasion: str, names: Iterable[str]) -> str | None:
    """The name whose lot wins; None if there is no name."""
    whole = digest([seed, occasion])
    return min(names, key=lambda name: lot(whole, name), default=None)


def why_not(tags: Sequence[str], opt_in: Sequence[str], opt_out: Sequence[str]) -> str | None:
    """Why something with these tags may not be taken; None: it may."""
    out = sorted(set(tags) & set(opt_out))
    if out:
        return f"it opts out by the tag {out[0]}"
    if opt_in and not set(tags) & set(opt_in):
        return f"it does not opt in: it has no tag {' or '.join(sorted(opt_in))}"
    return None


def parameters(
    choose: Choose, inventory: Inventory, *, seed: str, occasion: str, opt_in: Sequence[str], opt_out: Sequence[str]
) -> dict[str, str | None]:
    """The value drawn for each parameter; None where no candidate may be taken.

    What a person wrote into a list is opted in by that.
    """
    drawn: dict[str, str | None] = {}
    for parameter, source in sorted(choose.parameters.items()):
        if isinstance(source, str):
            names = [each.name for each in inventory.get(source, ()) if why_not(each.tags, opt_in, opt_out) is None]
        else:
            names = source
        drawn[parameter] = draw(seed, f"{occasion} {parameter}", names)
    return drawn


def snapshot(inventory: Inventory) -> str:
    """Digest of an inventory, whatever order it is in."""
    return digest({kind: sorted([each.name, *sorted(each.tags)] for each in inventory[kind]) for kind in inventory})
