"""What alternating pairs of measurements say: the median of their ratios, and how sure that is. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb


@dataclass(frozen=True)
class Ratio:
    """Median of the pairs' ratios with the interval that holds the true median with at least 95 %."""

    median: float
    low: float
    high: float
    pairs: int

    def __str__(self) -> str:
        return f"{self.median:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def verdict(self, goal: float) -> str:
        """A goal is missed only if the whole interval lies above it."""
        if self.low > goal:
            return f"goal {goal:g}: missed"
        return f"goal {goal:g}: met" if self.median <= goal else f"goal {goal:g}: not shown to be missed"


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Of measurements taken in turn: pair by pair, so that a machine that slows down slows both."""
    found = sorted(one / other for one, other in zip(ours, theirs, strict=True))
    rank = _rank(len(found))
    return Ratio(statistics.median(found), found[rank], found[-1 - rank], len(found))


def _rank(count: int) -> int:
    """How many of the sorted values lie outside at each end: order statistics of the median, no shape assumed.

    The true median lies below the value at that rank with the chance of as few heads in `count` throws of a coin.
    With fewer than six values no interval reaches 95 %, and the whole range is given.
    """
    outside = 0
    while sum(comb(count, heads) for heads in range(outside + 1)) / 2**count <= 0.025:
        outside += 1
    return max(outside - 1, 0)
