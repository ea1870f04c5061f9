"""Plain values that files and journals are made of: JSON, durations, instants, digests. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

if TYPE_CHECKING:
    from pydantic import BeforeValidator, JsonValue

    Json = JsonValue

DURATION_PATTERN = r"^(\d+(\.\d+)?(ms|s|m|h|d))+$"
_DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(text: object) -> float:
    """Seconds of `90s`, `5m`, `1h`, `200ms`, `1h30m`. Raises ValueError for anything else, bare numbers included."""
    if isinstance(text, float | int) and not isinstance(text, bool):
        return float(text)  # already parsed: plans and journals carry seconds
    if isinstance(text, str):
        parts = list(_DURATION.finditer(text.strip()))
        if parts and "".join(part.group() for part in parts) == text.strip():
            return sum(float(part["number"]) * _SECONDS[part["unit"]] for part in parts)
    raise ValueError(f'"{text}" is not a duration; write 90s, 5m or 1h')


def show_duration(seconds: float) -> str:
    """`4:51`, `1:02:03`; below a minute with one decimal, `4.2 s`; below a second `210 ms`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def duration_text(value: object) -> str:
    """A duration as it stands in resolved parameters: shown if it is known, as it is if it is a reference still."""
    return show_duration(value) if isinstance(value, int | float) else str(value)


if TYPE_CHECKING:
    Duration = Annotated[float, BeforeValidator(parse_duration)]


def __getattr__(name: str) -> Any:
    """`Json`, and `Duration`: seconds as a float, in files written `90s`, `5m`, `1h`.

    Made when first asked for: pydantic costs 0.1 s, and not everybody who needs a digest needs a model.
    """
    if name not in ("Json", "Duration"):
        raise AttributeError(name)
    from pydantic import BeforeValidator, JsonValue, PlainSerializer, WithJsonSchema

    made = {
        "Json": JsonValue,
        "Duration": Annotated[
            float,
            BeforeValidator(parse_duration),
            PlainSerializer(float, return_type=float),
            WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN, "examples": ["90s", "5m", "1h"]}),
        ],
    }
    globals().update(made)
    return made[name]


def canonical(value: Any) -> bytes:
    """The one byte form that digests are taken over: sorted keys, no spaces, UTF-8, no NaN."""
    return canonical_text(value).encode()


def canonical_text(value: Any) -> str:
    """The same, not yet as bytes."""
    return _CANONICAL.encode(value)


# Made once: `json.dumps` would make one for each call.
_CANONICAL = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, check_circular=False
)


def digest(value: Any) -> str:
    """`sha256:<hex>` of the canonical form of a JSON value."""
    return digest_of_bytes(canonical(value))


def digest_of_bytes(data: bytes) -> str:
    """`sha256:<hex>` of these bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def utc(seconds: float) -> str:
    """ISO-8601 with milliseconds and `Z`, from seconds since the epoch."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
