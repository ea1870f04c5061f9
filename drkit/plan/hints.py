"""Say what was probably meant. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches

SHOWN = 8


def meant(word: str, known: Iterable[str], otherwise: str | None = None) -> str | None:
    """`did you mean x?` for a close name, else `otherwise`, else what there is; None if nothing is known."""
    names = sorted(set(known))
    near = get_close_matches(word, names, n=2, cutoff=0.6)
    if len(near) == 2 and _likeness(word, near[0]) - _likeness(word, near[1]) > 0.1:
        del near[1]
    # A name that was cut short or carries a prefix too many is close too, whatever the letters' distance.
    near = near or [name for name in names if word and (name.endswith("." + word) or name.startswith(word))][:2]
    if near:
        return f"did you mean {' or '.join(near)}?"
    if otherwise is not None or not names:
        return otherwise
    rest = len(names) - SHOWN
    return f"known: {', '.join(names[:SHOWN])}" + (f" and {rest} more" if rest > 0 else "")


def _likeness(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other).ratio()


def listed(names: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *head, last = list(names) or [""]
    return f"{', '.join(head)} and {last}" if head else last
