"""What each sink has been told of a run, in a file beside its journal: the last event delivered, and what waits.

A notice is delivered first and noted after it: a crash in between delivers it once more, under the same key.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

SCHEMA: Final = "drkit.outbox/1"
NAME: Final = "outbox.json"

Write = Callable[[Path, bytes], None]
"""Replaces a file as a whole, durably. OSError."""


@dataclass(slots=True)
class Place:
    """How far one sink is. `upto`: it has the news of every event up to here; `waiting`: how many it still lacks."""

    upto: int
    waiting: int = 0
    error: str | None = None
    """Why the last attempt failed."""


class Outbox:
    """The file as its one writer sees it; `places` by the name of the sink."""

    def __init__(self, path: Path, write: Write) -> None:
        self._path, self._write = path, write
        self.places = read(path)

    def save(self) -> None:
        """Make it durable. OSError."""
        data = {"schema": SCHEMA, "sinks": {name: asdict(place) for name, place in self.places.items()}}
        self._write(self._path, json.dumps(data, indent=1).encode())


def read(path: Path) -> dict[str, Place]:
    """By sink: how far it is. Empty if nobody was told anything, or what is there cannot be understood."""
    try:
        data = json.loads(path.read_bytes())
        return {name: Place(**place) for name, place in data["sinks"].items()} if data["schema"] == SCHEMA else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # whoever begins here tells from now on; nothing but doubled messages could be lost with it


def undelivered(places: dict[str, Place]) -> str | None:
    """What waits, in words: `3 undelivered (slack: nobody answers)`; None if nothing does."""
    late = {name: place for name, place in places.items() if place.waiting}
    if not late:
        return None
    why = "; ".join(f"{name}: {place.error or 'under way'}" for name, place in late.items())
    return f"{sum(place.waiting for place in late.values())} undelivered ({why})"
