"""What an agent must still know after a restart: its epoch, that it was fenced, an override. Durable before use.

Without it a restarted agent would start a former primary as writable, although another one has taken over.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

_NOTHING: dict[str, Any] = {"epoch": None, "fenced": None, "witnessed": 0, "override": None}


class AgentMemory:
    """A small JSON file, replaced whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._kept = _NOTHING | (json.loads(path.read_text()) if path.exists() else {})

    @property
    def epoch(self) -> int | None:
        """Epoch of the last lease that this data folder was written under; None: never a writer."""
        return self._kept["epoch"]  # type: ignore[no-any-return]

    @property
    def fenced(self) -> dict[str, Any] | None:
        """Why and when (seconds since the epoch) the server was told to stop writing; None: it was not."""
        return self._kept["fenced"]  # type: ignore[no-any-return]

    @property
    def override(self) -> dict[str, Any] | None:
        """Who let this server write without a witness: `by`, `run`, `token`, `loss_s`, `at`; None: nobody.

        `epoch` is there once it does; it stays until a witness knows of it.
        """
        return self._kept["override"]  # type: ignore[no-any-return]

    @property
    def begun(self) -> dict[str, Any] | None:
        """The override under which this server has written, and of which no witness knows yet."""
        return self.override if self.override is not None and "epoch" in self.override else None

    def witnessed(self, epoch: int) -> None:
        """The witness says that this is the present epoch."""
        if epoch > self._kept["witnessed"]:
            self._keep(witnessed=epoch)

    def hold(self, epoch: int) -> None:
        """The witness granted a lease: whatever was permitted without it is over."""
        self._keep(epoch=epoch, fenced=None, override=None)

    def permit(self, override: dict[str, Any]) -> None:
        """Two persons let this standby be promoted although no witness can be asked."""
        self._keep(override=override | {"at": time.time()})

    def begin(self) -> int:
        """The epoch under which this server writes by its override from now on: above every one it has heard of."""
        epoch: int = max(self._kept["witnessed"], self.epoch or 0) + 1
        self._keep(epoch=epoch, override={**(self.override or {}), "epoch": epoch})
        return epoch

    def reported(self, epoch: int) -> None:
        """The witness knows of an override that is over; `epoch` is what it is called there."""
        self._keep(epoch=epoch, override=None)

    def lapse(self) -> None:
        """An override is for one promotion: this server is a standby (again)."""
        if self.override is not None:
            self._keep(override=None)

    def fence(self, reason: str) -> None:
        """The first reason stands. Nothing may begin by override any more."""
        if self.fenced is None:
            self._keep(fenced={"reason": reason, "at": time.time()}, override=self.begun)

    def unfence(self) -> None:
        """Somebody decided that this server may try to be the writer again."""
        self._keep(fenced=None)

    def forget(self) -> None:
        """The data folder was replaced by a clone: it has no past as a writer."""
        self._keep(epoch=None, fenced=None, override=None)

    def _keep(self, **changes: Any) -> None:
        kept = self._kept | changes
        draft = self.path.with_suffix(".new")
        with draft.open("w") as file:
            json.dump(kept, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.path)
        self._kept = kept
