"""The drill matrix: every step, every moment of it, every fault, and what became of the run. Pure.

A cell is one run of the whole runbook in which one fault strikes at one moment of one step. How it ended is read from
the journal and from the world, never from what whoever injected believes.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice, zip_longest
from typing import Any

from drkit.drill.reach import Reach
from drkit.errors import UsageError
from drkit.model.plan import Plan, PlanStep

SCHEMA = "drkit.matrix/1"


class Moment(StrEnum):
    """When the fault strikes, seen from the step's effect (a probe's look, a gate's question)."""

    BEFORE = "before"  # as it is to be sent for the first time
    DURING = "during"  # taken, and half under way
    AFTER = "after"  # there, and its answer is lost


class Fault(StrEnum):
    """What strikes."""

    KILL = "kill"  # SIGKILL of the orchestrator
    HOSTS = "ssh"  # nobody answers on any host: SSH, databases, agents
    THROTTLE = "throttle"  # AWS refuses every call: too many of them
    STALE = "stale"  # looks show what was so a while ago
    DENIED = "denied"  # the step's own permission is gone
    DISK = "disk"  # every write of the journal takes long


#: Those that end without anybody's doing (a killed orchestrator is started again).
TRANSIENT = frozenset(Fault) - {Fault.DENIED}
#: The providers that a fault takes away.
TAKES = {Fault.THROTTLE: frozenset({"Aws"}), Fault.HOSTS: frozenset({"Ssh", "Postgres", "Agents"})}


class Ending(StrEnum):
    """What became of the run."""

    RESUMED = "resumed"  # finished without a person, the world as without the fault
    SAFE_STOP = "safe stop"  # paused in a known state, and its next command recovered it
    WRONG = "wrong"  # anything else
    NOT_APPLICABLE = "not applicable"  # the fault cannot touch this step
    MISSED = "missed"  # in a real world: its moment passed before the fault was there, so nothing was shown


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """One fault at one moment of one step."""

    step: str
    moment: Moment
    fault: Fault

    def __str__(self) -> str:
        return f"{self.step}:{self.moment}:{self.fault}"

    @property
    def transient(self) -> bool:
        """Its fault passes by itself."""
        return self.fault in TRANSIENT

    @classmethod
    def read(cls, text: str, plan: Plan) -> Cell:
        """`STEP:MOMENT:FAULT`, of this plan. UsageError."""
        step, moment, fault = (["", "", "", *text.rsplit(":", 2)])[-3:]
        if not any(each.id == step for each in happening(plan)):
            raise UsageError(f'--only: {plan.runbook} has no step "{step}" that a fault can strike',
                             hint=f"drkit graph {plan.runbook}")  # fmt: skip
        for word, known in ((moment, Moment), (fault, Fault)):
            if word not in list(known):
                raise UsageError(f'--only: "{word}" is none of {", ".join(known)}', hint="--only STEP:before:kill")
        return cls(step, Moment(moment), Fault(fault))


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one cell's run."""

    cell: Cell
    ending: Ending
    why: str = ""
    """For a safe stop what the run says it waits for, for `wrong` what is wrong, else empty."""
    commands: tuple[str, ...] = ()
    """What was typed to go on; the first is the next command that the run named."""
    repeated: int | None = None
    """Halves of effects that were sent again although they were there; None: not counted."""
    took_s: float | None = None
    """Seconds on the run's clock; None: it did not end."""

    def to_json(self) -> dict[str, Any]:
        """As scripts read it."""
        stopped = self.ending is Ending.SAFE_STOP
        return {
            "step": self.cell.step, "moment": str(self.cell.moment), "fault": str(self.cell.fault),
            "transient": self.cell.transient, "ending": str(self.ending), "why": self.why or None,
            "next": self.commands[0] if self.commands else None, "followed": list(self.commands),
            "recovered": True if stopped else None, "repeated": self.repeated, "seconds": self.took_s,
        }  # fmt: skip


def happening(plan: Plan) -> tuple[PlanStep, ...]:
    """The steps in which something happens: those that only stand for others have no moment of their own."""
    return tuple(step for step in plan.steps if step.kind in ("action", "probe", "gate"))


def indispensable(step: PlanStep) -> bool:
    """Whether its failure holds back what follows."""
    return not step.optional and step.on_failure != "skip"


def applies(cell: Cell, reach: Reach) -> bool:
    """Whether this fault can touch a step that reaches the world so."""
    if cell.fault in (Fault.KILL, Fault.DISK):
        return True
    if cell.fault is Fault.STALE:
        return bool(reach.look)
    touched = reach.effect or reach.look
    return bool(touched & TAKES[cell.fault]) if cell.fault in TAKES else bool(touched)


def cells(plan: Plan) -> tuple[Cell, ...]:
    """All of them, in the plan's order."""
    return tuple(Cell(step.id, moment, fault) for step in happening(plan) for fault in Fault for moment in Moment)


