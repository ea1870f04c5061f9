"""Measure drkit on this machine and print a table: `make bench`, or `python -m tests.benchmarks [--clone] [--json]`.

Reports, never judges: figures of a busy machine are upper bounds, so its load is part of the table. `--clone` also
takes the time from a fresh clone of this repository to the end of `make demo`, which needs some minutes.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))  # where the tests' worlds are

if TYPE_CHECKING:
    from worlds import Drill

HELP_RUNS = 11

Row = tuple[str, float | str | None, str]


def main() -> int:
    """Measure and print. Exit code 1 only if nothing could be measured."""
    options = _options()
    rows = [*machine(), *starting_up(), *a_drill()]
    if options.clone:
        rows += clone_to_demo()
    rows.append(("load average after", f"{os.getloadavg()[0]:.1f}", ""))
    if options.json:
        print(json.dumps({name: value for name, value, _ in rows}, indent=1))
    else:
        print("\n".join(_lines(rows)))
    return 0


def machine() -> list[Row]:
    """What the figures are of."""
    return [
        ("machine", f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}", ""),
        ("load average before", f"{os.getloadavg()[0]:.1f}", "processes that want a core"),
    ]


def starting_up() -> list[Row]:
    """How long people wait for the command line itself."""
    drkit = [sys.executable, "-m", "drkit.cli"]
    script = Path(sys.executable).with_name("drkit")
    help_s = [
        timed(lambda: _run([str(script), "--help"] if script.exists() else [*drkit, "--help"]))
        for _ in range(HELP_RUNS)
    ]
    bare_s = [timed(lambda: _run([sys.executable, "-c", "pass"])) for _ in range(HELP_RUNS)]
    return [
        ("drkit --help", statistics.median(help_s), f"median of {HELP_RUNS}; goal 0.25 s"),
        ("python, doing nothing", statistics.median(bare_s), "for comparison"),
    ]


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


def clone_to_demo() -> list[Row]:
    """A fresh clone of what is committed, and `make demo` in it."""
    with tempfile.TemporaryDirectory(prefix="dr-clone-") as folder:
        clone, world = Path(folder) / "drkit", Path(folder) / "w"
        Path(folder).chmod(0o711)
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")} | {
            "DRKIT_SANDBOX_DIR": str(world), "XDG_STATE_HOME": str(Path(folder) / "state"),
        }  # fmt: skip
        began = time.monotonic()
        _run(["git", "clone", "--quiet", str(ROOT), str(clone)])
        _run(["make", "-C", str(clone), "setup"], environment)
        set_up_s = time.monotonic() - began
        demo = subprocess.run(["make", "-C", str(clone), "demo"], env=environment, capture_output=True, text=True)
        took_s = time.monotonic() - began
    if demo.returncode != 0:
        print(demo.stdout + demo.stderr, file=sys.stderr)
    return [
        ("fresh clone to installed", set_up_s, "git clone, make setup"),
        ("fresh clone to end of demo", took_s, f"exit code {demo.returncode}"),
    ]


def timed(what: Callable[[], object]) -> float:
    """Seconds that it takes."""
    began = time.monotonic()
    what()
    return time.monotonic() - began


def _peak_mib(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) >> 10 for line in status.splitlines() if line.startswith("VmHWM")), 0)


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")


def _lines(rows: list[Row]) -> list[str]:
    shown = [(name, _shown(value), note) for name, value, note in rows]
    wide = max(len(name) for name, _, _ in shown)
    long = max(len(value) for _, value, _ in shown[1:])
    return [f"{name:<{wide}}  {value:>{long}}  {note}".rstrip() for name, value, note in shown]


def _shown(value: float | str | None) -> str:
    if value is None:
        return "not measured"
    return value if isinstance(value, str) else f"{value:.3g} s" if value < 1 else f"{value:.1f} s"


def _options() -> Namespace:
    parser = ArgumentParser(prog="python -m tests.benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--clone", action="store_true", help="also from a fresh clone to the end of the demo")
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
