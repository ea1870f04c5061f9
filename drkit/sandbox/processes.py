"""Processes known by pid *and* start time, signalled through pidfds, found again by the mark in their environment.

A pid alone is a number that the kernel hands out again; with the start time (field 22 of /proc/PID/stat) it is one
process. Everything that the sandbox starts carries `DRKIT_SANDBOX_WORLD` and `DRKIT_SANDBOX_SITE` in its environment,
and so do its descendants: that is how what is left of a world is found when all that knew of it was killed.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from drkit.errors import DrkitError

WORLD_VARIABLE = "DRKIT_SANDBOX_WORLD"
SITE_VARIABLE = "DRKIT_SANDBOX_SITE"
HOST_VARIABLE = "DRKIT_SANDBOX_HOST"

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_IPC_RMID = 0
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Process:
    """One process, for certain: `start` is its start time in clock ticks since boot."""

    pid: int
    start: int

    @property
    def alive(self) -> bool:
        """It exists and is not a zombie."""
        stat = read_stat(self.pid)
        return stat is not None and stat.start == self.start and stat.state not in "ZX"

    def send(self, number: int) -> bool:
        """Signal exactly this process; False if it is gone (whoever has its pid now is not touched)."""
        try:
            handle = os.pidfd_open(self.pid)
        except OSError:
            return False
        try:
            # The descriptor pins the process; if the start time still fits, it is the one we mean.
            stat = read_stat(self.pid)
            if stat is None or stat.start != self.start:
                return False
            signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(handle)
        return True


@dataclass(frozen=True, slots=True)
class Stat:
    """What we read of /proc/PID/stat."""

    pid: int
    parent: int
    state: str
    start: int


def read_stat(pid: int) -> Stat | None:
    """None if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the name before it may hold spaces and parentheses
    return Stat(pid, int(fields[1]), fields[0], int(fields[19]))


def identify(pid: int) -> Process | None:
    """The process that has this pid now; None if there is none."""
    stat = read_stat(pid)
    return Process(pid, stat.start) if stat is not None else None


def every_stat() -> dict[int, Stat]:
    """All processes, zombies included, by pid."""
    stats = (read_stat(int(name)) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208 (many, often)
    return {stat.pid: stat for stat in stats if stat is not None}


def marks(pid: int) -> dict[str, str]:
    """`DRKIT_*` variables that the process was started with; empty if it hides or overwrote them."""
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    pairs = (entry.partition(b"=") for entry in raw.split(b"\0") if entry.startswith(b"DRKIT_"))
    return {name.decode(): os.fsdecode(value) for name, _, value in pairs}


def descendants(roots: Iterable[int], stats: dict[int, Stat]) -> set[int]:
    """The roots and everything that they started, directly or not, as far as parents are still there."""
    found = set(roots)
    children: dict[int, list[int]] = {}
    for stat in stats.values():
        children.setdefault(stat.parent, []).append(stat.pid)
    open_ends = list(found)
    while open_ends:
        for child in children.get(open_ends.pop(), ()):
            if child not in found:
                found.add(child)
                open_ends.append(child)
    return found


def of_world(
    folder: Path, site: str | None = None, roots: Iterable[int] = (), *, host: str | None = None
) -> list[Process]:  # fmt: skip
    """Living processes marked with this world (and site, and host), or descended from one that is, or from `roots`.

    Descent matters: PostgreSQL writes its process title over its environment.
    """
    stats = every_stat()
    marked = set(roots)
    for pid in stats:
        mark = marks(pid)
        here = mark.get(WORLD_VARIABLE) == str(folder) and site in (None, mark.get(SITE_VARIABLE))
        if here and host in (None, mark.get(HOST_VARIABLE)):
            marked.add(pid)
    family = descendants(marked, stats)
    family.discard(os.getpid())
    return [Process(pid, stats[pid].start) for pid in sorted(family) if pid in stats and stats[pid].state not in "ZX"]


def kill_all(find: Iterable[Process]) -> list[Process]:
    """SIGKILL each; returns those that were there to be killed."""
    return [process for process in find if process.send(signal.SIGKILL)]


def wait_gone(processes: Iterable[Process], within_s: float) -> list[Process]:
    """Wait until all have ended; returns those that have not."""
    deadline = time.monotonic() + within_s
    left = [process for process in processes if process.alive]
    while left and time.monotonic() < deadline:
        select.select([], [], [], 0.01)
        left = [process for process in left if process.alive]
    return left


def set_parent_death_signal(number: int = signal.SIGKILL) -> None:
    """Ask the kernel to send us this signal when the thread that started us ends. Raises OSError."""
    if _libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl(PR_SET_PDEATHSIG): {os.strerror(code)}")


def become_subreaper() -> None:
    """Orphans below us become our children, so that they can be found and reaped. Raises DrkitError."""
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise DrkitError(f"prctl(PR_SET_CHILD_SUBREAPER): {os.strerror(ctypes.get_errno())}")


def remove_shared_memory(key: int, creator: int) -> bool:
    """Remove the System V segment that `creator` (a pid) made under this key; False if it is gone already.

    Pids are handed out again, so both must agree with what the kernel lists.
    """
    for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]:
        fields = line.split()
        if (int(fields[0]), int(fields[4])) == (key, creator):
            return bool(_libc.shmctl(int(fields[1]), _IPC_RMID, None) == 0)
    return False
