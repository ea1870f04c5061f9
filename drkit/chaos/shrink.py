"""The smallest set of faults that still fails: delta debugging (Zeller and Hildebrandt 2002). Pure, given an oracle.

What is found is 1-minimal: with any single fault of it left out, the run did not fail. Which sets are tried, and in
which order, follows from the faults' order and the answers alone. No set is tried twice.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, TypeVar

T = TypeVar("T")

Outcome = Literal["fails", "holds", "unresolved"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run with some of the faults. `unresolved`: it did not come so far that anything could be told."""

    faults: tuple[str, ...]
    """Ids of the inject steps."""
    run: str
    outcome: Outcome
    broken: tuple[str, ...] = ()
    """Expectations that did not hold, as the scenario writes them."""
    why: str = ""
    """Where it is unresolved: what happened instead."""


@dataclass
class Search:
    """What was tried so far."""

    attempts: list[Attempt] = field(default_factory=list)
    minimal: bool = False
    """The smallest is known to be 1-minimal."""

    @property
    def smallest(self) -> Attempt | None:
        """The smallest set that failed, the last one of its size; None: none did."""
        failed = [attempt for attempt in self.attempts if attempt.outcome == "fails"]
        return min(reversed(failed), key=lambda attempt: len(attempt.faults), default=None)

    def go(
        self, faults: Sequence[str], attempt: Callable[[tuple[str, ...]], Attempt], runs_max: int,
        known: Sequence[Attempt] = (),
    ) -> None:  # fmt: skip
        """Try sets of `faults` until the smallest is found, or after so many runs. All of them are tried first.

        That without any fault nothing fails is taken for granted: each run sees the steady state before it breaks
        anything. What `attempt` raises ends the search; what was tried until then is kept. `known`: what an earlier
        search tried, and is not tried again.
        """
        answered = {each.faults: each for each in known}
        sets = subsets(faults)
        tried, runs = next(sets), 0
        while tried in answered or runs < runs_max:
            runs += tried not in answered
            self.attempts.append(answered[tried] if tried in answered else attempt(tried))
            fails = self.attempts[-1].outcome == "fails"
            if len(self.attempts) == 1 and not fails:
                return
            try:
                tried = sets.send(fails)
            except StopIteration:
                self.minimal = True
                return


def unfinished(faults: Sequence[str], known: Sequence[Attempt]) -> bool:
    """Whether a search that tried these has begun, and is not over."""
    search = Search()
    search.go(faults, _nothing, 0, known)
    return search.smallest is not None and not search.minimal


def _nothing(some: tuple[str, ...]) -> Attempt:
    raise AssertionError(some)  # no run is permitted


def subsets(items: Sequence[T]) -> Generator[tuple[T, ...], bool, None]:
    """The sets that ddmin tries: all of `items` first. It is sent whether each fails, and ends with the smallest known.

    Parts are tried first, then what is left without each; when neither fails, smaller parts, down to single items.
    """
    known: dict[tuple[T, ...], bool] = {}

    def fails(some: tuple[T, ...]) -> Generator[tuple[T, ...], bool, bool]:
        if not some:
            return False
        if some not in known:
            known[some] = yield some
        return known[some]

    now = tuple(items)
    yield from fails(now)
    count = 2
    while len(now) > 1:
        parts = split(now, count)
        rests = [tuple(item for item in now if item not in part) for part in parts]
        for smaller in [*parts, *rests]:
            if (yield from fails(smaller)):
                count = 2 if smaller in parts else max(count - 1, 2)
                now = smaller
                break
        else:
            if count == len(now):
                return
            count = min(2 * count, len(now))


def split(items: tuple[T, ...], count: int) -> list[tuple[T, ...]]:
    """`count` parts of almost the same size, in order; `count` is at most the number of items."""
    ends = [len(items) * number // count for number in range(count + 1)]
    return [items[start:end] for start, end in pairwise(ends)]
