"""The work every engine is given: seeded graphs of steps and how long each takes. Pure; the same on every machine.

noop47     47 steps, depth 9, at most 12 side by side, nothing to do in any of them
sleep47    the same graph; each step sleeps 20 to 400 ms (log-normal), so its critical path is known
n<COUNT>   layers of about sqrt(COUNT) steps with 1 to 3 needs each, nothing to do in any of them
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

SEED = 20471
WIDTHS = (1, 3, 6, 9, 12, 7, 5, 3, 1)
"""Steps side by side in each layer of the 47."""

Needs = dict[int, list[int]]


@dataclass(frozen=True)
class Workload:
    """Steps by number, each with the lower numbers it needs, and the seconds each takes."""

    needs: Needs
    seconds: Sequence[float]

    @property
    def critical_path_s(self) -> float:
        """No engine can be faster than this; 0 if there is nothing to do."""
        return critical_path_s(self.needs, self.seconds)


def workload(case: str) -> Workload:
    """The case of that name. ValueError if there is none."""
    if case in ("noop47", "sleep47"):
        needs = _forty_seven(Random(SEED))
        return Workload(needs, _durations(len(needs)) if case == "sleep47" else [0.0] * len(needs))
    if not case.startswith("n") or not case[1:].isdigit():
        raise ValueError(f"no case {case}: noop47, sleep47, n1000, n10000, ...")
    count = int(case[1:])
    return Workload(_layered(count), [0.0] * count)


def critical_path_s(needs: Mapping[int, Sequence[int]], seconds: Sequence[float]) -> float:
    """The longest way through the graph; every step comes after those it needs."""
    ends: dict[int, float] = {}
    for step, before in needs.items():
        ends[step] = seconds[step] + max((ends[need] for need in before), default=0.0)
    return max(ends.values())


def dependents(needs: Mapping[int, Sequence[int]]) -> Needs:
    """The same edges from the other end."""
    found: Needs = {step: [] for step in needs}
    for step, before in needs.items():
        for need in before:
            found[need].append(step)
    return found


def _forty_seven(random: Random) -> Needs:
    """One need in the layer before, sometimes a second from further up; one first step and one last."""
    needs: Needs = {}
    layers: list[list[int]] = []
    for depth, width in enumerate(WIDTHS):
        layer = list(range(len(needs), len(needs) + width))
        for step in layer:
            found = {random.choice(layers[depth - 1])} if depth else set()
            if depth and random.random() < 0.30:
                found.add(random.choice(layers[random.randrange(max(0, depth - 3), depth)]))
            needs[step] = sorted(found)
        layers.append(layer)
    last = layers[-1][0]
    needs[last] = list(layers[-2])
    # What nothing needs is hung onto a later step, so that the run has one end, as runbooks have.
    for leaf in sorted(set(needs) - {need for before in needs.values() for need in before} - {last}):
        depth = next(depth for depth, layer in enumerate(layers) if leaf in layer)
        if depth + 1 < len(layers):
            heir = random.choice(layers[depth + 1])
            needs[heir] = sorted({*needs[heir], leaf})
    return needs


def _layered(count: int) -> Needs:
    random = Random(SEED + count)
    width = max(2, math.isqrt(count))
    needs: Needs = {}
    for step in range(count):
        below = step // width * width
        if below == 0:
            needs[step] = []
            continue
        found = {random.randrange(below - width, below)}
        for _ in range(random.choice((0, 0, 1, 2))):
            found.add(random.randrange(max(0, below - 3 * width), below))
        needs[step] = sorted(found)
    return needs


def _durations(count: int) -> list[float]:
    random = Random(SEED * 7 + count)
    return [min(0.4, max(0.02, random.lognormvariate(math.log(0.09), 0.75))) for _ in range(count)]
