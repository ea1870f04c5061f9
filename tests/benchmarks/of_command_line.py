"""How long people wait for the command line itself."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from table import Row, run, timed

HELP_RUNS = 11


def starting_up() -> list[Row]:
    """How long people wait for the command line itself."""
    drkit = [sys.executable, "-m", "drkit.cli"]
    script = Path(sys.executable).with_name("drkit")
    help_s = [
        timed(lambda: run([str(script), "--help"] if script.exists() else [*drkit, "--help"])) for _ in range(HELP_RUNS)
    ]
    bare_s = [timed(lambda: run([sys.executable, "-c", "pass"])) for _ in range(HELP_RUNS)]
    return [
        ("drkit --help", statistics.median(help_s), f"median of {HELP_RUNS}; goal 0.25 s"),
        ("python, doing nothing", statistics.median(bare_s), "for comparison"),
    ]
