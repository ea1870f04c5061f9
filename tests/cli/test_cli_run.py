"""A run from the command line, end to end without a sandbox: asked, refused, begun, killed, resumed, proven."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cli_lab import Lab, Result, end_runners, status, until

from drkit.cli import compose
from drkit.cli import seen as seeing
from drkit.context import Context

GO = ("failover", "--region", "us-west-2", "--confirm", "us-west-2")


@pytest.fixture(autouse=True)
def nothing_left(lab: Lab, private_state_home: Path) -> Iterator[None]:
    """Runners that a test leaves waiting are ended."""
    yield
    end_runners(private_state_home)


def runner(private_state_home: Path) -> int:
    (found,) = private_state_home.glob("drkit/runs/*/runner.json")
    return int(json.loads(found.read_text())["pid"])


def says(result: Result, code: int, *words: str) -> None:
    assert result.returncode == code, (result.returncode, result.stdout, result.stderr)
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr + result.stdout, (word, result.stdout, result.stderr)


def test_nothing_begins_without_a_confirmation_and_a_reason_to_go(lab: Lab, private_state_home: Path) -> None:
    says(
        lab.drkit("failover", "--region", "us-west-2"),
        2,
        "--confirm us-west-2",
        "FROM us-east-1 -> TO us-west-2",
        "LAB",
    )
    says(lab.drkit(*GO[:-1], "us-east-1"), 2, "not us-west-2")
    lab.healthy(True)
    says(lab.drkit("assess", "--region", "us-west-2"), 3, "STOP")
    says(lab.drkit(*GO), 3, "--despite-evidence us-east-1", "looks healthy")
    says(lab.drkit(*GO, "--despite-evidence", "us-west-2"), 3, "was not named")
    says(lab.drkit(*GO, "--skip", "frist", "--reason", "x"), 2, "frist", "first")
    says(lab.drkit(*GO, "--skip", "first"), 2, "--reason")
    says(lab.drkit(*GO, "--skip", "agree", "--reason", "x"), 3, "approval")
    says(lab.drkit(*GO, "--dry-run"), 0, "Dry run")
    assert lab.made == []
    assert list((private_state_home / "drkit" / "runs").iterdir()) == []


def test_a_run_waits_for_a_person_survives_kill_9_and_repeats_nothing(lab: Lab, private_state_home: Path) -> None:
    says(lab.drkit(*GO), 5, "drkit approve", "waits for")
    assert lab.made == ["first"]
    says(lab.drkit("status", "--exit-status"), 5)
    assert status(lab)["notify"] is None
    (folder,) = private_state_home.glob("drkit/runs/*")
    place = {"upto": 4, "waiting": 3, "error": "nobody is there"}
    (folder / "outbox.json").write_text(json.dumps({"schema": "drkit.outbox/1", "sinks": {"slack": place}}))
    says(lab.drkit("status"), 0, "notify: 3 undelivered (slack: nobody is there)")
    elsewhere = str(private_state_home.parent / "state-elsewhere")
    says(lab.drkit(*GO, XDG_STATE_HOME=elsewhere), 7, "--watch", "lock")

    os.kill(runner(private_state_home), signal.SIGKILL)
    run = status(lab)["run"]
    gone = lab.drkit("status", "--exit-status")
    says(gone, 1, "gone", f"drkit resume {run}")
    says(lab.drkit("approve", run, "agree", "--reason", "nobody listens"), 0, "queued", f"drkit resume {run}")
    says(lab.drkit("resume", run, "--no-input"), 5, "starting a runner", "Not applied")

    says(lab.drkit("approve", run, "agre", "--reason", "x"), 2, "agree")
    says(lab.drkit("skip", run, "agree", "--reason", "x"), 3, "cannot be skipped")
    says(lab.drkit("note", run, "hello"), 0, "accepted")
    says(lab.drkit("approve", run, "agree", "--reason", "we looked"), 0, "accepted")
    until(lambda: status(lab)["outcome"] == "done")
    told = status(lab)
    assert lab.made == ["first", "second"]
    assert [step["status"] for step in told["steps"]] == ["done", "done", "done"]

    lines = [json.loads(line) for line in lab.drkit("events", run).stdout.splitlines()]
    assert lines[0]["schema"] == "drkit.events/1"
    intents = [row["fact"]["step"] for row in lines[1:] if row["fact"]["kind"] == "step.intent"]
    assert intents == ["first", "second"]
    says(lab.drkit("logs", run), 0, "we looked", "hello", "resumed by tester")
    says(lab.drkit("logs", run, "second"), 0, "OK")
    says(lab.drkit("handover", run), 0, "hello")
    says(lab.drkit("status", "--manual"), 0, "[x] 1.")
    says(lab.drkit("runs", "--query", "[0].stands"), 0, '"done"')

    until(lambda: (private_state_home / "drkit" / "runs" / run / "exit.json").exists())
    says(lab.drkit("resume", run), 3, "has ended")
    says(lab.drkit("status", run, "--exit-status"), 4)  # an objective that nobody measured was not met
    report = json.loads(lab.drkit("report", run, "--format", "json").stdout)
    assert (report["schema"], report["outcome"], report["recovery_time"]["seconds"]) == ("drkit.report/1", "done", None)
    assert (lab.folder / "reports" / run / "report.html").exists()
    says(lab.drkit("evidence", "verify", run), 0, "continues", "file://")
    journal = private_state_home / "drkit" / "runs" / run / "journal.db"
    with contextlib.closing(sqlite3.connect(journal)) as db, db:
        db.execute("update event set body = replace(body, 'we looked', 'we slept')")
    says(lab.drkit("evidence", "verify", run), 1, "changed after it was written")


def test_on_another_machine_a_run_comes_back_from_the_state_store(lab: Lab, private_state_home: Path) -> None:
    begun = lab.drkit(*GO, "--detach", "--skip", "second", "--reason", "not today")
    says(begun, 0, "drkit status")
    run = begun.stdout.strip()
    until(lambda: status(lab)["phase"] == "waiting")
    os.kill(runner(private_state_home), signal.SIGKILL)
    other = {"XDG_STATE_HOME": str(private_state_home.parent / "state-other")}
    store = f"file://{lab.folder}/store"
    says(lab.drkit("resume", run, **other), 2, run, "--state")
    says(lab.drkit("resume", run, "--state", store, "--no-input", **other), 5, "Reading", "approve")
    says(lab.drkit("approve", run, "agree", "--reason", "yes", **other), 0, "accepted")
    until(lambda: status(lab, run, **other)["outcome"] == "done")
    assert lab.made == ["first"]


def test_a_saved_plan_is_refused_once_the_world_or_the_runbook_moved(lab: Lab) -> None:
    says(lab.drkit("plan", "--region", "us-west-2", "--out", "walk.drplan"), 0, "Saved walk.drplan")
    lab.healthy(True)
    says(lab.drkit(*GO, "--plan", "walk.drplan"), 3, "E0312", "evidence was GO and is NO-GO")
    lab.healthy(False)
    book = lab.folder / "runbooks" / "walk.yaml"
    book.write_text(book.read_text().replace("Go on?", "Really?"))
    says(lab.drkit(*GO, "--plan", "walk.drplan"), 3, "E0312", "agree", "drkit plan")
    saved = lab.folder / "walk.drplan"
    data = json.loads(saved.read_text())
    saved.write_text(json.dumps(data | {"made_wall": data["made_wall"] - 1000}))
    says(lab.drkit(*GO, "--plan", "walk.drplan"), 3, "E0312", "15 min")
    says(lab.drkit("plan", "--region", "us-west-2", "--detailed-exitcode"), 10)
    assert lab.made == []


def test_in_the_foreground_a_question_ends_the_command_with_its_code(lab: Lab) -> None:
    says(lab.process(*GO, "--foreground"), 5, "first")
    run = status(lab)["run"]
    says(lab.drkit("abort", run, "--reason", "enough"), 0, "queued")
    says(lab.process("resume", run, "--foreground"), 1, "aborted")
    assert lab.made == ["first"]


def test_in_the_foreground_sigterm_pauses_after_what_is_under_way(lab: Lab) -> None:
    import subprocess

    go = lab.first_waits()
    words = lab.command(*GO, "--foreground")
    with subprocess.Popen(words, cwd=lab.folder, env=lab.environment, stdin=subprocess.DEVNULL) as child:
        until((lab.folder / "begun").exists)
        child.send_signal(signal.SIGTERM)
        go.touch()
        assert child.wait(30) == 143
    assert (lab.made, status(lab)["phase"]) == (["first"], "paused")
    says(lab.drkit("failback"), 3, "drkit help failback")


def test_a_step_is_inspected_as_the_holder_that_its_run_is(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    says(lab.drkit(*GO), 5)
    looked: list[int] = []
    real = compose.reach

    @asynccontextmanager
    async def reach(*args: Any, **given: Any) -> AsyncIterator[Context]:
        async with real(*args, **given) as ctx:
            looked.append(ctx.fencing_token)
            yield ctx

    monkeypatch.setattr(compose, "reach", reach)
    says(lab.drkit("inspect", "last", "first"), 0, "its check now: holds")
    assert looked == [seeing.read(seeing.find("last")).state.fencing_token] != [0]
