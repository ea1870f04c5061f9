"""How long a world takes to come up, and a region's loss in it from command to report."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from table import Row, timed

if TYPE_CHECKING:
    from worlds import Drill


def a_drill() -> list[Row]:
    """A world, and a region's loss in it."""
    from worlds import place

    with place() as made:
        seat = made.seat()
        up_s = timed(lambda: seat.expect(0, "sandbox", "up"))
        rows: list[Row] = [("sandbox up", up_s, "until a user is served by name")]
        began = time.monotonic()
        drill = seat.drill()
        peaks = memory(drill)
        took_s = time.monotonic() - began
        rows += of_report(json.loads(seat.expect(0, "report", drill.id, "--format", "json").stdout))
        rows += [
            ("drill, from command to report", took_s, "plan, steady state, outage, recovery, healing, report"),
            ("orchestrator's memory, peak", f"{peaks[0]} MiB", "until the run had ended"),
            ("the same with the report", f"{peaks[1]} MiB", "charts are drawn in the same process"),
        ]
        down_s = timed(lambda: seat.expect(0, "sandbox", "down"))
    return [*rows, ("sandbox down", down_s, "until nothing of it is left")]


def memory(drill: Drill) -> tuple[int, int]:
    """Peak resident memory (MiB) of the run's runner when the run had ended, and when the runner had."""
    at_end, peak = 0, 0
    while True:
        runner = drill.runner
        if runner is None or not runner.alive:
            return at_end, peak
        peak = max(peak, _peak_mib(runner.pid))
        if not at_end and drill.facts("run.finished"):
            at_end = peak
        time.sleep(0.25)


def of_report(report: dict[str, Any]) -> list[Row]:
    """What the run measured by itself."""
    recovery, loss = report["recovery_time"], report["data_loss"]
    steps = [step for step in report["steps"] if step["part"] == "runbook"]
    makespan, critical = report["makespan_seconds"], report["critical_path_seconds"]
    phases = [(f"  {name}", seconds, "") for name, seconds in recovery["phases"].items()]
    over = None if not makespan or not critical else f"{makespan / critical:.3f}"
    return [
        ("recovery time", recovery["seconds"], f"as users saw it; objective {recovery['objective_seconds']:g} s"),
        *phases,
        ("data-loss window", loss["window_seconds"], f"{loss['lost']} of {loss['acknowledged']} acknowledged writes"),
        (f"makespan of the {len(steps)} steps", makespan, ""),
        ("critical path", critical, f"{len(report['critical_path'])} steps"),
        ("makespan over critical path", over, "1 is best: nobody waited for the engine"),
    ]


def _peak_mib(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) >> 10 for line in status.splitlines() if line.startswith("VmHWM")), 0)
