"""The functions that expressions may call, and the values they know beside JSON: durations and instants. Pure.

A function raises TypeError or ValueError with a sentence; the evaluator makes that an unknown answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from drkit.model.values import parse_duration


class Seconds(float):
    """A duration."""

    __slots__ = ()


def _size(value: Any) -> int:
    if isinstance(value, str | list | Mapping):
        return len(value)
    raise TypeError(f"{kind(value)} has no size")


def _matches(text: Any, pattern: Any) -> bool:
    import re2  # type: ignore[import-untyped]  # linear in the text, whatever the pattern

    options = re2.Options()
    options.log_errors = False  # it would write to stderr by itself
    try:
        return re2.compile(_text(pattern), options).search(_text(text)) is not None
    except re2.error as error:
        why = error.args[0]
        raise ValueError(f"not a pattern: {why.decode() if isinstance(why, bytes) else why}") from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{kind(value)} is not text")
    return value


def _string(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, list | Mapping):
        raise TypeError(f"{kind(value)} has no text form")
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(f"{kind(value)} is not a number")
    return int(value)


def _double(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(f"{kind(value)} is not a number")
    return float(value)


def as_seconds(value: Any) -> Seconds | str:
    """A duration as drkit's files or ISO-8601 write it; the text itself if it is none."""
    try:
        return Seconds(parse_duration(value))
    except ValueError:
        from pydantic import TypeAdapter, ValidationError

        try:
            return Seconds(TypeAdapter(timedelta).validate_python(value).total_seconds())
        except ValidationError:
            return str(value)


def as_instant(value: str) -> datetime | str:
    """An instant as ISO-8601 writes it; the text itself if it is none. Without a zone it is UTC."""
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return value
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _duration(value: Any) -> Seconds:
    return Seconds(parse_duration(value))


def _timestamp(value: Any) -> datetime:
    found = as_instant(_text(value))
    if isinstance(found, str):
        raise ValueError(f'"{value}" is not an instant; write 2026-11-23T03:07:12Z')
    return found


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "size": _size, "duration": _duration, "timestamp": _timestamp, "string": _string, "int": _integer,
    "double": _double, "matches": _matches,
    "startsWith": lambda text, start: _text(text).startswith(_text(start)),
    "endsWith": lambda text, end: _text(text).endswith(_text(end)),
    "contains": lambda text, part: _text(part) in _text(text),
}  # fmt: skip


def kind(value: Any) -> str:
    """What to call a value in messages."""
    return next((word for python, word in _WORDS if isinstance(value, python)), "nothing")


_WORDS: tuple[tuple[type, str], ...] = (
    (bool, "a truth"), (Seconds, "a duration"), (int, "a number"), (float, "a number"), (str, "text"),
    (datetime, "an instant"), (list, "a list"), (Mapping, "a mapping"),
)  # fmt: skip
