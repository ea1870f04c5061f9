"""The engine's benchmark does the work that it is timed for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from drkit.engine.journal import read_rows
from drkit.model import events as e

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_the_benchmark_of_the_engine_runs_each_of_the_47_steps_once_and_in_order(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "eng_drkit.py"), "--case", "noop47", "--work", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.removeprefix("RESULT "))
    assert (result["n"], result["ok"]) == (47, True)
    facts = [row.fact for row in read_rows(tmp_path / "journal.db")]
    intents = [fact.step for fact in facts if isinstance(fact, e.Prepared)]
    assert sorted(intents) == sorted(fact.step for fact in facts if isinstance(fact, e.Done))
    assert len(set(intents)) == len(intents) == 47
