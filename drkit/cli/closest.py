"""Closest names: what was probably meant. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def closest(word: str, known: Iterable[str]) -> list[str]:
    """Up to three known names that look like `word`, best first."""
    return get_close_matches(word, list(known), n=3, cutoff=0.5)


def meant(word: str, known: Iterable[str]) -> str:
    """`; did you mean us-west-2?` or, when nothing is close, `; known: a, b, c`; empty if nothing is known."""
    names = sorted(known)
    near = closest(word, names)
    if near:
        return f"; did you mean {' or '.join(near)}?"
    return f"; known: {', '.join(names)}" if names else ""
