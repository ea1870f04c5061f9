"""What a benchmark reports: rows of a table, and how long something takes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

Row = tuple[str, float | str | None, str]
"""Name, figure (a number is seconds; None: not measured), note."""


def timed(what: Callable[[], object]) -> float:
    """Seconds that it takes."""
    began = time.monotonic()
    what()
    return time.monotonic() - began


def run(command: list[str], environment: dict[str, str] | None = None) -> None:
    """Run a command; ends the benchmark with what it said if it fails."""
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")


def lines(rows: Sequence[Row]) -> list[str]:
    """The table, a line a row: name, figure, note."""
    shown = [(name, _shown(value), note) for name, value, note in rows]
    wide = max(len(name) for name, _, _ in shown)
    long = max(len(value) for _, value, _ in shown[1:])
    return [f"{name:<{wide}}  {value:>{long}}  {note}".rstrip() for name, value, note in shown]


def _shown(value: float | str | None) -> str:
    if value is None:
        return "not measured"
    return value if isinstance(value, str) else f"{value:.3g} s" if value < 1 else f"{value:.1f} s"
