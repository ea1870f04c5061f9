"""Every write that the runner makes durable takes long: strace delays its fsync and fdatasync, from outside.

`timeout` is the lease: it tells strace to let go, also if whoever began it was killed.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Final

from drkit.errors import DrkitError
from drkit.sandbox.strikes import Drilled

LEASE_S: Final = 30.0
WRITE_S: Final = 2.0
"""More than a write takes otherwise."""
_ATTACHES_S: Final = 10.0
_CALLS: Final = "fsync,fdatasync"


class Disk:
    """The disk of one process."""

    def __init__(self, drilled: Drilled) -> None:
        self._pid = drilled.runner.pid
        self._folder = Path()
        self._tracer: subprocess.Popen[bytes] | None = None
        self._delayed = 0

    def begin(self) -> None:
        """From now on. DrkitError if strace may not."""
        self._folder = Path(tempfile.mkdtemp(prefix="drkit-strike-"))
        with self._said.open("wb") as said:
            self._tracer = subprocess.Popen(
                [
                    "timeout", f"{LEASE_S:g}", "strace", "-f", "-p", str(self._pid), "-o", str(self._log), "-e",
                    f"trace={_CALLS}", "-e", f"inject={_CALLS}:delay_exit={int(WRITE_S * 1e6)}",
                ],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said,
            )  # fmt: skip
        deadline = time.monotonic() + _ATTACHES_S
        while b" attached" not in self._said.read_bytes():
            if self._tracer.poll() is not None or time.monotonic() > deadline:
                why = self._said.read_text(errors="replace").strip()
                self.end()
                raise DrkitError(f"the writes of {self._pid} cannot be slowed down: {why}", hint="strace -V")
            time.sleep(0.01)

    def met(self) -> int:
        """Writes that were delayed."""
        if self._tracer is not None and self._log.exists():
            self._delayed = self._log.read_text(errors="replace").count("(DELAYED)")
        return self._delayed

    def lasts(self) -> bool:
        """strace has hold of it."""
        return self._tracer is not None and self._tracer.poll() is None

    def end(self) -> None:
        """strace has let go, and nothing is left of it."""
        if self._tracer is not None:
            self._tracer.terminate()
            self._tracer.wait()
            shutil.rmtree(self._folder)
            self._tracer = None

    @property
    def _log(self) -> Path:
        return self._folder / "calls"

    @property
    def _said(self) -> Path:
        return self._folder / "said"


@cache
def why_not() -> str | None:
    """What keeps us from slowing down a process that is no child of strace's; None: nothing does."""
    for tool, package in (("strace", "strace"), ("timeout", "coreutils")):
        if shutil.which(tool) is None:
            return f"{tool} is missing (apt-get install {package})"
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as idle:
        # It is attached to, sees its input end, and ends; so does strace.
        tracer = subprocess.Popen(
            ["strace", "-p", str(idle.pid), "-e", f"inject={_CALLS}:delay_exit=1"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert tracer.stderr is not None
        first = tracer.stderr.readline().decode(errors="replace").strip()
        assert idle.stdin is not None
        idle.stdin.close()
        tracer.communicate(timeout=_ATTACHES_S)
    return None if first.endswith("attached") else f"strace may not: {first}"
