"""Who may look into the folders of runs and give orders there: their owner alone, or a group they were given to.

A state folder is shared by whoever makes it so, setgid and writable for its group (`install -d -m 2770 -g dr-ops`). The
group may then read journals and reach the runner, which hears from the kernel who speaks; nobody but the owner of a run
can write what the run believes.
"""

from __future__ import annotations

import stat
from pathlib import Path

_SHARED = stat.S_ISGID | stat.S_IWGRP


def make_runs(runs: Path) -> None:
    """Make the folder of all runs, as shared as the one it stands in. OSError if it cannot be made."""
    for folder in (runs.parent, runs):
        if not folder.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if _shared(folder.parent):
                folder.chmod(0o3770)  # sticky: what is another's stays


def admit(run: Path) -> None:
    """Let the group of a shared folder into the folder of one run: to look, and to leave orders in the spool."""
    if _shared(run.parent):
        run.chmod(0o2750)
        (run / "spool").chmod(0o3770)


def file_mode(folder: Path) -> int:
    """The mode of a file in `folder`: read by whoever may read that, written by its owner."""
    return 0o640 if folder.stat().st_mode & stat.S_IRGRP else 0o600


def socket_mode(folder: Path) -> int:
    """The mode of a socket in `folder`: whoever may read that may speak there."""
    return 0o660 if folder.stat().st_mode & stat.S_IRGRP else 0o600


def _shared(folder: Path) -> bool:
    return folder.stat().st_mode & _SHARED == _SHARED
