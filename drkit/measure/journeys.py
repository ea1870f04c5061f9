"""Users' journeys out of probe readings, and what users see right now. Reading only; rules are in `recovery`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from drkit.errors import Unobservable
from drkit.measure.readings import boottime, tail
from drkit.model.measurements import Journey


def journeys(records: Iterable[dict[str, Any]]) -> tuple[Journey, ...]:
    """Every journey that was sent, in sending order, with its answer if one was recorded; else it stays pending."""
    sent: dict[int, Journey] = {}
    for record in records:
        if record.get("what") == "sent":
            sent[record["j"]] = Journey(
                record["j"], record["kind"], record["client"], record["t"], record["at"], "pending"
            )
        elif record.get("what") == "result" and record["j"] in sent:
            answer: dict[str, Any] = {key: record.get(key) for key in _ANSWER}
            sent[record["j"]] = replace(sent[record["j"]], outcome=record["outcome"], **answer)
    return tuple(sorted(sent.values(), key=lambda journey: (journey.sent_t, journey.number)))


_ANSWER = ("reason", "status", "latency_s", "address", "served_by", "order_id")


@dataclass(frozen=True, slots=True)
class UsersNow:
    """What users saw in the last seconds. `failing_for_s` is 0 while the rate meets the objective."""

    success_rate: float
    journeys: int
    failed: int
    writes_ok: int
    failing_for_s: float
    """Since the first of the failed journeys that no good second has followed; 0: none."""
    served_by: dict[str, int]
    over_s: float
    age_s: float
    """How old the newest journey is."""


def users_now(
    probes: Path, *, over_s: float = 5.0, objective: float = 0.99, patience_s: float = 1.0, now_t: float | None = None
) -> UsersNow:
    """Read the end of a growing probe file: the rate over the last `over_s` seconds.

    A journey without an answer counts as failed once it is older than `patience_s`; younger ones do not count yet.
    Unobservable: no file, or its newest journey is older than the stretch asked for (the prober is dead or frozen).
    """
    now = boottime() if now_t is None else now_t
    settled = _settled(probes, now - patience_s, 1 << 18)
    recent = [j for j in settled if now - j.sent_t <= over_s]
    if not recent:
        raise Unobservable(f"no journey in the last {over_s:g} s: is the prober running?", hint="drkit sandbox status")
    good = sum(j.ok for j in recent)
    served: dict[str, int] = {}
    for journey in recent:
        if journey.ok and journey.served_by:
            served[journey.served_by] = served.get(journey.served_by, 0) + 1
    met = good >= objective * len(recent)
    failing_since = None if met else _failing_since(settled, objective)
    if failing_since is not None and failing_since <= settled[0].sent_t + over_s:
        failing_since = _failing_since(_settled(probes, now - patience_s, 1 << 26), objective)  # it began further back
    return UsersNow(
        success_rate=good / len(recent),
        journeys=len(recent),
        failed=len(recent) - good,
        writes_ok=sum(j.ok and j.kind == "order" for j in recent),
        failing_for_s=0.0 if failing_since is None else now - failing_since,
        served_by=served,
        over_s=over_s,
        age_s=now - recent[-1].sent_t,
    )


def _settled(probes: Path, pending_until_t: float, bytes_max: int) -> list[Journey]:
    """Journeys at the end of the file that were answered, or sent so long ago that they should have been."""
    try:
        seen = journeys(tail(probes, bytes_max=bytes_max))
    except OSError as error:
        raise Unobservable(f"{probes} cannot be read: {error.strerror}") from error
    return [j for j in seen if j.outcome != "pending" or j.sent_t < pending_until_t]


def _failing_since(seen: list[Journey], objective: float) -> float | None:
    """Send time of the earliest failed journey with no second of service at the objective after it."""
    since: float | None = None
    for second in reversed(list(_by_second(seen))):
        failed = [j for j in second if not j.ok]
        if len(failed) <= (1 - objective) * len(second):
            break
        since = failed[0].sent_t
    return since


def _by_second(seen: list[Journey]) -> Iterator[list[Journey]]:
    """Stretches of one second, counted back from the newest journey, oldest first."""
    if not seen:
        return
    newest = seen[-1].sent_t
    groups: dict[int, list[Journey]] = {}
    for journey in seen:
        groups.setdefault(int(newest - journey.sent_t), []).append(journey)
    for second in sorted(groups, reverse=True):
        yield groups[second]
