"""The order in which people read steps, and how far those that stand for several have come. Pure.

A step that stands for several is a heading: what it stands for comes below it, whether the plan knew that or the run
found it out. Ids say who stands below whom: `restore/orders` below `restore`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from drkit.model.plan import Join, PlanStep

#: Where somebody must look comes first: how a step stands that has not ended is how the first of these below it stands.
_WORST_FIRST = ("failed", "uncertain", "waiting", "running")
_OVER = frozenset({"done", "skipped", "compensated", "cancelled"})
_WORDS = {"uncertain": "outcome unknown", "waiting": "waiting for a person", "running": "under way"}


@dataclass(frozen=True, slots=True)
class Place:
    """A step, how deep it stands, and the steps right below it."""

    id: str
    depth: int
    below: tuple[str, ...]


def outline(ids: Iterable[str]) -> list[Place]:
    """Every step once, headings first; otherwise in the order given."""
    known = dict.fromkeys(ids)
    below: dict[str | None, list[str]] = {}
    for id in known:
        below.setdefault(_heading(id, known), []).append(id)

    def places(heading: str | None, depth: int) -> Iterator[Place]:
        for id in below.get(heading, ()):
            yield Place(id, depth, tuple(below.get(id, ())))
            yield from places(id, depth + 1)

    return list(places(None, 0))


def _heading(id: str, known: Mapping[str, None]) -> str | None:
    while "/" in id:
        id = id.rpartition("/")[0]
        if id in known:
            return id
    return None


def with_bodies(steps: Iterable[PlanStep]) -> Iterator[PlanStep]:
    """All steps, and below each list that only the run will know what is done for any entry of it."""
    for step in steps:
        yield step
        if step.join is not None:
            yield from with_bodies(step.join.body)


def standings(places: Sequence[Place], statuses: Mapping[str, str]) -> dict[str, str]:
    """How every step stands; one that stands for several and has not ended, as the worst of those below it."""
    found: dict[str, str] = {}
    for place in reversed(places):
        own = statuses[place.id]
        under = {found[id] for id in place.below}
        if own == "pending" and under:
            begun = "running" if under & _OVER else own
            own = next((status for status in _WORST_FIRST if status in under), begun)
        found[place.id] = own
    return found


def progress(join: Join, below: Sequence[str]) -> str:
    """`12 of 20 entries, 1 failed, 2 under way`, from how those right below it stand."""
    noun = ("entry", "entries") if join.of == "items" else ("step", "steps")
    if not below:
        return f"no {noun[1]}" if join.over is None else f"for each of {bare(join.over)}, once that is known"
    counts = Counter(below)
    over = sum(counts[status] for status in _OVER)
    told = [f"{over} of {len(below)} {noun[len(below) > 1]}"]
    told += [f"{counts[each]} {_WORDS.get(each, each)}" for each in (*_WORST_FIRST, "skipped") if counts[each]]
    return ", ".join(told)


def bare(reference: str) -> str:
    """A reference without its brackets."""
    return reference.removeprefix("${").removesuffix("}").strip()
