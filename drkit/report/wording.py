"""Plain words for values, durations and instants; the same in every rendering. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from drkit.model.values import Json, show_duration

_LONG = 180


def value(of: Json) -> str:
    """A value in a few words: no quotes around strings, lists in a row, `-` for nothing, cut where it is long."""
    if of is None:
        return "-"
    if isinstance(of, bool):
        return "yes" if of else "no"
    if isinstance(of, float):
        return f"{of:.6g}"
    if isinstance(of, list) and not any(isinstance(item, list | dict) for item in of):
        of = ", ".join(value(item) for item in of) or "none"
    text = of if isinstance(of, str) else json.dumps(of, ensure_ascii=False, separators=(", ", ": "))
    return text if len(text) <= _LONG else f"{text[: _LONG - 1]}…"


def shown(values: Mapping[str, Json] | None) -> tuple[tuple[str, str], ...]:
    """Names and values, as they are shown to people."""
    return tuple((name, value(of)) for name, of in (values or {}).items())


def seconds(of: float | None) -> str:
    """A measured duration or an objective: `0.21 s`, `21.4 s`, `60 s`, `4:51`; `not measured` where there is none."""
    if of is None:
        return "not measured"
    if of >= 120:
        return show_duration(of)
    text = f"{of:.2f}" if of < 10 else f"{of:.1f}"
    return f"{text.rstrip('0').rstrip('.')} s"


def took(of: float | None) -> str:
    """How long a step took; empty where it did not end."""
    return "" if of is None else show_duration(of)


def kept(passed: bool) -> str:
    """What became of a run's deadline."""
    return "passed, and the run paused" if passed else "kept"


def clock(at_s: float) -> str:
    """UTC time of day with tenths."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%H:%M:%S.%f")[:-5]


def day(at_s: float) -> str:
    """UTC date and time, to the second."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def instant(at: str) -> float:
    """UTC seconds since the epoch of an ISO-8601 instant."""
    return datetime.fromisoformat(at).timestamp()


def count(number: int, noun: str) -> str:
    """`1 step`, `3 steps`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
