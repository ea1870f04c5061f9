"""What an agent must still know after a restart: the epoch it wrote under, and that it was fenced. Durable before use.

Without it a restarted agent would start a former primary as writable, although another one has taken over.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any


class AgentMemory:
    """A small JSON file, replaced whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        kept: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        self.epoch: int | None = kept.get("epoch")
        """Epoch of the last lease that this data folder was written under; None: never a writer."""
        self.fenced: dict[str, Any] | None = kept.get("fenced")
        """Why and when (seconds since the epoch) the server was told to stop writing; None: it was not."""

    def hold(self, epoch: int) -> None:
        """A lease was granted."""
        self._keep(epoch, None)

    def fence(self, reason: str) -> None:
        """The first reason stands."""
        if self.fenced is None:
            self._keep(self.epoch, {"reason": reason, "at": time.time()})

    def unfence(self) -> None:
        """Somebody decided that this server may try to be the writer again."""
        self._keep(self.epoch, None)

    def forget(self) -> None:
        """The data folder was replaced by a clone: it has no past as a writer."""
        self._keep(None, None)

    def _keep(self, epoch: int | None, fenced: dict[str, Any] | None) -> None:
        draft = self._path.with_suffix(".new")
        with draft.open("w") as file:
            json.dump({"epoch": epoch, "fenced": fenced}, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path)
        self.epoch, self.fenced = epoch, fenced
