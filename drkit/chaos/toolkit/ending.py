"""How an experiment ended: its exit code, and its journal in Chaos Toolkit's shape."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drkit.errors import Exit

if TYPE_CHECKING:
    from drkit.engine.runs import RunFolder

JOURNAL = "journal.json"


@dataclass
class Ended:
    """`status` and `deviated` are Chaos Toolkit's words; `gate` False: the steady state was not met before."""

    status: str = "completed"
    deviated: bool = False
    gate: bool = True
    why: str = ""
    acted: bool = False
    rolled_back: bool = False
    """Rollbacks were run, and every one succeeded."""
    failures: list[str] = field(default_factory=list)
    """Rollbacks that failed."""
    during: list[dict[str, Any]] = field(default_factory=list)

    @property
    def exit_code(self) -> Exit:
        """0; 4 the hypothesis is false; 6 it did not go to its end, and all is rolled back; 1 otherwise."""
        if self.failures:
            return Exit.FAILED
        if self.deviated or (not self.gate and self.status == "completed"):
            return Exit.MISSED
        if self.status == "completed":
            return Exit.DONE
        return Exit.ROLLED_BACK if self.rolled_back and self.acted else Exit.FAILED

    @property
    def outcome(self) -> str:
        """What the run's last event says."""
        if self.status == "completed":
            return "done"
        return "failed" if self.status == "failed" else "aborted"


def write_journal(folder: RunFolder, told: dict[str, Any], also: Path | None = None) -> Path:
    """Write `journal.json` into the run's folder, and to `also`. OSError if it cannot be written."""
    from drkit.engine.runs import write_durably

    data = json.dumps(told, indent=2, ensure_ascii=False).encode()
    path = folder.path / JOURNAL
    write_durably(path, data)
    if also is not None:
        also.write_bytes(data)
    return path
