"""The run's hash-chained journal, as an experiment writes it: facts are noted, and made durable before what needs it.

Safe to use from any thread: background activities and orders write too. Notes that were not committed are lost with the
process, and so is nothing that matters: an action's intent is committed before it is sent.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from drkit.chaos.toolkit.redaction import Redaction
from drkit.model.events import GENESIS, Fact, Row
from drkit.model.ports import Store


class Ledger:
    """Facts in, rows out. `store` None: nothing is durable (to measure what durability costs)."""

    def __init__(
        self, store: Store | None, *, redaction: Redaction | None = None, rows: list[Row] | None = None
    ) -> None:
        """`rows`: what the journal holds already, where this continues one."""
        self._store = store
        self.redaction = redaction or Redaction()
        self._guard = threading.RLock()
        self.rows: list[Row] = list(rows or ())
        self._durable = len(self.rows)
        self._began = time.clock_gettime(time.CLOCK_BOOTTIME) - (self.rows[-1].fact.t if self.rows else 0.0)
        self.tell: Callable[[Row], None] | None = None

    def note(self, kind: type[Fact], **fields: Any) -> None:
        """Something happened; durable with the next commit."""
        with self._guard:
            now = time.clock_gettime(time.CLOCK_BOOTTIME)
            fact = kind(t=round(now - self._began, 6), **self.redaction.clean(fields))
            last = self.rows[-1] if self.rows else None
            row = Row.link(last.seq + 1 if last else 1, _utc(), fact, (), last.hash if last else GENESIS)
            self.rows.append(row)
            if self.tell is not None:
                self.tell(row)

    def commit(self) -> None:
        """Make durable what was noted. JournalError if it cannot be; it may be tried again."""
        with self._guard:
            if self._store is not None and self._durable < len(self.rows):
                self._store.append(self.rows[self._durable :])
            self._durable = len(self.rows)

    def record(self, kind: type[Fact], **fields: Any) -> None:
        """Note it and make it durable."""
        with self._guard:
            self.note(kind, **fields)
            self.commit()


def _utc() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
