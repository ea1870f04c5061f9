"""A run's journal in Chaos Toolkit's shape, made from the hash-chained one: what its reporting tools read. Pure."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from drkit.chaos.toolkit.model import Experiment
from drkit.chaos.toolkit.redaction import Redaction, undeclared
from drkit.model.events import Done, Failed, Opened, Row


def journal(
    rows: Iterable[Row],
    experiment: Experiment,
    *,
    status: str,
    deviated: bool,
    during: Sequence[dict[str, Any]] = (),
    more: Mapping[str, dict[str, Any]] | None = None,
    redaction: Redaction | None = None,
) -> dict[str, Any]:
    """The keys and values of its `journal.json`.

    `during`: what the hypothesis was while the method ran; `more`: what controls added to the entries of steps.
    """
    from drkit import __version__

    activities = {step: activity.raw for step, _, activity in experiment.steps()}
    stages: dict[str, list[dict[str, Any]]] = {"before": [], "method": [], "after": [], "rollback": []}
    start = end = ""
    first_t = last_t = 0.0
    for row in rows:
        fact = row.fact
        last_t, end = fact.t, row.at
        if isinstance(fact, Opened):
            start, first_t = row.at, fact.t
        elif isinstance(fact, Done | Failed) and fact.step in activities:
            entry = _entry(activities[fact.step], fact) | (more or {}).get(fact.step, {})
            stages[fact.step.partition("-")[0]].append(entry)
    for entries in stages.values():
        entries.sort(key=lambda entry: str(entry.get("start", "")))  # what ran beside others ended later
    told = {
        "chaoslib-version": f"drkit-{__version__}",
        "platform": platform.platform(),
        "node": platform.node(),
        "experiment": undeclared(experiment.raw),
        "start": start,
        "status": status,
        "deviated": deviated,
        "steady_states": {
            "before": _state(stages["before"], len(experiment.probes)),
            "after": _state(stages["after"], len(experiment.probes)),
            "during": list(during),
        },
        "run": stages["method"],
        "rollbacks": stages["rollback"],
        "end": end,
        "duration": last_t - first_t,
    }
    cleaned: dict[str, Any] = (redaction or Redaction()).clean(told)
    return cleaned


def _entry(activity: dict[str, Any], fact: Done | Failed) -> dict[str, Any]:
    look: dict[str, Any] = dict((fact.after if isinstance(fact, Done) else fact.seen) or {})
    entry: dict[str, Any] = {"activity": look.pop("activity", activity), "output": look.pop("value", None)}
    entry["status"] = "succeeded" if isinstance(fact, Done) else "failed"
    return entry | look


def _state(entries: list[dict[str, Any]], probes: int) -> dict[str, Any] | None:
    """One check of the hypothesis; None if it was not checked."""
    if not entries:
        return None
    met = len(entries) == probes and all(entry.get("tolerance_met") is True for entry in entries)
    return {"steady_state_met": met, "probes": entries}
