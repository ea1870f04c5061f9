"""Routing controls as data: cells, names, ARNs, the safety rule, and the file that keeps their states.

Traffic is split into cells by weight; each cell has one control per region, called `cell-10/us-west-2`. Moving traffic
10 -> 50 -> 100 % means flipping one cell after the other. The safety rule of a cell: at least one side stays on.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

ACCOUNT = "123456789012"
PANEL_NAME = "reliabletech"
CELLS: Mapping[str, int] = {"cell-10": 10, "cell-40": 40, "cell-50": 50}
"""Name and weight (percent of traffic) of each cell."""


def _hex(text: str, length: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]


PANEL_ARN = f"arn:aws:route53-recovery-control::{ACCOUNT}:controlpanel/{_hex(PANEL_NAME, 32)}"


def control_arn(name: str) -> str:
    """ARN of the control called `cell-10/us-west-2`; the same in every world."""
    return f"{PANEL_ARN}/routingcontrol/{_hex(name, 16)}"


def rule_arn(cell: str) -> str:
    """ARN of the cell's safety rule."""
    return f"{PANEL_ARN}/safetyrule/{_hex(cell, 16)}"


def initial(regions: Sequence[str], on: str) -> dict[str, bool]:
    """All cells on `on`, nothing elsewhere."""
    return {f"{cell}/{region}": region == on for cell in CELLS for region in regions}


def broken_rules(states: Mapping[str, bool], overridden: Collection[str]) -> list[str]:
    """ARNs of the safety rules that these states would break, less those overridden."""
    dark = [cell for cell in CELLS if not any(on for name, on in states.items() if name.split("/")[0] == cell)]
    return [arn for arn in map(rule_arn, dark) if arn not in overridden]


class StateFile:
    """The states of all controls, durable before an update is answered; `changes` keeps when each was flipped."""

    def __init__(self, path: Path, first: Mapping[str, bool]) -> None:
        self._path = path
        self._lock = threading.Lock()
        if path.exists():
            self._states = read_states(path)
        else:
            self._states = dict(first)
            self._write([])

    def states(self) -> dict[str, bool]:
        """A copy of all states."""
        with self._lock:
            return dict(self._states)

    def update(self, wanted: Mapping[str, bool], overridden: Collection[str]) -> list[str]:
        """Set all or, if that breaks safety rules, nothing: their ARNs are returned. KeyError: no such control."""
        with self._lock:
            for name in wanted:
                self._states[name]
            after = {**self._states, **wanted}
            touched = {rule_arn(name.split("/")[0]) for name in wanted}
            if broken := [arn for arn in broken_rules(after, overridden) if arn in touched]:
                return broken
            changed = [name for name in wanted if self._states[name] != wanted[name]]
            self._states = after
            self._write(changed)
            return []

    def _write(self, changed: Sequence[str]) -> None:
        text = json.dumps({"controls": self._states, "changed": list(changed), "at": time.time()}, sort_keys=True)
        fresh = self._path.with_suffix(".new")
        with fresh.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)


def read_states(path: Path) -> dict[str, bool]:
    """States in a file that `StateFile` keeps. OSError, ValueError."""
    controls = json.loads(path.read_text())["controls"]
    return {str(name): bool(on) for name, on in controls.items()}
