"""Decide a journal again: what this version's rules make of each event, beside what was decided then. Pure.

The facts of a journal are what happened; its commands are what was decided about them. Facts are taken as they stand,
so a decision that comes out otherwise does not change what happened after it, and every later event is still judged.
This is how an upgrade of drkit is checked against old runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields

from drkit.engine.fold import Run, opening
from drkit.model.events import Command, Fact, Row
from drkit.model.values import Json


@dataclass(frozen=True, slots=True)
class Pair:
    """One decision as it was made and as it is made now; None: it was not, or is not, made at all."""

    then: Command | None
    now: Command | None

    @property
    def same(self) -> bool:
        """It comes out the same, its reason included."""
        return self.then == self.now

    def changed(self) -> list[tuple[str, Json, Json]]:
        """What differs between two commands about the same matter: `why`, and arguments by name; then and now."""
        if self.then is None or self.now is None:
            return []
        then, now = {"why": self.then.why} | self.then.args, {"why": self.now.why} | self.now.args
        names = dict.fromkeys([*then, *now])
        return [(name, then.get(name), now.get(name)) for name in names if then.get(name) != now.get(name)]


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided about one event, and what this version decides about it."""

    row: Row
    now: tuple[Command, ...]
    broke: str | None = None
    """Why this version cannot decide about the event at all; then nothing after it can be judged either."""

    @property
    def then(self) -> tuple[Command, ...]:
        """What was decided when it happened."""
        return self.row.commands

    @property
    def same(self) -> bool:
        """Every command comes out the same, in the same order."""
        return self.broke is None and self.now == self.then

    def pairs(self) -> list[Pair]:
        """Then beside now: commands that are equal, or about the same matter, in one pair; in the order of then."""
        left = list(self.now)
        partners = [_take(left, command, lambda a, b: a == b) for command in self.then]
        for at, command in enumerate(self.then):
            if partners[at] is None:
                partners[at] = _take(left, command, lambda a, b: (a.verb, a.step) == (b.verb, b.step))
        paired = [Pair(then, now) for then, now in zip(self.then, partners, strict=True)]
        return paired + [Pair(None, now) for now in left]


def decide_again(rows: Iterable[Row]) -> Iterator[Decision]:
    """Every event with both decisions, in order.

    Ends at an event that this version's rules cannot take: what the run looks like after it is not known.
    """
    run: Run | None = None
    for row in rows:
        try:
            run = opening(row) if run is None else run
            decision = Decision(row, run.take(row.fact))
        except Exception as error:  # noqa: BLE001 - whatever a rule trips over, it is the finding
            decision = Decision(row, (), f"{type(error).__name__}: {error}")
        yield decision
        if decision.broke is not None:
            return


def compare(rows: Iterable[Row]) -> Iterator[Decision]:
    """Every decision that this version would not make as it was made then, in order."""
    return (decision for decision in decide_again(rows) if not decision.same)


def about(fact: Fact) -> str:
    """What an event is, in a few words: its kind, and what tells it from others of this kind."""
    told = {f.name: getattr(fact, f.name) for f in fields(fact) if f.name in _TELLING}
    words = [f"{name} {value}" if name in ("attempt", "upto") else str(value) for name, value in told.items() if value]
    return " ".join([fact.kind, *words])


_TELLING = ("verb", "state", "step", "attempt", "answer", "timer", "upto", "outcome")


def _take(left: list[Command], wanted: Command, fits: Callable[[Command, Command], bool]) -> Command | None:
    """The first of `left` that fits, taken out of it."""
    for at, command in enumerate(left):
        if fits(wanted, command):
            return left.pop(at)
    return None
