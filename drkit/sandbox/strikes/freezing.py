"""A process that stands still for a moment, so that a fault can be there before it goes on."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self

from drkit.errors import DrkitError
from drkit.sandbox.processes import Process, read_stat

LEASE_S: Final = 10.0
_STOPS_S: Final = 5.0


class Freezer:
    """Ready to freeze one process at once: whatever takes time has been done before."""

    def __init__(self, process: Process) -> None:
        self._process = process
        # The shell's input ends with us, or with the freezing, at the latest with its time: it lets the process go on.
        thaw = f"read frozen && timeout {LEASE_S:g} cat; kill -CONT {process.pid}"
        self._lease = subprocess.Popen(["sh", "-c", thaw], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It does nothing as long as this lasts, and goes on after `LEASE_S` whatever becomes of us. DrkitError."""
        assert self._lease.stdin is not None
        if not self._process.send(signal.SIGSTOP):
            raise DrkitError(f"process {self._process.pid} is gone", hint="drkit status")
        try:
            self._lease.stdin.write(b"frozen\n")
            self._lease.stdin.flush()
            deadline = time.monotonic() + _STOPS_S
            while (stat := read_stat(self._process.pid)) and stat.state != "T" and time.monotonic() < deadline:
                time.sleep(0.001)
            yield
        finally:
            self._process.send(signal.SIGCONT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._lease.stdin is not None
        self._lease.stdin.close()
        self._lease.wait()
