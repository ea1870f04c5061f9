"""Which process on which machine: what a lock must say so that others can tell a dead holder from a silent one.

A pid is a number that is handed out again; with its start time, on one boot of one machine, in one pid namespace, it
is one process for ever.
"""

from __future__ import annotations

import os
import pwd
import socket
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class ProcessId:
    """One process, for certain. `start`: clock ticks after boot. `machine`: boot id and pid namespace."""

    pid: int
    start: int
    machine: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)

    @property
    def here(self) -> bool:
        """It is or was on this boot of this machine, where we can see it."""
        return self.machine == machine()

    @property
    def dead(self) -> bool:
        """It is gone for certain. False also when that cannot be told from here."""
        if not self.here:
            return False
        try:
            os.kill(self.pid, 0)  # also where /proc hides other people's processes
        except ProcessLookupError:
            return True
        except PermissionError:
            pass  # it exists and is somebody else's
        found = _stat(self.pid)
        return found is not None and (found[0] in "ZX" or found[1] != self.start)


def this_process() -> ProcessId:
    """Us."""
    found = _stat(os.getpid())
    assert found is not None  # /proc is Linux; there is no other platform
    return ProcessId(os.getpid(), found[1], machine())


def process(pid: int) -> ProcessId | None:
    """The process that has this pid now; None if there is none or it is a zombie."""
    found = _stat(pid)
    return None if found is None or found[0] in "ZX" else ProcessId(pid, found[1], machine())


@cache
def machine() -> str:
    """This boot of this machine, as seen from this pid namespace."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot}:{os.stat('/proc/self/ns/pid').st_ino}"  # noqa: PTH116 (a magic link, not a path)


def login(uid: int | None = None) -> str:
    """Login name of a uid (ours by default); `uid 1234` where the machine knows none."""
    uid = os.getuid() if uid is None else uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def hostname() -> str:
    """What this machine calls itself."""
    return socket.gethostname()


def _stat(pid: int) -> tuple[str, int] | None:
    """State letter and start time in ticks."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the name before it may hold spaces and parentheses
    return fields[0], int(fields[19])
