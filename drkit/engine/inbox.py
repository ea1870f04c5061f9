"""Where facts are reported to the driver, from any thread and from signal handlers; implements the port `Inbox`.

A deque and an eventfd: both are atomic, so `put` takes no lock, and a thread that is killed or a handler that
interrupts another `put` leaves nothing half done. Waiting works on asyncio and trio alike.
"""

from __future__ import annotations

import os
from collections import deque
from types import TracebackType
from typing import Self

import anyio

from drkit.model.events import Fact


class ThreadInbox:
    """One inbox for one driver. Close it when the driver has ended; what is put later is kept and seen by nobody."""

    def __init__(self) -> None:
        self._facts: deque[Fact] = deque()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._asleep = False

    def put(self, fact: Fact) -> None:
        """Accept a fact. Never blocks, never raises."""
        self._facts.append(fact)
        if self._asleep and self._bell >= 0:
            self._asleep = False  # one ring is enough; before it, or whoever it wakes might be asleep again by then
            os.eventfd_write(self._bell, 1)

    def drain(self) -> list[Fact]:
        """Everything accepted since the last drain, in order."""
        facts: list[Fact] = []
        while self._facts:
            facts.append(self._facts.popleft())
        return facts

    async def wait(self) -> None:
        """Return when there is something to drain."""
        try:
            while True:
                self._asleep = True  # said first, looked at after: a fact that comes in between is seen, or rings
                if self._facts:
                    return
                await anyio.wait_readable(self._bell)
                os.eventfd_read(self._bell)
        finally:
            self._asleep = False

    def close(self) -> None:
        """Let go of the bell."""
        bell, self._bell = self._bell, -1
        if bell >= 0:
            os.close(bell)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
