"""The wish to end an experiment: from a signal, an order, a lost lease. Every wait hears of it at once.

A pipe that is written to once and never read: it wakes whoever waits for it, in any thread, now and later.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

SIGNALS: Final = {
    signal.SIGINT: "interrupted by SIGINT",
    signal.SIGTERM: "interrupted by SIGTERM",
    signal.SIGHUP: "interrupted by SIGHUP",
    # What chaoslib.exit sends: end now, with rollbacks and without.
    signal.SIGUSR1: "interrupted by an activity (SIGUSR1)",
    signal.SIGUSR2: "interrupted by an activity that wants no rollbacks (SIGUSR2)",
}


@dataclass(frozen=True, slots=True)
class Reason:
    """Why it has to end. `status` is what the journal calls such an end."""

    why: str
    status: str = "interrupted"
    rollbacks: bool = True


class Abort:
    """Whether the experiment has to end. Safe to use from any thread and from signal handlers."""

    def __init__(self) -> None:
        self.fd, self._tell = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.reason: Reason | None = None

    def call(self, reason: Reason) -> None:
        """End it. The first reason counts."""
        if self.reason is None:
            self.reason = reason
            os.write(self._tell, b"!")

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until it has to end; whether it has."""
        deadline = time.monotonic() + seconds
        while self.reason is None:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            select.select([self.fd], [], [], left)
        return True

    def close(self) -> None:
        """Give the pipe back."""
        os.close(self.fd)
        os.close(self._tell)


@contextmanager
def signals_to(abort: Abort) -> Iterator[None]:
    """Signals are data: each one calls for the end, and none raises in the middle of something."""

    def handler(number: int, frame: object) -> None:
        abort.call(Reason(SIGNALS[signal.Signals(number)], rollbacks=number != signal.SIGUSR2))

    # What whoever started us had ignored (nohup, a shell's background job) stays ignored.
    heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heard}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
