"""Journal and inbox in memory, for simulations and tests: same ports, honest crashes.

What `append` has returned for is durable and survives a `crash`; everything else (an append that was interrupted, the
inbox) is gone. Rows are kept as JSON text, as on a disk, so that nothing shared in memory leaks through.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Sequence

import anyio

from drkit.errors import JournalError
from drkit.model.events import Fact, Row, verified
from drkit.model.values import canonical


class MemoryStore:
    """Implements the port `Store`."""

    def __init__(self) -> None:
        self._rows: list[bytes] = []
        self._synced = 0
        self.commits = 0

    def append(self, rows: Sequence[Row]) -> None:
        """Keep all of them. JournalError if they leave a gap."""
        kept = list(self._rows)
        for row in rows:
            text = canonical(row.to_json())
            if row.seq <= len(kept):
                if kept[row.seq - 1] != text:
                    raise JournalError(f"event {row.seq} is in the journal already, and is another one")
                continue
            if row.seq != len(kept) + 1:
                raise JournalError(f"event {row.seq} would leave a gap after event {len(kept)}")
            kept.append(text)
        self._rows = kept
        self._sync()
        self.commits += 1

    def crash(self) -> None:
        """Lose what is not durable, as a machine does that is switched off."""
        del self._rows[self._synced :]

    def _sync(self) -> None:
        """What is written becomes durable."""
        self._synced = len(self._rows)

    def read(self, after: int = 0) -> Iterator[Row]:
        """Rows after `after`, checked."""
        rows = verified(Row.from_json(json.loads(text)) for text in list(self._rows))
        return (row for row in rows if row.seq > after)

    def texts(self) -> list[bytes]:
        """The rows as they lie there, unchecked."""
        return list(self._rows)

    def close(self) -> None:
        """Nothing to release."""

    def __len__(self) -> int:
        return len(self._rows)


class MemoryInbox:
    """Implements the port `Inbox` for one event loop."""

    def __init__(self) -> None:
        self._facts: deque[Fact] = deque()
        self._waiting: anyio.Event | None = None

    def put(self, fact: Fact) -> None:
        """Accept a fact; from the event loop's thread only."""
        self._facts.append(fact)
        if self._waiting is not None:
            self._waiting.set()

    def drain(self) -> list[Fact]:
        """Everything accepted since, in order."""
        facts = list(self._facts)
        self._facts.clear()
        return facts

    async def wait(self) -> None:
        """Return when there is something to drain."""
        while not self._facts:
            self._waiting = anyio.Event()
            try:
                await self._waiting.wait()
            finally:
                self._waiting = None
