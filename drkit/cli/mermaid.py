"""A graph of steps as Mermaid text. Pure: steps in, text out.

A step that stands for several is a frame around them. A list that only the run will know is one node until it is known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from drkit.model.outline import Place, bare, outline
from drkit.model.plan import PlanStep

#: Words of Mermaid's own, which no node may be called.
_TAKEN = frozenset(
    {"end", "graph", "flowchart", "subgraph", "style", "class", "classdef", "click", "default", "linkstyle"}
)
_ESCAPED = {"#": "#35;", '"': "#quot;", "<": "#lt;", ">": "#gt;"}
#: Beside the word, never instead of it.
_COLOURS = {
    "done": "#d6ecd9", "skipped": "#e8ebee", "running": "#d5e5f6", "waiting": "#fbeec2", "failed": "#f6d0d2",
    "uncertain": "#f6d0d2", "cancelled": "#e8ebee", "compensated": "#e5dcf3",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Edge:
    """One step that another needs."""

    need: str
    step: str


def edges(steps: Sequence[PlanStep]) -> list[Edge]:
    """Who needs whom. That a heading needs what stands below it is what being a heading means."""
    return [
        Edge(need, step.id)
        for step in steps
        for need in dict.fromkeys(step.needs)
        if not need.startswith(f"{step.id}/") and not _inside(step, need)
    ]


def _inside(step: PlanStep, need: str) -> bool:
    return step.id.startswith(f"{need}/")


def mermaid(steps: Sequence[PlanStep], statuses: Mapping[str, str] | None = None) -> list[str]:
    """The lines of the graph; with how each step stands, if that is known."""
    statuses = statuses or {}
    by_id = {step.id: step for step in steps}
    names = _names(by_id)
    places = outline(by_id)
    lines = ["graph TD", *_nodes(places, by_id, names, statuses)]
    lines += [f"  {names[edge.need]} --> {names[edge.step]}" for edge in edges(steps)]
    for status in dict.fromkeys(statuses[id] for id in by_id if statuses.get(id) in _COLOURS):
        lines.append(f"  classDef {status} fill:{_COLOURS[status]},color:#1d2733")
        lines.append(f"  class {','.join(names[id] for id in by_id if statuses.get(id) == status)} {status}")
    return lines


def label(step: PlanStep, status: str | None = None) -> str:
    """What a node says: its id, what it does, for which list, and how it stands."""
    told = f"{step.id}: {step.title or step.uses}"
    if step.join is not None and step.join.over is not None:
        told += f", for each of {bare(step.join.over)}"
    if step.join is not None and step.join.at_once is not None:
        told += f", {step.join.at_once} at once"
    return told + (f" ({status})" if status is not None and status != "pending" else "")


def _nodes(
    places: Sequence[Place], steps: Mapping[str, PlanStep], names: Mapping[str, str], statuses: Mapping[str, str]
) -> Iterator[str]:
    open_ = 0
    for place in places:
        for depth in range(open_ - 1, place.depth - 1, -1):
            yield f"{_indent(depth)}end"
        step, name = steps[place.id], names[place.id]
        text = "".join(_ESCAPED.get(letter, letter) for letter in label(step, statuses.get(step.id)))
        open_ = place.depth + (1 if place.below else 0)
        if place.below:
            yield f'{_indent(place.depth)}subgraph {name}["{text}"]'
        elif step.join is not None:
            yield f'{_indent(place.depth)}{name}[["{text}"]]'
        else:
            yield f'{_indent(place.depth)}{name}["{text}"]'
    for depth in range(open_ - 1, -1, -1):
        yield f"{_indent(depth)}end"


def _indent(depth: int) -> str:
    return "  " * (depth + 1)


def _names(ids: Mapping[str, object]) -> dict[str, str]:
    """A name that Mermaid takes for each id, the id itself where it can be."""
    names: dict[str, str] = {}
    taken = set(_TAKEN)
    for id in ids:
        name = plain = re.sub(r"[^A-Za-z0-9-]", "_", id)
        number = 1
        while name.lower() in taken:
            number += 1
            name = f"{plain}_{number}"
        taken.add(name.lower())
        names[id] = name
    return names
