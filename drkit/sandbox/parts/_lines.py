"""What happened at a part, entry by entry: in memory for whoever polls, and as JSON lines in a file for the record."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any


class Lines:
    """An append-only list of JSON objects. Safe to use from threads."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._entries: list[dict[str, Any]] = []
        self._file = path.open("a", buffering=1)

    def add(self, entry: dict[str, Any]) -> None:
        """Append one entry, numbered `n`; it is in the file when this returns."""
        with self._lock:
            numbered = {"n": len(self._entries), **entry}
            self._entries.append(numbered)
            self._file.write(json.dumps(numbered) + "\n")

    def since(self, start: int) -> tuple[int, list[dict[str, Any]]]:
        """The number to ask for next time, and the entries from number `start` on."""
        with self._lock:
            return len(self._entries), self._entries[start:]
