"""Clocks: the machine's, and the one that a run's events are stamped with."""

from __future__ import annotations

import time

import anyio

from drkit.model.ports import Clock


class SystemClock:
    """The machine's clocks; implements the port `Clock`."""

    def monotonic(self) -> float:
        """CLOCK_BOOTTIME: goes on while the machine is suspended, as leases and people do."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def wall(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await anyio.sleep(seconds)


class RunClock:
    """Seconds of a run: from 0 when it opens, standing still while no runner is alive.

    A new runner cannot know how long nobody was there without comparing wall clocks, so it goes on where the journal
    ends; the wall clock of each start is in the journal for people to read.
    """

    def __init__(self, clock: Clock, since: float = 0.0) -> None:
        self._clock = clock
        self._started = clock.monotonic() - since

    def now(self) -> float:
        """Seconds since the run was opened, without the gaps."""
        return self._clock.monotonic() - self._started
