"""What experiments left behind on this machine: runs that acted, were not rolled back, and that nobody carries on."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from drkit.chaos.toolkit.course import FAULT
from drkit.chaos.toolkit.opening import kept_in
from drkit.model.events import Done, Failed, FaultChanged, Finished, Prepared, Row

if TYPE_CHECKING:
    from drkit.engine.runs import RunFolder

_ROLLBACK = "rollback-"


@dataclass(frozen=True, slots=True)
class Left:
    """What a journal says was done and not undone. `rollbacks` False: the file declares none."""

    run: str
    title: str
    actions: tuple[str, ...]
    rollbacks: bool
    done: frozenset[str]
    """Rollbacks that are done."""
    alive: bool = False


def left(rows: Iterable[Row]) -> tuple[list[str], bool, frozenset[str]] | None:
    """Steps that acted and were not undone, whether there is a way back, rollbacks that are done. Pure."""
    acted: list[str] = []
    done: set[str] = set()
    fault: str | None = None
    finished = False
    for row in rows:
        fact = row.fact
        if isinstance(fact, Prepared) and not fact.step.startswith(_ROLLBACK):
            acted.append(fact.step)
        elif isinstance(fact, Done) and fact.step.startswith(_ROLLBACK):
            done.add(fact.step)
        elif isinstance(fact, FaultChanged) and fact.fault == FAULT:
            fault = fact.state
        elif isinstance(fact, Finished):
            finished = True
    if not acted or fault == "healed" or (fault is None and finished):
        return None
    return acted, fault is not None, frozenset(done)


def over(rows: Iterable[Row]) -> Collection[str]:
    """Steps that have a result."""
    return {row.fact.step for row in rows if isinstance(row.fact, Done | Failed)}


def left_in(folder: RunFolder) -> Left | None:
    """What the experiment of this folder left; None also for a folder of another kind of run."""
    from drkit.engine.journal import read_rows
    from drkit.engine.runs import alive

    kept = kept_in(folder)
    if kept is None or not folder.journal.exists():
        return None
    found = left(read_rows(folder.journal))
    if found is None:
        return None
    acted, way_back, done = found
    return Left(folder.id, str(kept.data.get("title")), tuple(acted), way_back, done, alive(folder))
