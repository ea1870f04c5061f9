"""A host's processes die with their host, however it ends, and are found by the mark they carry, not by their names.

Every process of a host inherits `DRKIT_HOST_ROOT` in its environment. The guardian is a small process that sleeps until
its host is gone (the pipe between them closes, also on SIGKILL) and then kills what carries the mark.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

MARK = "DRKIT_HOST_ROOT"
SWEEP_S = 2.0


def start_guardian(root: Path) -> None:
    """Fork the guardian of the host with this root; to be called before threads run and anything heavy is imported."""
    wakes, _held_until_death = os.pipe()
    if os.fork():
        os.close(wakes)
        return
    try:
        os.setsid()
        os.close(_held_until_death)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):  # the ready line's pipe must end with the host
            os.dup2(null, stream)
        os.read(wakes, 1)
        sweep(root)
    finally:
        os._exit(0)


def sweep(root: Path) -> int:
    """Kill every process that carries the mark of this root, until none is left; how many were killed."""
    killed = 0
    deadline = time.monotonic() + SWEEP_S
    while (found := marked(root)) and time.monotonic() < deadline:
        killed += sum(_kill(pid, root) for pid in found)
        time.sleep(0.005)
    return killed


def marked(root: Path) -> list[int]:
    """Pids of live processes that carry the mark of this root, this process excepted."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _is_marked(entry, root)]


def _is_marked(entry: Path, root: Path) -> bool:
    try:
        return entry.name != str(os.getpid()) and _mark(root) in (entry / "environ").read_bytes().split(b"\0")
    except OSError:
        return False  # gone meanwhile, or somebody else's


def _mark(root: Path) -> bytes:
    return f"{MARK}={root}".encode()


def _kill(pid: int, root: Path) -> bool:
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        # With the descriptor held the pid cannot pass to another process; so look again, then kill.
        if not _is_marked(Path(f"/proc/{pid}"), root):
            return False
        signal.pidfd_send_signal(process, signal.SIGKILL)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(process)
