"""A process that stands still for a moment, so that a fault can be there before it goes on."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from drkit.errors import DrkitError
from drkit.sandbox.processes import Process, read_stat

LEASE_S: Final = 10.0
_STOPS_S: Final = 5.0


@contextmanager
def frozen(process: Process) -> Iterator[None]:
    """It does nothing as long as this lasts, and goes on after `LEASE_S` whatever becomes of us. DrkitError."""
    # The shell's input ends with us or with this block, at the latest with its time: then it lets the process go on.
    thaw = ["sh", "-c", f"timeout {LEASE_S:g} cat; kill -CONT {process.pid}"]
    with subprocess.Popen(thaw, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL):
        try:
            deadline = time.monotonic() + _STOPS_S
            if not process.send(signal.SIGSTOP):
                raise DrkitError(f"process {process.pid} is gone", hint="drkit status")
            while (stat := read_stat(process.pid)) is not None and stat.state != "T" and time.monotonic() < deadline:
                time.sleep(0.001)
            yield
        finally:
            process.send(signal.SIGCONT)