def touched(plan: Plan, reaches: Mapping[str, Reach]) -> tuple[Cell, ...]:
    """Those that apply."""
    return tuple(cell for cell in cells(plan) if applies(cell, reaches[cell.step]))


def sample(every: Sequence[Cell], count: int, seed: int) -> tuple[Cell, ...]:
    """So many of them, drawn by the seed, in the same order; all of them if there are fewer.

    Faults take turns, and of each its moments: few cells are enough to have tried all that there are.
    """
    chance = random.Random(seed)
    hands = {fault: _dealt([cell for cell in every if cell.fault is fault], chance) for fault in Fault}
    turns = chance.sample(list(hands.values()), len(hands))
    drawn = set(islice(_in_turn(turns), count))
    return tuple(cell for cell in every if cell in drawn)


def part(every: Sequence[Cell], text: str) -> tuple[Cell, ...]:
    """`K/N`: the K-th of N parts of the same size, which together are all. UsageError."""
    number, _, count = text.partition("/")
    if not (number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count)):
        raise UsageError(f'--part: "{text}" is none of 1/N to N/N', hint="--part 1/40")
    return tuple(every[int(number) - 1 :: int(count)])


def _dealt(cells: Sequence[Cell], chance: random.Random) -> list[Cell]:
    """Shuffled, their moments in turn."""
    piles = [[cell for cell in cells if cell.moment is moment] for moment in Moment]
    return list(_in_turn([chance.sample(pile, len(pile)) for pile in chance.sample(piles, len(piles))]))


def _in_turn(piles: Sequence[Sequence[Cell]]) -> Iterator[Cell]:
    """One of each pile, then the next of each, until all are empty."""
    for round in zip_longest(*piles):
        yield from (cell for cell in round if cell is not None)


@dataclass(frozen=True)
class Matrix:
    """What became of every cell that was run."""

    plan: Plan
    results: tuple[Result, ...]
    seed: int
    where: str
    """`simulator`, or an environment's name."""

    def count(self, *, transient: bool = False) -> Counter[Ending]:
        """Cells by ending; `transient`: only those whose fault passes by itself."""
        return Counter(result.ending for result in self.results if result.cell.transient or not transient)

    @property
    def by_fault(self) -> dict[Fault, Counter[Ending]]:
        """Cells by ending, for each fault that there was."""
        counts: dict[Fault, Counter[Ending]] = {}
        for result in self.results:
            counts.setdefault(result.cell.fault, Counter())[result.ending] += 1
        return {fault: counts[fault] for fault in Fault if fault in counts}

    @property
    def resumed_share(self) -> float | None:
        """Of the cells whose fault passes by itself, how many were resumed; None if there are none."""
        count = self.count(transient=True)
        ran = count.total() - count[Ending.NOT_APPLICABLE] - count[Ending.MISSED]
        return count[Ending.RESUMED] / ran if ran else None

    def having(self, ending: Ending) -> tuple[Result, ...]:
        """Cells with this ending, in the plan's order."""
        return tuple(result for result in self.results if result.ending is ending)

    @property
    def repeated(self) -> int | None:
        """Of all cells; None if it was not counted in one that was run."""
        ran = [each for each in self.results if each.ending not in (Ending.NOT_APPLICABLE, Ending.MISSED)]
        counts = [each.repeated for each in ran]
        return None if None in counts else sum(count or 0 for count in counts)

    @property
    def wrong(self) -> tuple[Result, ...]:
        """Cells that must not be."""
        return self.having(Ending.WRONG)

    def to_json(self) -> dict[str, Any]:
        """As scripts read it. Only cells that apply are listed; the others are counted."""
        return {
            "schema": SCHEMA, "runbook": {"name": self.plan.runbook, "digest": self.plan.runbook_digest},
            "where": self.where, "seed": self.seed, "steps": len(happening(self.plan)),
            "totals": _named(self.count()), "transient": _named(self.count(transient=True)),
            "by_fault": {str(fault): _named(count) for fault, count in self.by_fault.items()},
            "resumed_share": self.resumed_share, "repeated": self.repeated,
            "cells": [each.to_json() for each in self.results if each.ending is not Ending.NOT_APPLICABLE],
        }  # fmt: skip


def _named(count: Mapping[Ending, int]) -> dict[str, int]:
    return {ending.value.replace(" ", "_"): count.get(ending, 0) for ending in Ending}


def by_step(results: Iterable[Result]) -> dict[str, dict[tuple[Fault, Moment], Result]]:
    """For a table: one row a step, one column a fault and moment."""
    table: dict[str, dict[tuple[Fault, Moment], Result]] = {}
    for result in results:
        table.setdefault(result.cell.step, {})[result.cell.fault, result.cell.moment] = result
    return table
