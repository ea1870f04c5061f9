"""What became of a call, and any value as plain JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Outcome:
    """`succeeded` with an output; `failed`; `broken` (it could not even be called); `cut` (killed: it had to end)."""

    status: str
    output: Any = None
    error: str | None = None
    trace: tuple[str, ...] = ()
    said: str = ""
    """What it printed."""
    world: str = "unknown"
    """What is known of the world after a failure: `untouched` where nothing was started."""


def plain(value: Any) -> Any:
    """A value as JSON holds it: what JSON does not know becomes its text."""
    if value is None or isinstance(value, bool | str):
        return value if value is None or isinstance(value, bool) else _text(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {_text(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode("utf-8", "replace")
    return _text(value.isoformat() if hasattr(value, "isoformat") else str(value))


def _text(text: str) -> str:
    """Half a surrogate pair cannot be written anywhere."""
    return text.encode("utf-8", "replace").decode()
