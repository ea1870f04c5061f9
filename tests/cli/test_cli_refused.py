"""What a run does not let people do, typed for real: what happened, what state the world is in, one command, exit code.

Nothing that is refused leaves a trace: the journal, the lock and what steps made stay as they were.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_lab import Lab, Result, end_runners, status, until

GO = ("failover", "--region", "us-west-2", "--confirm", "us-west-2")
WALK = """
apiVersion: drkit/v1
kind: Runbook
metadata: {{name: walk, owner: nobody}}
probes:
  start: {{uses: process.exists, with: {{creates: "{folder}/go"}}}}
decide: "probes.start.exists"
steps:
  - {{id: first, uses: process.run, with: {{creates: "{folder}/made/first", argv: [touch, "{folder}/made/first"]}}}}
  - {{id: two, uses: gate.approve, with: {{role: incident-commander, approvals: 2, question: "Go on?"}}}}
  - {{id: dba, uses: gate.approve, with: {{role: database-owner, question: "Ready?"}}, needs: [first]}}
"""


@pytest.fixture(autouse=True)
def nothing_left(lab: Lab, private_state_home: Path) -> Iterator[None]:
    """Runners that a test leaves waiting are ended."""
    yield
    end_runners(private_state_home)


@pytest.fixture
def waiting(lab: Lab) -> str:
    """A run whose first step is done and whose two gates wait: one for two persons, one for a role nobody here has."""
    (lab.folder / "runbooks" / "walk.yaml").write_text(WALK.format(folder=lab.folder))
    assert lab.drkit(*GO).returncode == 5
    until(lambda: [step["status"] for step in status(lab)["steps"]] == ["done", "waiting", "waiting"])
    return str(status(lab)["run"])


def refused(result: Result, code: int, what: str, state: str, command: str) -> None:
    """What happened, what state the world is in, one command that can be typed."""
    assert result.returncode == code, (result.returncode, result.stdout, result.stderr)
    assert result.stdout == "" and "Traceback" not in result.stderr
    first, *_, last = result.stderr.splitlines()
    assert f"(exit {code})" in first and state in first, result.stderr
    assert what in result.stderr, result.stderr
    assert last == f"  Fix:  {command}", result.stderr


def journal(private_state_home: Path, run: str) -> Path:
    return private_state_home / "drkit" / "runs" / run / "journal.db"


def test_what_a_waiting_run_refuses_leaves_no_trace(lab: Lab, waiting: str) -> None:
    run, asis, look = waiting, "The run goes on as it was.", f"drkit status {waiting}"
    refused(
        lab.drkit("approve", run, "dba", "--reason", "x"), 3, "in the role database-owner; tester is not", asis, look
    )
    refused(lab.drkit("approve", run, "first", "--reason", "x"), 3, "not waiting for an answer: it is done", asis, look)
    events = lab.drkit("events", run).stdout.splitlines()

    assert lab.drkit("approve", run, "two", "--reason", "I am one").returncode == 0
    until(lambda: len(lab.drkit("events", run).stdout.splitlines()) == len(events) + 1)
    again = lab.drkit("approve", run, "two", "--reason", "and another")
    refused(again, 3, "tester has already approved two; it takes another person", asis, look)

    for step, now in (("first", "done"), ("two", "waiting")):
        told = f"only a step whose outcome is unknown can be resolved; {step} is {now}"
        refused(lab.drkit("resolve", run, step, "--as", "done"), 3, told, asis, look)
    refused(lab.drkit("retry", run, "first"), 3, "only a failed step can be retried; first is done", asis, look)
    refused(lab.drkit("done", run, "first", "--reason", "x"), 3, "only a failed step can be declared done", asis, look)
    refused(lab.drkit("skip", run, "two", "--reason", "x"), 3, "cannot be skipped now: two is waiting", asis, look)

    lock = lab.folder / "store" / "locks" / "lab.json"
    refused(lab.drkit("unlock", "0badcafe"), 3, f"Run {run} by ", "Nothing was changed.", look)
    assert json.loads(lock.read_bytes())["holder"]["run"] == run
    assert len(lab.drkit("events", run).stdout.splitlines()) == len(events) + 1
    assert lab.made == ["first"]


def test_a_finished_run_takes_no_orders_and_a_journal_of_a_newer_drkit_is_left_alone(
    lab: Lab, private_state_home: Path
) -> None:
    begun = lab.drkit(*GO, "--detach", "--skip", "second", "--reason", "not today")
    run = begun.stdout.strip()
    until(lambda: status(lab)["phase"] == "waiting")
    assert lab.drkit("abort", run, "--reason", "enough").returncode == 0
    until((private_state_home / "drkit" / "runs" / run / "exit.json").exists)
    events = lab.drkit("events", run).stdout

    told, report = f"run {run} has ended (aborted)", f"drkit report {run}"
    refused(lab.drkit("resume", run), 3, f"{told}: there is nothing to resume", "The run stays as it ended.", report)
    asis, look = "The run goes on as it was.", f"drkit status {run}"
    for words in (
        ["approve", run, "agree", "--reason", "x"],
        ["resolve", run, "first", "--as", "done"],
        ["pause", run],
    ):
        refused(lab.drkit(*words), 3, told, asis, look)
    refused(lab.drkit("unlock", "0badcafe"), 3, "lab is not locked", "Nothing was changed.", "drkit runs")
    assert lab.drkit("events", run).stdout == events

    path = journal(private_state_home, run)
    for newer in ("version = 99", "version = 1, events = 'drkit.events/9'"):
        with contextlib.closing(sqlite3.connect(path)) as db, db:
            db.execute(f"update schema set {newer}")
        before = path.read_bytes()
        for words in (["status"], ["resume"], ["replay"], ["events"], ["evidence", "verify"], ["report"]):
            result = lab.drkit(*words, run)
            refused(result, 1, "was written by a newer drkit", "Nothing was changed.", "drkit --version")
            assert result.stderr.startswith("E0602 ")
        assert path.read_bytes() == before
    assert run in lab.drkit("runs").stdout  # and it does not hide the others
