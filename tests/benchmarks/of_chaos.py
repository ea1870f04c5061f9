"""Experiments beside Chaos Toolkit itself: the same file, in turn, in one run.

Without durability is the course alone, with every event hashed into the chain and none written; what durability costs
is the same course with the journal on this disk, and stands apart. Start-up is a whole command for one activity.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from statistic import ratio
from table import Row, timed

ACTIVITIES = 1000
PAIRS = 9
PROCESS_PAIRS = 5
START_PAIRS = 11
IN_PROCESS_GOAL, PROCESS_GOAL, START_GOAL = 2.0, 1.5, 0.5


def rows() -> list[Row]:
    """Overhead per activity and start-up, each beside Chaos Toolkit's."""
    if find_spec("chaoslib") is None:
        return [("experiments beside Chaos Toolkit", None, "it is not installed: pip install 'drkit[chaostoolkit]'")]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        called = {"type": "python", "module": "os.path", "func": "exists", "arguments": {"path": "/"}}
        return [
            *_overhead(folder, "in process", called, PAIRS, IN_PROCESS_GOAL, durable=False),
            *_overhead(folder, "a process each", {"type": "process", "path": "true"}, PROCESS_PAIRS, PROCESS_GOAL),
            *_starting(folder),
        ]


def _overhead(
    folder: Path, what: str, provider: dict[str, Any], pairs: int, goal: float, *, durable: bool = True
) -> list[Row]:
    """`durable`: whether the goal is one for everything durable, or for nothing."""
    path = folder / "experiment.json"
    method = [{"type": "action", "name": f"a{n}", "provider": provider} for n in range(ACTIVITIES)]
    path.write_text(json.dumps({"title": "t", "description": "d", "method": method, "rollbacks": []}))
    theirs, loose, kept = _theirs(path), _ours(path, None), _ours(path, folder)
    found: list[tuple[float, float, float]] = []
    for _ in range(pairs + 1):
        found.append((timed(theirs), timed(loose), timed(kept)))
    del found[0]  # imports, and what a first time costs
    each_s = [[seconds / ACTIVITIES for seconds in column] for column in zip(*found, strict=True)]
    middle = [statistics.median(column) for column in each_s]
    without, with_all = ratio(each_s[1], each_s[0]), ratio(each_s[2], each_s[0])
    judged = f"; {(with_all if durable else without).verdict(goal)}"
    return [
        (f"activity, {what}: Chaos Toolkit", middle[0], f"median of {pairs} x {ACTIVITIES:,}"),
        (f"activity, {what}: nothing durable", middle[1], f"{without} x theirs{'' if durable else judged}"),
        (f"activity, {what}: all durable", middle[2], f"{with_all} x theirs{judged if durable else ''}"),
        (f"activity, {what}: what durability costs", middle[2] - middle[1], "one commit, synced to this disk"),
    ]


def _theirs(path: Path) -> Callable[[], object]:
    from chaoslib.experiment import run_experiment
    from chaoslib.loader import load_experiment

    logging.getLogger("chaostoolkit").setLevel(logging.CRITICAL)
    return lambda: run_experiment(load_experiment(str(path)), settings={})


def _ours(path: Path, folder: Path | None) -> Callable[[], object]:
    """The method of this file; durable in this folder, or not at all."""
    from drkit.chaos.toolkit import shape
    from drkit.chaos.toolkit.abort import Abort
    from drkit.chaos.toolkit.calling import Calls
    from drkit.chaos.toolkit.controls import Controls
    from drkit.chaos.toolkit.course import Course
    from drkit.chaos.toolkit.ledger import Ledger
    from drkit.chaos.toolkit.reading import load
    from drkit.chaos.toolkit.values import Values
    from drkit.engine.journal import SqliteStore

    experiment = load(path).experiment

    def run() -> None:
        journal = folder / "journal.db" if folder is not None else None
        if journal is not None:
            for old in journal.parent.glob("journal.db*"):
                old.unlink()
        store = SqliteStore(journal) if journal is not None else None
        ledger, abort, values = Ledger(store), Abort(), Values()
        calls = Calls("bench", values)
        course = Course(
            experiment,
            "bench",
            values,
            ledger,
            abort,
            abort,
            calls,
            Controls(experiment, values, calls, abort, abort, print, ledger.redaction),
        )
        course.method()
        ledger.commit()
        told = shape.journal(ledger.rows, experiment, status="completed", deviated=False)
        assert len(told["run"]) == ACTIVITIES and all(entry["status"] == "succeeded" for entry in told["run"])
        abort.close()
        if store is not None:
            store.close()

    return run


def _starting(folder: Path) -> list[Row]:
    path = folder / "one.json"
    said = {"type": "action", "name": "a", "provider": {"type": "process", "path": "true"}}
    path.write_text(json.dumps({"title": "t", "description": "d", "method": [said], "rollbacks": []}))
    scripts = Path(sys.executable).parent
    environment = {**os.environ, "XDG_STATE_HOME": str(folder / "state")}

    def command(*words: str) -> Callable[[], object]:
        return lambda: subprocess.run(words, cwd=folder, env=environment, capture_output=True, check=True)

    theirs = command(str(scripts / "chaos"), "run", str(path))
    ours = command(str(scripts / "drkit"), "chaos", "run", str(path))
    found = [(timed(theirs), timed(ours)) for _ in range(START_PAIRS + 1)][1:]
    other_s, our_s = ([pair[side] for pair in found] for side in (0, 1))
    compared = ratio(our_s, other_s)
    judged = compared.verdict(START_GOAL)
    return [
        ("chaos run, one activity", statistics.median(other_s), f"median of {START_PAIRS}"),
        (
            "drkit chaos run, one activity",
            statistics.median(our_s),
            f"{compared} x theirs; {judged}",
        ),
    ]
