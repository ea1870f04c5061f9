"""A runner that dies anywhere in an experiment: what was done is undone, by its lease or by `chaos stop`, and nothing
is lost, nothing is done after its death.

The runner is a fork of the test, so that dying costs milliseconds; its lease is the real one.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
from toolkit_lab import experiment, forked, healed, process, run, written

from drkit.chaos.toolkit import lease, rescue, running
from drkit.chaos.toolkit.calling import MARK
from drkit.chaos.toolkit.course import Course
from drkit.chaos.toolkit.leftover import left_in
from drkit.engine import runs
from drkit.engine.evidence import verify
from drkit.engine.journal import SqliteStore, read_rows
from drkit.engine.runs import RunFolder
from drkit.errors import JournalError
from drkit.model.events import Done, FaultChanged, Row


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """What happened in the world, a word a line."""
    path = tmp_path / "log"
    path.touch()
    return path


def said(log: Path, **parts: Any) -> dict[str, Any]:
    """Two actions and two rollbacks that leave a word each."""

    def word(name: str) -> dict[str, Any]:
        return process(name, f"echo {name} >> {log}")

    return experiment(**{"method": [word("one"), word("two")], "rollbacks": [word("undo"), word("sweep")]} | parts)


def dies(log: Path, name: str, signal_: str = "KILL", once: bool = False) -> dict[str, Any]:
    """An action that kills whoever carries it out, always or only the first time."""
    first = f"[ -e {log}.once ] || {{ touch {log}.once; kill -{signal_} $PPID; }}"
    return process(name, f"echo {name} >> {log}; " + (first if once else f"kill -{signal_} $PPID; sleep 60"))


def acted(words: list[str]) -> bool:
    return "one" in words or "two" in words


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_every_write_of_the_journal_it_is_rolled_back(
    when: Literal["before", "after"], log: Path, tmp_path: Path
) -> None:
    kills = 0
    for write in range(1, 100):
        log.write_text("")
        path = written(tmp_path, said(log, title=f"killed {when} {write}"))  # the last one's lease may hold its lock
        folder = runs.new()
        status = forked(partial(_run_killed_at, path, folder, write, when))
        if not os.WIFSIGNALED(status):
            break
        kills += 1
        assert left_in(folder) is None or healed(folder)
        words = log.read_text().split()
        if acted(words):
            # Once; the one under way when its runner died may have to be done twice.
            assert words.count("undo") in (1, 2) and words.count("sweep") in (1, 2)
            assert words.count("undo") + words.count("sweep") <= 3, (write, words)
            assert verify(folder.journal, run=folder.id).problem is None
        assert left_in(folder) is None
        assert words.count("one") <= 1 and words.count("two") <= 1, "no action is repeated"
    assert kills >= 7
    assert log.read_text().split() == ["one", "two", "undo", "sweep"], "the last one was not killed"


def _run_killed_at(path: Path, folder: RunFolder, write: int, when: str) -> None:
    append, count = SqliteStore.append, 0

    def killing(self: SqliteStore, rows: list[Row]) -> None:
        nonlocal count
        count += 1
        if count == write and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        append(self, rows)
        if count == write and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)

    runner = os.getpid()

    def only_in_the_runner(self: SqliteStore, rows: list[Row]) -> None:
        (killing if os.getpid() == runner else append)(self, rows)

    SqliteStore.append = only_in_the_runner  # type: ignore[method-assign,assignment]
    run(path, folder)


@pytest.mark.parametrize("place", ["method", "background", "rollback"])
def test_killed_by_an_activity_it_is_rolled_back_and_that_activity_is_stopped(
    place: str, log: Path, tmp_path: Path
) -> None:
    one = process("one", f"echo one >> {log}")
    killer = dies(log, "killer", once=place == "rollback")
    parts: dict[str, Any] = {"method": [one, killer, process("never", f"sleep 0.3; echo never >> {log}")]}
    if place == "background":
        parts["method"] = [one, {**killer, "background": True}, process("slow", "sleep 60")]
    if place == "rollback":
        parts = {"method": [one], "rollbacks": [killer, process("sweep", f"echo sweep >> {log}")]}
    folder = runs.new()
    status = forked(lambda: run(written(tmp_path, said(log, **parts)), folder))
    assert os.WIFSIGNALED(status)
    assert healed(folder)
    words = log.read_text().split()
    assert words[-1] == "sweep" and words.count("sweep") == 1 and "never" not in words
    assert lease.kill_marked(MARK, folder.id, ()) == 0, "nothing that it started is at work"


def test_a_runner_that_is_stopped_past_its_lease_never_injects_again(log: Path, tmp_path: Path) -> None:
    folder = runs.new()
    frozen = process("frozen", f"echo frozen >> {log}; kill -STOP $PPID")
    path = written(tmp_path, said(log, method=[frozen, process("late", f"echo late >> {log}")]))
    status = forked(lambda: run(path, folder, term_s=0.4))
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, "the lease made sure of that"
    assert healed(folder)
    assert log.read_text().split() == ["frozen", "undo", "sweep"]


def test_without_a_lease_stop_knows_what_was_done_and_undoes_it_once(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _no_lease(monkeypatch)
    folder = runs.new()
    assert os.WIFSIGNALED(forked(lambda: run(written(tmp_path, said(log, method=[dies(log, "one")])), folder)))
    left = left_in(folder)
    assert left is not None and left.actions == ("method-1",) and left.rollbacks and not left.alive
    listed = _drkit("chaos", "leftovers", "-o", "json")
    assert listed.returncode == 1 and folder.id in listed.stdout
    stopped = _drkit("chaos", "stop", "--all")
    assert stopped.returncode == 0, stopped.stderr
    assert log.read_text().split() == ["one", "undo", "sweep"]
    assert _drkit("chaos", "leftovers", "--env", "nowhere").returncode == 2
    assert log.read_text().split() == ["one", "undo", "sweep"]


def test_a_lease_that_is_killed_in_a_rollback_leaves_the_rest_to_stop(log: Path, tmp_path: Path) -> None:
    folder = runs.new()
    undo = process("undo", f"echo undo >> {log}")
    parts = {"method": [dies(log, "one")], "rollbacks": [undo, dies(log, "sweep", once=True)]}
    assert os.WIFSIGNALED(forked(lambda: run(written(tmp_path, said(log, **parts)), folder)))
    deadline = time.monotonic() + 10
    while not Path(f"{log}.once").exists() or runs.alive(folder):
        assert time.monotonic() < deadline, "the lease did not come to its second rollback"
        time.sleep(0.02)
    left = left_in(folder)
    assert left is not None and left.done == {"rollback-1"}
    assert _drkit("chaos", "stop", "--run", folder.id).returncode == 0
    assert log.read_text().split() == ["one", "undo", "sweep", "sweep"], "what is done is not done again"


def test_a_journal_that_was_edited_is_named_and_holds_up_no_other(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _no_lease(monkeypatch)
    bad, good = runs.new(), runs.new()
    for folder in (bad, good):
        path = written(tmp_path, said(log, method=[dies(log, "one")], title=folder.id))
        forked(partial(run, path, folder))
    with sqlite3.connect(bad.journal) as journal:
        journal.execute("update event set body = replace(body, 'step.intent', 'step.intend')")
    listed = _drkit("chaos", "leftovers")
    assert listed.returncode == 1 and f"run {bad.id}: event" in listed.stderr and good.id in listed.stdout
    stopped = _drkit("chaos", "stop", "--all")
    assert stopped.returncode == 1 and f"{bad.id}: event" in stopped.stderr
    assert log.read_text().split() == ["one", "one", "undo", "sweep"] and left_in(good) is None


def test_an_experiment_without_rollbacks_is_named_and_closed(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = runs.new()
    path = written(tmp_path, said(log, method=[dies(log, "one")], rollbacks=[]))
    assert os.WIFSIGNALED(forked(lambda: run(path, folder)))
    left = left_in(folder)
    assert left is not None and not left.rollbacks
    stopped = _drkit("chaos", "stop", "--run", folder.id)
    assert "undo by hand: method-1" in stopped.stderr
    assert left_in(folder) is None


def test_an_error_that_nobody_foresaw_leaves_the_rollbacks_to_the_lease(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Course, *given: object) -> None:
        raise RuntimeError("a defect of drkit")

    folder = runs.new()
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="a defect of drkit"):
        patch.setattr(Course, "skip", broken)
        rolled_back = rescue.roll_back

        def unbroken(*given: Any, **more: Any) -> list[str]:
            patch.undo()  # the defect is the runner's alone
            return rolled_back(*given, **more)

        patch.setattr(running, "roll_back", unbroken)
        run(written(tmp_path, said(log)), folder)
    assert healed(folder)
    assert log.read_text().split() == ["one", "two", "undo", "sweep"]


@pytest.mark.parametrize("write", [1, 2, 3, 4, 5, 6, 7])
def test_a_journal_that_cannot_be_written_stops_effects_and_not_rollbacks(
    write: int, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, count = SqliteStore.append, 0

    def full(self: SqliteStore, rows: list[Row]) -> None:
        nonlocal count
        count += 1
        if count >= write:
            raise JournalError("the disk is full")
        append(self, rows)

    monkeypatch.setattr(SqliteStore, "append", full)
    folder = runs.new()
    with pytest.raises(JournalError, match="the disk is full"):
        run(written(tmp_path, said(log)), folder)
    words = log.read_text().split()
    intents = [row for row in read_rows(folder.journal) if row.fact.kind == "step.intent"] if write > 1 else []
    assert len([word for word in words if word in ("one", "two")]) <= len(intents), "nothing unwritten was sent"
    assert not acted(words) or words[-2:] == ["undo", "sweep"]


def test_the_fault_ledger_says_who_healed(log: Path, tmp_path: Path) -> None:
    folder = runs.new()
    forked(lambda: run(written(tmp_path, said(log, method=[dies(log, "one")])), folder))
    assert healed(folder)
    facts = [row.fact for row in read_rows(folder.journal)]
    assert [fact.state for fact in facts if isinstance(fact, FaultChanged)] == ["intent", "armed", "healed"]
    assert [fact.by["name"] for fact in facts if fact.kind == "run.resumed"] == ["lease"]  # type: ignore[attr-defined]
    assert [fact.step for fact in facts if isinstance(fact, Done)] == ["rollback-1", "rollback-2"]


@pytest.mark.soak
def test_a_hundred_runners_killed_at_random_are_all_rolled_back(log: Path, tmp_path: Path) -> None:
    chance = random.Random(20471)
    slow = [process(f"step{n}", f"echo one >> {log}; sleep 0.02") for n in range(5)]
    late: list[float] = []
    for number in range(100):
        log.write_text("")
        path = written(tmp_path, said(log, method=slow, title=f"killed {number}"))
        folder = runs.new()
        pid = os.fork()
        if pid == 0:
            try:
                run(path, folder)
            finally:
                os._exit(0)
        threading.Event().wait(chance.uniform(0.01, 0.25))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        died = time.monotonic()
        if left_in(folder) is not None:
            assert healed(folder)
            late.append(time.monotonic() - died)
        assert left_in(folder) is None
    print(f"healed {len(late)} after at most {max(late):.2f} s")
    assert len(late) > 30 and max(late) < 1.5, "the lease hears of a death at once"


def _no_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose dead-man was killed with the runner."""

    class Gone:
        pid = 0

        def arm(self, term_s: float) -> None:
            """Says yes, and dies."""

        def leave(self, *how: object) -> None:
            """It is dead."""

    monkeypatch.setattr(lease, "prepare", lambda *given: Gone())


def _drkit(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "drkit.cli", *words], capture_output=True, text=True, check=False, timeout=60
    )
