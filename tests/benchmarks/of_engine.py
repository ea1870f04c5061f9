"""The engine beside the floor of its contract, run in turn in fresh processes: ratios, commits, memory, features."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eng_drkit import ALWAYS, BY_STEP
from statistic import Ratio, ratio
from table import Row

HERE = Path(__file__).parent
PAIRS = {"noop47": 15, "sleep47": 30, "n1000": 5, "n10000": 6, "n100000": 1}
PROFILED = {"noop47": 20, "n10000": 1}
TRACED = "n1000"
"""Tracing memory takes a minute and more at 10,000 steps, and finds the same per step."""
FEATURE_RUNS = 7
SHOWN = 10
"""How many modules of a profile are shown."""
STEP_GOAL, MAKESPAN_GOAL, MEMORY_GOAL_MB = 2.0, 1.01, 60

Result = dict[str, Any]


class Case:
    """One case, run by floor and engine in turn."""

    def __init__(self, name: str, pairs: int) -> None:
        self.name = name
        self.floor: list[Result] = []
        self.ours: list[Result] = []
        for _ in range(pairs):
            self.floor.append(run("floor.py", name))
            self.ours.append(run("eng_drkit.py", name))

    @property
    def ratio(self) -> Ratio:
        """Seconds of the engine over seconds of the floor."""
        return ratio(column(self.ours, "engine_s"), column(self.floor, "engine_s"))

    def per_step(self) -> Row:
        """Microseconds a step, ours and the floor's."""
        ours, floor = median(self.ours, "us_per_step"), median(self.floor, "us_per_step")
        commits = f"{median(self.ours, 'commits'):.0f} commits, the floor's {median(self.floor, 'commits'):.0f}"
        return (f"{self.name}, per step", f"{ours:.0f} µs", f"floor {floor:.0f} µs; {commits}")


def rows() -> list[Row]:
    """All of it; takes some minutes."""
    cases = {name: Case(name, pairs) for name, pairs in PAIRS.items()}
    found = [cases[name].per_step() for name in PAIRS if name != "sleep47"]
    for name in ("noop47", "n10000"):
        found.append(_over_floor(cases[name]))
    grows = median(cases["n100000"].ours, "us_per_step") / median(cases["n10000"].ours, "us_per_step")
    found.append(("n100000 over n10000, per step", f"{grows:.2f}", "1 is linear"))
    memory = _memory(cases["n10000"])
    return [*found, *_where_time_goes(), *_makespan(cases["sleep47"]), *memory, *features()]


def features() -> list[Row]:
    """What each costs alone: the median of runs in turn with and without it, at 1,000 steps."""
    found: list[Row] = []
    for feature in (*ALWAYS, *BY_STEP):
        without: list[Result] = []
        with_it: list[Result] = []
        for _ in range(FEATURE_RUNS):
            without.append(run("eng_drkit.py", "n1000", "--features", "none"))
            with_it.append(run("eng_drkit.py", "n1000", "--features", feature))
        costs = median(with_it, "us_per_step") - median(without, "us_per_step")
        over = ratio(column(with_it, "engine_s"), column(without, "engine_s"))
        note = "every run has it" if feature in ALWAYS else "if every step asks for it"
        found.append((f"  {feature} alone, per step", f"{costs:+.0f} µs", f"x {over}; {note}"))
    return found


def run(script: str, case: str, *options: str) -> Result:
    """The result of one engine on one case, in a process and a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="dr-bench-", dir="/var/tmp") as folder:  # a disk: /tmp may be memory
        command = [sys.executable, str(HERE / script), "--case", case, "--work", folder, *options]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode != 0 or not lines:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    result: Result = json.loads(lines[-1].removeprefix("RESULT "))
    return result


def column(results: Sequence[Result], name: str) -> list[float]:
    """One figure of each."""
    return [result[name] for result in results]


def median(results: Sequence[Result], name: str) -> float:
    """The middle one of a figure."""
    return statistics.median(column(results, name))


def _over_floor(case: Case) -> Row:
    return (f"{case.name} over the floor's", str(case.ratio), case.ratio.verdict(STEP_GOAL))


def _where_time_goes() -> list[Row]:
    """By module, sampled in runs of their own."""
    found: list[Row] = []
    for case, runs in PROFILED.items():
        looks: Counter[str] = Counter()
        for _ in range(runs):
            looks.update(run("eng_drkit.py", case, "--profile", "time")["profile"])
        total = looks.total()
        found.append((f"{case}, where the time goes", f"{total} looks", "by the module of drkit at work"))
        found += [(f"  {name}", f"{count / total:.0%}", "") for name, count in looks.most_common(SHOWN)]
    return found


def _makespan(case: Case) -> list[Row]:
    commits = f"{median(case.ours, 'commits'):.0f} commits, the floor's {median(case.floor, 'commits'):.0f}"
    pairs = f"median of {case.ratio.pairs} pairs, with its 95 % interval"
    return [
        ("sleep47, makespan over critical path", f"{median(case.ours, 'makespan_over_cp'):.4f}", commits),
        ("  of the floor", f"{median(case.floor, 'makespan_over_cp'):.4f}", ""),
        ("  over the floor's", str(case.ratio), f"{pairs}; {case.ratio.verdict(MAKESPAN_GOAL)}"),
    ]


def _memory(case: Case) -> list[Row]:
    """The peak, and what is kept at the end by the module that asked for it."""
    peak, loaded = median(case.ours, "self_rss_mb"), median(case.ours, "loaded_mb")
    told = f"goal {MEMORY_GOAL_MB} MB: " + ("met" if peak < MEMORY_GOAL_MB else "missed")
    traced = run("eng_drkit.py", TRACED, "--profile", "memory")
    kept: Counter[str] = Counter(traced["profile"])
    found: list[Row] = [
        (
            f"{case.name}, peak memory",
            f"{peak:.0f} MB",
            f"{told}; the floor's {median(case.floor, 'self_rss_mb'):.0f} MB",
        ),
        ("  loaded code, before there is a plan", f"{loaded:.0f} MB", ""),
        (
            f"  kept at the end of {TRACED}, per step",
            f"{kept.total() / traced['n']:.0f} B",
            "by the module that asked for it",
        ),
    ]
    return found + [(f"    {name}", f"{size / traced['n']:.0f} B", "") for name, size in kept.most_common(SHOWN)]
