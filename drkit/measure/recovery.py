"""Decide from users' journeys when an outage began and when it was over. Pure: journeys in, a Recovery out.

Definitions, over journeys in the order they were sent; one that was never answered counts as failed:

- A *good period* begins at a journey if, from it on for the window W, the running rate of success over all clients
  never falls below the objective, a write journey succeeds, and nobody stopped looking (no gap between two journeys).
- An outage *starts* at the first failed journey from which on the rate over W is below the objective, and *ends*
  where the next good period begins. W confirms; the clock stops at the beginning of the confirmed period.
- Of several outages the one that counts is the first that was not over at `since_t`; later ones are relapses.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from drkit.model.measurements import Journey, Outage, Phases, Recovery

#: 99 of 100 is 0.99, whatever the binary fraction says.
_EPSILON = 1e-9


@dataclass(frozen=True, slots=True)
class Terms:
    """What "recovered" means here. `until_t` ends the readings early: what was sent later is not yet answered."""

    window_s: float = 30.0
    objective: float = 0.99
    interval_s: float = 0.1
    gap_s: float = 1.0
    """Two journeys further apart than this: nobody looked in between, and no good period spans it."""
    blind_s: float = 5.0
    """A longer gap during the outage makes its figures None."""
    since_t: float | None = None
    until_t: float | None = None


def recovery(journeys: Iterable[Journey], terms: Terms) -> Recovery:
    """When the outage began and ended as users saw it; `seconds` is None with a reason where that cannot be said."""
    log = _Log(journeys, terms)
    since = terms.since_t
    outages = [o for o in log.outages() if since is None or o.recovered_t is None or o.recovered_t > since]
    reason = _why_not(log, terms, outages)
    if not outages:
        return _recovery(log, terms, reason=reason)
    first, relapses = outages[0], tuple(outages[1:])
    return _recovery(
        log,
        terms,
        reason=reason,
        seconds=None if first.seconds is None or reason else round(first.seconds, 6),
        outage_started_at=first.started_at,
        outage_started_t=first.started_t,
        recovered_at=first.recovered_at,
        recovered_t=first.recovered_t,
        failed_probes=first.failed_probes,
        largest_gap_s=log.largest_gap_s(first),
        relapses=relapses,
    )


def phases(
    recovered: Recovery, *, detected_t: float | None, decided_t: float | None, executed_t: float | None
) -> Phases | None:
    """Split the recovery time at the run's instants (same clock as the journeys). None if it was not measured.

    An instant outside the outage is moved to its edge, and one before its predecessor to that, so that the four add
    up; one that is unknown leaves both phases beside it None.
    """
    if recovered.seconds is None or recovered.outage_started_t is None or recovered.recovered_t is None:
        return None
    low, edges = recovered.outage_started_t, [recovered.outage_started_t]
    for instant in (detected_t, decided_t, executed_t):
        if instant is not None:
            low = min(max(instant, low), recovered.recovered_t)
        edges.append(low if instant is not None else float("nan"))
    edges.append(recovered.recovered_t)
    detect, decide, execute, converge = (None if b != b or a != a else round(b - a, 6) for a, b in pairwise(edges))
    return Phases(detect=detect, decide=decide, execute=execute, converge=converge)


class _Log:
    """Journeys in sending order with running sums, so that the rate over any stretch is one subtraction."""

    def __init__(self, journeys: Iterable[Journey], terms: Terms) -> None:
        until = terms.until_t
        kept = (j for j in journeys if until is None or j.sent_t <= until)
        self.journeys: Sequence[Journey] = sorted(kept, key=lambda journey: (journey.sent_t, journey.number))
        self.terms = terms
        self.times = [journey.sent_t for journey in self.journeys]
        self.good = list(accumulate((journey.ok for journey in self.journeys), initial=0))

    def outages(self) -> list[Outage]:
        """Every outage in the readings, in order; only the last can be without an end."""
        found: list[Outage] = []
        at: int | None = 0
        while at is not None and (start := self._outage_from(at)) is not None:
            at = self._good_period_from(start + 1)
            end = len(self.journeys) if at is None else at
            began, back = self.journeys[start], None if at is None else self.journeys[at]
            found.append(
                Outage(
                    started_t=began.sent_t,
                    started_at=began.sent_at,
                    recovered_t=back and back.sent_t,
                    recovered_at=back and back.sent_at,
                    failed_probes=(end - start) - (self.good[end] - self.good[start]),
                )
            )
        return found

    def largest_gap_s(self, outage: Outage) -> float | None:
        """Longest time between two journeys from the last one before the outage until the good period was confirmed."""
        low = max(0, bisect_left(self.times, outage.started_t) - 1)
        confirmed = None if outage.recovered_t is None else outage.recovered_t + self.terms.window_s
        high = len(self.times) if confirmed is None else bisect_left(self.times, confirmed)
        return max((round(b - a, 6) for a, b in pairwise(self.times[low:high])), default=None)

    def _outage_from(self, at: int) -> int | None:
        for index in range(at, len(self.journeys)):
            if not self.journeys[index].ok:
                end = self._window_end(index)
                if not self._met(self.good[end] - self.good[index], end - index):
                    return index
        return None

    def _good_period_from(self, at: int) -> int | None:
        return next((index for index in range(at, len(self.journeys)) if self._good_period_begins(index)), None)

    def _good_period_begins(self, at: int) -> bool:
        end, window_s = self._window_end(at), self.terms.window_s
        if self.times[-1] + self.terms.interval_s < self.times[at] + window_s:
            return False  # the readings end before W is over
        served_writes = 0
        for index in range(at, end):
            journey = self.journeys[index]
            if not self._met(self.good[index + 1] - self.good[at], index + 1 - at):
                return False
            following = self.times[index + 1] if index + 1 < len(self.times) else self.times[at] + window_s
            if min(following, self.times[at] + window_s) - journey.sent_t > self.terms.gap_s:
                return False
            served_writes += journey.ok and journey.kind == "order"
        return served_writes > 0

    def _window_end(self, at: int) -> int:
        return bisect_left(self.times, self.times[at] + self.terms.window_s, lo=at)

    def _met(self, good: int, sent: int) -> bool:
        return good >= self.terms.objective * sent - _EPSILON


def _why_not(log: _Log, terms: Terms, outages: Sequence[Outage]) -> str | None:
    if not log.journeys:
        return "the readings hold no journey"
    if not any(journey.kind == "order" for journey in log.journeys):
        return "the readings hold no write journey, and reading alone is not recovery"
    clients = len({journey.client for journey in log.journeys})
    if clients * terms.interval_s > terms.window_s + _EPSILON:
        return f"a window of {terms.window_s:g} s is shorter than one round of all {clients} clients"
    if terms.since_t is not None and terms.since_t > log.times[-1] + terms.gap_s:
        return "the readings end before the run began"
    if not outages:
        return "no outage: the success rate never fell below the objective"
    if log.times[0] >= outages[0].started_t:
        return "the outage had begun before the readings did"
    if outages[0].recovered_t is None:
        return f"not recovered: no good period of {terms.window_s:g} s before the readings end"
    if (gap := log.largest_gap_s(outages[0])) is not None and gap > terms.blind_s:
        return f"nobody looked for {gap:.1f} s during the outage"
    return None


def _recovery(log: _Log, terms: Terms, **found: object) -> Recovery:
    return Recovery.model_validate(
        {
            "journeys": len(log.journeys),
            "probe_interval_s": terms.interval_s,
            "window_s": terms.window_s,
            "objective": terms.objective,
            **found,
        }
    )
