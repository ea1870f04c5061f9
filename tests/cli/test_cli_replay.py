"""`drkit replay` of real runs: under way, over, copied elsewhere, under changed rules, tampered with."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_lab import Lab, Result, end_runners, status, until

from drkit.engine import fold
from drkit.engine.state import Phase
from drkit.model import events as e

GO = ("failover", "--region", "us-west-2", "--confirm", "us-west-2")


@pytest.fixture(autouse=True)
def nothing_left(lab: Lab, private_state_home: Path) -> Iterator[None]:
    """Runners that a test leaves waiting are ended."""
    yield
    end_runners(private_state_home)


def says(result: Result, code: int, *words: str) -> None:
    assert result.returncode == code, (result.returncode, result.stdout, result.stderr)
    for word in words:
        assert word in result.stderr + result.stdout, (word, result.stdout, result.stderr)


def never_copied(run: fold.Run, fact: e.Prepared) -> None:
    """A rule as another version might have it."""
    step = run.working(fact.step, fact.attempt, (Phase.PREPARING,))
    assert step is not None
    run.go(step, "apply", "a copy is not waited for")


def test_a_run_decides_the_same_again_until_a_rule_or_its_journal_was_changed(
    lab: Lab, private_state_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    says(lab.drkit("replay"), 2, "no run on this machine")
    says(lab.drkit(*GO), 5)
    run = status(lab)["run"]
    says(lab.drkit("replay"), 0, "none comes out otherwise", "ask agree")  # under way
    says(lab.drkit("approve", run, "agree", "--reason", "yes"), 0)
    until(lambda: status(lab)["outcome"] == "done")

    says(lab.drkit("replay", run), 0, "prepare first", "copy first", "it cannot be undone", "OK    " + run)
    told: dict[str, Any] = json.loads(lab.drkit("replay", run, "-o", "json").stdout)
    assert (told["schema"], told["differences"], told["first_difference"]) == ("drkit.replay/1", 0, None)
    assert told["events"] == len(told["decided"]) == len(lab.drkit("events", run).stdout.splitlines()) - 1
    assert all(event["then"] == event["now"] for event in told["decided"])

    elsewhere = {"XDG_STATE_HOME": str(private_state_home.parent / "state-other")}
    store = f"file://{lab.folder}/store"
    until((private_state_home / "drkit" / "runs" / run / "exit.json").exists)
    says(lab.drkit("replay", run, "--state", store, **elsewhere), 0, f"{told['events']} events")
    says(lab.drkit("replay", "--state", store, **elsewhere), 2, "needs the id")

    with monkeypatch.context() as patch:
        patch.setitem(fold._HANDLERS, e.Prepared, never_copied)
        otherwise = lab.drkit("replay", run)
        says(otherwise, 4, "FAIL", "then copy first", "now  apply first", "a copy is not waited for")
        short = lab.drkit("replay", run, "--differences")
        says(short, 4, "step.intent first attempt 1")
        assert len(short.stdout.splitlines()) < len(otherwise.stdout.splitlines())
        lines = [json.loads(line) for line in lab.drkit("replay", run, "-d", "-o", "jsonl").stdout.splitlines()]
        assert lines[0] == {"schema": "drkit.replay/1", "run": run}
        assert not any(line["same"] for line in lines[1:-1])
        assert lines[-1]["differences"] == len(lines) - 2
        assert lines[-1]["first_difference"]["event"] == lines[1]["event"] == "step.intent first attempt 1"

    journal = private_state_home / "drkit" / "runs" / run / "journal.db"
    with contextlib.closing(sqlite3.connect(journal)) as db, db:
        db.execute("update event set body = replace(body, 'first', 'fisrt') where seq = 4")
    says(lab.drkit("replay", run), 1, "E0610 event 4 was changed", "drkit evidence verify")
