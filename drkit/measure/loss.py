"""Decide which acknowledged writes are gone, and how much time that is. Pure: ledgers and found ids in, a Loss out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from drkit.model.measurements import Loss, LossPoint, Write


@dataclass(frozen=True, slots=True)
class Coverage:
    """When a ledger was kept: the instants at which it wrote something, whatever it was, in order."""

    instants_t: Sequence[float]
    silence_s: float = 3.0
    """Longer than this between two instants: the ledger was not kept in between."""

    def why_not(self, from_t: float | None, to_t: float | None) -> str | None:
        """Why it does not cover this stretch of time; None if it does."""
        if from_t is None:
            return "when the outage began is not known"
        if to_t is None:
            return "when the old primary was fenced was not observed"
        if not self.instants_t or self.instants_t[0] > from_t:
            return "the ledger began after the outage did"
        if self.instants_t[-1] < to_t:
            return "the ledger ended before the old primary was fenced"
        for before, after in pairwise(self.instants_t):
            if after > from_t and before < to_t and after - before > self.silence_s:
                return f"the ledger was silent for {after - before:.1f} s between outage and fence"
        return None


def loss(
    writes: Iterable[Write],
    present: Collection[str],
    *,
    coverage: Coverage,
    outage_started_t: float | None,
    fenced_t: float | None,
) -> Loss:
    """Compare ledgers with the ids found in the database after recovery.

    `present` holds what the database has of these ledgers' time, ids spelled as in `Write.id`. The window is the
    acknowledgement of the last lost write minus that of the last survivor before the first loss; 0 only if nothing is
    lost and the ledger covers outage start and fence; else None with the reason.
    """
    entries = sorted(writes, key=lambda write: write.t)
    acknowledged = [write for write in entries if write.acknowledged]
    there = present if isinstance(present, set | frozenset) else frozenset(present)
    survived = [write for write in acknowledged if write.id in there]
    lost = [write for write in acknowledged if write.id not in there]
    promised = {write.id for write in acknowledged}
    window, reason = _window(acknowledged, survived, lost, coverage.why_not(outage_started_t, fenced_t))
    return Loss(
        window_seconds=window,
        reason=reason,
        acknowledged=len(acknowledged),
        survived=len(survived),
        lost=len(lost),
        lost_ids=tuple(write.id for write in lost),
        unacknowledged_present=sum(id not in promised for id in there),
        holes=_holes(survived, lost),
        first_lost_at=lost[0].at if lost else None,
        last_lost_at=lost[-1].at if lost else None,
    )


def expected_loss(now_s: float, last_seen_s: float | None, *, writers_stopped_s: float | None = None) -> float | None:
    """Seconds of writes that would be lost by promoting now, from the newest canary seen on the standby.

    `last_seen_s` is when that canary was written, `writers_stopped_s` since when nothing can be acknowledged any more,
    if that was observed (a fence): all on one clock. None, which is *unknown* and not 0, if no canary was seen.
    """
    if last_seen_s is None:
        return None
    until = now_s if writers_stopped_s is None else min(now_s, writers_stopped_s)
    return max(0.0, until - last_seen_s)


def loss_over_time(
    writes: Iterable[Write], present: Collection[str], *, from_t: float, to_t: float, bucket_s: float = 0.1
) -> tuple[LossPoint, ...]:
    """Acknowledged writes by time of acknowledgement, split into survived and lost; empty buckets are left out."""
    there = present if isinstance(present, set | frozenset) else frozenset(present)
    buckets: dict[int, list[Write]] = {}
    for write in writes:
        if write.acknowledged and from_t <= write.t <= to_t:
            buckets.setdefault(int((write.t - from_t) / bucket_s), []).append(write)
    return tuple(
        LossPoint(
            t=from_t + number * bucket_s,
            at=min(bucket, key=lambda write: write.t).at,
            survived=sum(write.id in there for write in bucket),
            lost=sum(write.id not in there for write in bucket),
        )
        for number, bucket in sorted(buckets.items())
    )


def _window(
    acknowledged: Sequence[Write], survived: Sequence[Write], lost: Sequence[Write], uncovered: str | None
) -> tuple[float | None, str | None]:
    if not acknowledged:
        return None, "no write was acknowledged, so none could be lost"
    if uncovered is not None:
        return None, uncovered
    if not lost:
        return 0.0, None
    before = [write.t for write in survived if write.t <= lost[0].t]
    if not before:
        return None, "no acknowledged write from before the first lost one survived: the window has no beginning"
    return round(lost[-1].t - before[-1], 6), None


def _holes(survived: Iterable[Write], lost: Iterable[Write]) -> int:
    """Only a ledger that writes one at a time can tell: there, what comes later was begun after it was answered."""
    last: dict[str | None, int] = {}
    for write in survived:
        if write.order is not None:
            last[write.site] = max(last.get(write.site, write.order), write.order)
    return sum(write.order is not None and write.order < last.get(write.site, -1) for write in lost)
