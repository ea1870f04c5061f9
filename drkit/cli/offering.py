"""Which cells of the matrix can be struck for real in the sandbox. Pure but for asking whether strace is there."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drkit.drill.matrix import Cell, Fault, Moment
    from drkit.drill.reach import Reach
    from drkit.model.plan import Plan
    from drkit.sandbox.strikes.permissions import Permission


@dataclass(frozen=True, slots=True)
class Ways:
    """How a step goes to the world."""

    kind: str
    reach: Reach
    permissions: tuple[Permission, ...]
    """Calls to AWS that it makes."""
    writes: tuple[Permission, ...]
    """Those of them by which it takes effect."""


def ways(plan: Plan, step: str) -> Ways:
    """Those of one step."""
    from drkit.catalog import Catalog
    from drkit.drill.reach import reach, words
    from drkit.sandbox.strikes.permissions import permissions

    found = plan.step(step)
    entry = Catalog().entry(found.uses)
    effect, look = words(entry)
    writes = tuple(one for one in permissions(effect) if one.writes)
    return Ways(found.kind, reach(entry), permissions(effect | look), writes)


def offered(plan: Plan) -> tuple[Cell, ...]:
    """The cells that can be struck for real, in the plan's order."""
    from drkit.drill.matrix import Cell, Fault, Moment, happening
    from drkit.sandbox.strikes import disk

    faults = [fault for fault in Fault if fault is not Fault.DISK or disk.why_not() is None]
    every = ((step.id, ways(plan, step.id)) for step in happening(plan))
    return tuple(
        Cell(step, moment, fault)
        for step, way in every
        for fault, moment in itertools.product(faults, Moment)
        if real(way, fault, moment)
    )


def real(way: Ways, fault: Fault, moment: Moment) -> bool:
    """Whether this fault can be made to strike a step at this moment from outside, and could touch it."""
    from drkit.drill.matrix import TAKES, Fault, Moment
    from drkit.drill.moments import SIGNS

    if (way.kind, moment) not in SIGNS:
        return False
    lost = bool(way.writes) or moment is not Moment.AFTER  # what AWS answers to a write can be lost, nothing else
    match fault:
        case Fault.KILL | Fault.DISK:
            return True
        case Fault.HOSTS:
            return bool(way.reach.all & TAKES[Fault.HOSTS])
        case Fault.THROTTLE:
            return lost and bool(way.permissions)
        case Fault.STALE:  # of what nobody changes an old answer is as good as a new one
            return lost and way.kind == "action" and any(not one.writes for one in way.permissions)
        case Fault.DENIED:
            return lost and (bool(way.permissions) or "Ssh" in way.reach.all)
