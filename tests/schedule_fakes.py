"""A state store in memory, runs that begin or do not, and a process that dies at any of its effects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from drkit.chaos.calendar import Facts, Timetable
from drkit.chaos.ledger import Decision, Ledger
from drkit.chaos.scheduler import Scheduler
from drkit.errors import DrkitError
from drkit.model.ports import Objects
from drkit.model.schedule import Calendar, Schedule


class Killed(BaseException):
    """SIGKILL: nothing catches it."""


@dataclass
class Fate:
    """Kills before or after the effect of this number, counted from 1 in the life of one process; 0: never."""

    at: int = 0
    after: bool = False
    effects: int = 0

    def around(self, effect: Callable[[], None]) -> None:
        self.effects += 1
        if self.effects == self.at and not self.after:
            raise Killed
        effect()
        if self.effects == self.at:
            raise Killed


@dataclass
class World:
    """What outlives a scheduler."""

    stored: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Scenario's occurrence and run, for each time that a runner was asked."""
    begun: dict[str, str] = field(default_factory=dict)
    """Runs that have begun, and for which occurrence."""
    stillborn: int = 0
    """So many runners die before they begin."""
    failing: DrkitError | None = None
    """What every runner says instead of beginning."""
    failures: dict[str, DrkitError] = field(default_factory=dict)
    reserved: int = 0
    facts: Facts = field(default_factory=Facts)
    writes: int = 0


@dataclass
class Store(Objects):
    """The state store as one process reaches it."""

    world: World
    fate: Fate

    def get(self, key: str) -> tuple[bytes, str] | None:
        return self.world.stored.get(key)

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_tag: str | None = None) -> str | None:
        found = self.world.stored.get(key)
        if (if_absent and found is not None) or (if_tag is not None and (found is None or found[1] != if_tag)):
            return None
        self.world.writes += 1
        tag = str(self.world.writes)
        self.fate.around(lambda: self.world.stored.update({key: (data, tag)}))
        return tag

    def keys(self, prefix: str) -> list[str]:
        return sorted(key for key in self.world.stored if key.startswith(prefix))

    def describe(self) -> str:
        return "memory"


@dataclass
class Starts:
    """Asks runners; implements the scheduler's port. A run that has begun is not begun again."""

    world: World
    fate: Fate

    def reserve(self) -> str:
        self.world.reserved += 1
        return f"r{self.world.reserved}"

    def start(self, table: Timetable, decision: Decision) -> None:
        assert decision.run is not None
        self.fate.around(lambda: self._ask(f"{table.name} {decision.at}", str(decision.run)))

    def _ask(self, occurrence: str, run: str) -> None:
        self.world.asked.append((occurrence, run))
        if self.world.stillborn:
            self.world.stillborn -= 1
        elif self.world.failing is not None:
            self.world.failures[run] = self.world.failing
        else:
            self.world.begun.setdefault(run, occurrence)

    def begun(self, run: str) -> bool:
        return run in self.world.begun

    def failure(self, run: str) -> DrkitError | None:
        return self.world.failures.get(run)


def scheduler(world: World, fate: Fate | None = None, held: Callable[[], None] = lambda: None) -> Scheduler:
    """A scheduler process that has just been started."""
    fate = fate or Fate()
    ledger = Ledger(Store(world, fate), "lab")
    return Scheduler(ledger, Starts(world, fate), lambda: world.facts, held, lambda table, decision: None)


def decisions(world: World, scenario: str = "night") -> list[tuple[str, str]]:
    """Time of day and outcome of each decision."""
    found = Ledger(Store(world, Fate()), "lab").read(scenario)
    return [] if found is None else [(each.at[11:16], each.outcome) for each in found[0].decisions]


def table(name: str = "night", cron: str = "0 3 * * *", calendar: Calendar | None = None, **more: object) -> Timetable:
    """A timetable in UTC."""
    schedule = Schedule.model_validate({"cron": cron, **more}, strict=False)
    return Timetable(name, schedule, None if calendar is None else "c", calendar or Calendar())
