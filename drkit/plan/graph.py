"""The graph of steps: what waits for what, cycles, and whether a fence is certain to come before a promotion. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter

Needs = Mapping[str, tuple[str, ...]]


def implied(ids: list[str], declared: Mapping[str, list[str] | None]) -> dict[str, tuple[str, ...]]:
    """Needs of every step: as declared, else the step written above."""
    needs: dict[str, tuple[str, ...]] = {}
    for index, step in enumerate(ids):
        own = declared[step]
        needs[step] = tuple(dict.fromkeys(own)) if own is not None else tuple(ids[index - 1 : index] if index else ())
    return needs


def cycle(needs: Needs) -> tuple[str, ...] | None:
    """Steps that wait for each other, each for the next and the last for the first; None if there are none."""
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        around: list[str] = error.args[1]
        return tuple(reversed(around[1:]))
    return None


def ancestors(needs: Needs) -> dict[str, frozenset[str]]:
    """All steps that must have ended before each step. The graph has no cycle and no unknown name."""
    found: dict[str, frozenset[str]] = {}
    for step in TopologicalSorter(needs).static_order():
        found[step] = frozenset(needs[step]).union(*(found[need] for need in needs[step]))
    return found


def longest(needs: Needs, seconds: Mapping[str, float]) -> float:
    """How long the slowest chain of steps takes, each as long as given. The graph has no cycle and no unknown name."""
    until: dict[str, float] = {}
    for step in TopologicalSorter(needs).static_order():
        until[step] = seconds[step] + max((until[need] for need in needs[step]), default=0.0)
    return max(until.values(), default=0.0)


def certain(needs: Needs, step: str, dispensable: Iterable[str]) -> frozenset[str]:
    """Steps that are certain to be *done* when `step` starts.

    A need that is dispensable (optional, or skipped when it fails) lets `step` start without being done, and without
    anything that it needs in its turn having been done; so nothing behind it is certain.
    """
    dispensable = frozenset(dispensable)
    sure: set[str] = set()
    front = [step]
    while front:
        new = set(needs[front.pop()]) - dispensable - sure
        sure |= new
        front += new
    return frozenset(sure)


def unguarded(needs: Needs, promotes: Iterable[str], fences: Iterable[str], dispensable: Iterable[str]) -> list[str]:
    """Promoting steps that could start without any fence having been done."""
    fences, dispensable = frozenset(fences), frozenset(dispensable)
    return [step for step in promotes if not certain(needs, step, dispensable) & fences]
