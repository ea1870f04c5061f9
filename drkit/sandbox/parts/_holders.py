"""Who may still change something here: a part refuses a run whose lease is over, and one older than it has seen.

Every answer that says how things are has `clock`, and a change has `permit`: the run's fencing token, and the instant
of that clock from which it is too late. Both are optional: people with `curl` hold no lease, and are not refused.
"""

from __future__ import annotations

import os
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any


@cache
def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def clock() -> dict[str, Any]:
    """What time it is here: which boot of this machine, and seconds of CLOCK_BOOTTIME since."""
    return {"boot": _boot(), "at_s": time.clock_gettime(time.CLOCK_BOOTTIME)}


class Holders:
    """Remembers the newest run that changed something here, also after a restart."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._newest = int(path.read_text()) if path.exists() else 0

    def why_not(self, permit: dict[str, Any] | None) -> str | None:
        """Why a change with this permit must not begin now; None if it may. ValueError if it is not a permit."""
        if permit is None:
            return None
        try:
            token, boot, until_s = int(permit["token"]), permit["boot"], permit["until_s"]
        except (KeyError, TypeError) as error:
            raise ValueError(f"a permit says token, boot and until_s ({error})") from error
        with self._lock:
            if token < self._newest:
                return f"fencing token {token} is older than {self._newest}"
            self._keep(token)
        now = clock()
        if until_s is not None and (boot != now["boot"] or now["at_s"] >= float(until_s)):
            return "it came after its sender's lease of the environment was over"
        return None

    def _keep(self, token: int) -> None:
        if token == self._newest:
            return
        draft = self._path.with_suffix(".new")
        with draft.open("w") as file:
            file.write(f"{token}\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path)
        self._newest = token
