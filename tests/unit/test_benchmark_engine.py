"""The engine's benchmark does the work that it is timed for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_a_goal_is_missed_only_if_the_interval_of_the_median_lies_above_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    from statistic import ratio

    thirty = ratio([float(number) for number in range(1, 31)], [1.0] * 30)
    assert (thirty.median, thirty.low, thirty.high) == (15.5, 10.0, 21.0)  # the tabled ranks for 30 at 95 %
    said = [thirty.verdict(goal).split(": ")[1] for goal in (9.0, 10.0, 15.5)]
    assert said == ["missed", "not shown to be missed", "met"]
    assert ratio([2.0, 4.0, 9.0], [1.0, 4.0, 3.0]).median == 2.0, "pair by pair, not median by median"
