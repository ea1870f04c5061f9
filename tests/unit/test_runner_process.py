"""A run carried out by a real process: begun, killed, paused, steered, resumed; and what others see of it."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
from runner_fakes import asked, chain, environment, kill, kinds, started, state, step, stop, until, waited_s, waiting

from drkit.engine import orders, runs
from drkit.engine.copy import extent, restore_folder
from drkit.engine.journal import read_rows
from drkit.engine.outcome import failure
from drkit.engine.runs import RunFolder, Start
from drkit.engine.spawning import Spawned
from drkit.engine.state import Status
from drkit.errors import Exit
from drkit.model.events import Answered, Noted, Ordered
from drkit.model.values import Json
from drkit.providers.objects import open_objects

Begin = Callable[..., Spawned]
ME: dict[str, Json] = {"name": "whoever", "uid": 4711, "how": "a lie"}


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Starts runners that do not outlive the test."""
    runners: list[Spawned] = []

    def start(folder: RunFolder, *options: str, go: bool = True) -> Spawned:
        runners.append(started(folder, *options) if go else waiting(folder, *options))
        return runners[-1]

    yield start
    for runner in runners:
        stop(runner)


def world(tmp_path: Path) -> set[str]:
    """What was written, without the signs that tests give."""
    return {path.name for path in (tmp_path / "world").iterdir() if len(path.name) == 1}


def release(tmp_path: Path) -> None:
    """Let the step that waits for it go on."""
    (tmp_path / "world" / "sign").write_text("")


def test_a_run_ends_done_and_frees_its_environment(tmp_path: Path, begin: Begin) -> None:
    folder = asked(tmp_path, chain("a", "b"))
    until(begin(folder).gone)
    assert world(tmp_path) == {"a", "b"}
    ended = folder.ended()
    assert ended is not None and (ended["exit"], ended["outcome"]) == (0, "done")
    assert kinds(folder)[:3] == ["run.opened", "lease.changed", "run.began"]
    again = asked(tmp_path, chain("c"))
    until(begin(again).gone)
    assert state(again).fencing_token == 2


def test_without_a_go_nothing_begins(tmp_path: Path, begin: Begin) -> None:
    folder = asked(tmp_path, chain("a"))
    runner = begin(folder, go=False)
    runner.forget()
    until(runner.gone)
    assert not folder.journal.exists()
    folder.discard()
    assert not folder.path.exists()


def test_the_run_has_no_terminal_and_a_session_of_its_own(tmp_path: Path, begin: Begin) -> None:
    runner = begin(asked(tmp_path, chain("a", after="never")))
    assert os.getsid(runner.pid) == runner.pid != os.getsid(0)
    files = Path(f"/proc/{runner.pid}/fd")
    assert str((files / "0").readlink()) == "/dev/null"
    assert (files / "1").readlink().name == "runner.log"


def test_sighup_does_not_reach_the_run(tmp_path: Path, begin: Begin) -> None:
    folder = asked(tmp_path, chain("a", "b", after="sign"))
    runner = begin(folder)
    until(lambda: "step.intent" in kinds(folder))
    os.kill(runner.pid, signal.SIGHUP)
    release(tmp_path)
    until(runner.gone)
    assert world(tmp_path) == {"a", "b"}


def test_a_killed_run_is_resumed_and_repeats_nothing_that_was_done(tmp_path: Path, begin: Begin) -> None:
    folder = asked(tmp_path, [*chain("a", "b"), step("c", "b", after="sign"), step("d", "c")])
    runner = begin(folder)
    until(lambda: kinds(folder).count("step.intent") == 3)
    kill(runner)
    assert not runs.alive(folder) and folder.ended() is None
    release(tmp_path)
    until(begin(folder).gone)
    assert world(tmp_path) == {"a", "b", "c", "d"}
    assert state(folder).outcome == "done"
    log = (tmp_path / "world" / "writes.log").read_text().split()
    assert log.count("a") == log.count("b") == log.count("c") == log.count("d") == 1
    assert [row.fact.kind for row in read_rows(folder.journal)].count("run.resumed") == 1


def test_a_second_runner_of_the_same_run_is_refused_and_harms_nothing(tmp_path: Path, begin: Begin) -> None:
    folder = asked(tmp_path, chain("a", after="sign"))
    first = begin(folder)
    until(lambda: "step.intent" in kinds(folder))
    second = begin(folder)
    until(second.gone)
    assert "another process is writing" in folder.log.read_text()
    assert folder.runner() == first.process and folder.ended() is None
    release(tmp_path)
    until(first.gone)
    assert state(folder).outcome == "done"


def test_another_run_is_locked_out_and_told_by_whom(tmp_path: Path, begin: Begin) -> None:
    first = asked(tmp_path, chain("a", after="never"))
    begin(first)
    until(lambda: "step.intent" in kinds(first))
    second = asked(tmp_path, chain("b"))
    until(begin(second).gone)
    error = failure(second)
    assert error is not None and error.exit_code is Exit.LOCKED
    assert f"Run {first.id} by " in error.message and "heartbeat" in error.message
    assert error.hint == f"drkit status {first.id} --watch"
    assert kinds(second) == [] and world(tmp_path) == set()


def test_a_crashed_run_keeps_its_environment_for_itself(tmp_path: Path, begin: Begin) -> None:
    first = asked(tmp_path, chain("a", after="never"))
    runner = begin(first)
    until(lambda: "step.intent" in kinds(first))
    kill(runner)
    second = asked(tmp_path, chain("b"))
    until(begin(second).gone)
    error = failure(second)
    assert error is not None and error.hint == f"drkit resume {first.id}" and "its process is gone" in error.message


def test_a_finished_run_is_not_resumed_and_its_end_stays_on_record(tmp_path: Path, begin: Begin) -> None:
    folder = asked(tmp_path, chain("a"))
    until(begin(folder).gone)
    before = folder.ended()
    until(begin(folder).gone)
    assert "there is nothing to resume" in folder.log.read_text()
    assert folder.ended() == before and failure(folder) is None


def test_a_run_that_was_killed_while_its_report_was_written_is_tidied_up(tmp_path: Path, begin: Begin) -> None:
    folder = asked(tmp_path, chain("a"))
    until(begin(folder).gone)
    events = kinds(folder)
    folder.end(None)  # as a kill -9 leaves it: everything is journaled, nothing after that has happened
    until(begin(folder).gone)
    ended = folder.ended()
    assert ended is not None and (ended["exit"], ended["outcome"]) == (0, "done")
    assert kinds(folder) == events, "a run that is over is not opened again"
    other = asked(tmp_path, chain("b"))
    until(begin(other).gone)
    assert state(other).outcome == "done", "the environment is free"


def test_sigterm_pauses_after_the_step_and_leaves(tmp_path: Path, begin: Begin) -> None:
    folder = asked(tmp_path, [step("a", after="sign"), step("b", "a")])
    runner = begin(folder)
    until(lambda: "step.intent" in kinds(folder))
    os.kill(runner.pid, signal.SIGTERM)
    until(lambda: state(folder).paused)
    release(tmp_path)
    until(runner.gone)
    ended = folder.ended()
    assert ended is not None and ended["exit"] == Exit.SIGTERM and ended["outcome"] is None
    assert world(tmp_path) == {"a"}
    paused = state(folder).paused
    assert paused is not None and paused.by["how"] == "signal SIGTERM"
    folder.plan_start(Start(by=dict(ME), orders=(Ordered(verb="resume", by=dict(ME)).to_json(),)))
    until(begin(folder).gone)
    assert world(tmp_path) == {"a", "b"} and state(folder).outcome == "done"


def test_a_second_signal_leaves_at_once_and_what_was_under_way_is_looked_at_on_resume(
    tmp_path: Path, begin: Begin
) -> None:
    folder = asked(tmp_path, chain("a", after="never"))
    runner = begin(folder)
    until(lambda: "step.intent" in kinds(folder))
    os.kill(runner.pid, signal.SIGINT)
    until(lambda: state(folder).paused)
    os.kill(runner.pid, signal.SIGINT)
    until(runner.gone, 3)
    ended = folder.ended()
    assert ended is not None and ended["exit"] == Exit.SIGINT


def test_a_paused_run_stays_and_takes_orders(tmp_path: Path, begin: Begin) -> None:
    folder = asked(tmp_path, [step("a", after="sign"), step("b", "a")])
    runner = begin(folder)
    until(lambda: "step.intent" in kinds(folder))
    assert orders.send(folder, Ordered(verb="pause", by=dict(ME), reason="wait")).answer == "accepted"
    assert orders.send(folder, Noted(text="all quiet", by=dict(ME))).answer == "accepted"
    again = orders.send(folder, Ordered(verb="pause", by=dict(ME)))
    assert again.answer == "refused" and "paused already" in again.why
    release(tmp_path)
    until(lambda: state(folder).phase == "paused")
    assert world(tmp_path) == {"a"} and runs.alive(folder)
    assert orders.send(folder, Ordered(verb="resume", by=dict(ME))).answer == "accepted"
    until(runner.gone)
    assert world(tmp_path) == {"a", "b"}


def test_who_approves_is_what_the_kernel_says(tmp_path: Path, begin: Begin) -> None:
    folder = asked(tmp_path, [step("go", uses="gate.approve"), step("a", "go")])
    runner = begin(folder)
    until(lambda: folder.journal.exists() and kinds(folder) and list(state(folder).asks()))
    ask = state(folder).steps["go"].ask
    assert ask is not None and ask.shown_hash is not None
    answer = Answered(
        step="go", answer="approve", by=dict(ME), role="ic", reason="yes", plan_hash=state(folder).plan_hash,
        shown_hash=ask.shown_hash,
    )  # fmt: skip
    assert orders.send(folder, answer).answer == "accepted"
    until(runner.gone)
    given = next(row.fact for row in read_rows(folder.journal) if isinstance(row.fact, Answered))
    assert given.by == {"name": "dana", "uid": os.getuid(), "how": "unix socket peer", "roles": ["ic"]}


def test_orders_for_nobody_wait_and_only_those_that_stop_take_effect_by_themselves(
    tmp_path: Path, begin: Begin
) -> None:
    folder = asked(tmp_path, [step("a", after="sign"), step("b", "a")])
    runner = begin(folder)
    until(lambda: "step.intent" in kinds(folder))
    kill(runner)
    queued = orders.send(folder, Ordered(verb="pause", by=dict(ME), reason="stop"))
    assert queued.answer == "queued" and "nobody carries run" in queued.why
    orders.send(folder, Noted(text="later", by=dict(ME)))
    release(tmp_path)
    begin(folder)
    until(lambda: state(folder).phase == "paused")
    assert "b" not in world(tmp_path)
    assert [q.order.kind for q in orders.queue(folder)] == ["operator.noted"]


def test_not_staying_leaves_when_people_are_needed(tmp_path: Path, begin: Begin) -> None:
    folder = asked(tmp_path, [step("a"), step("go", "a", uses="gate.approve")])
    until(begin(folder, "--leave").gone)
    ended = folder.ended()
    assert ended is not None and ended["exit"] == Exit.WAITING


def test_a_lost_state_folder_is_brought_back_from_the_state_store(tmp_path: Path, begin: Begin) -> None:
    env = environment(tmp_path)
    folder = asked(tmp_path, [step("a"), step("f", "a", uses="files.final"), step("b", "f", after="sign")], env=env)
    runner = begin(folder)
    until(lambda: kinds(folder).count("step.intent") == 3)
    done = kinds(folder).index("step.intent", 8)
    until(lambda: extent(open_objects(env), folder.id).seq >= done)
    kill(runner)
    release(tmp_path)
    folder.path.rename(tmp_path / "lost")
    back = restore_folder(open_objects(env), folder.id)
    assert back.path == folder.path
    back.plan_start(Start(by=dict(ME), from_copy=True))
    until(begin(back).gone)
    assert world(tmp_path) == {"a", "f", "b"} and state(back).outcome == "done"
    log = (tmp_path / "world" / "writes.log").read_text().split()
    assert log.count("f") == 1


def test_a_journal_that_was_continued_elsewhere_is_refused(tmp_path: Path, begin: Begin) -> None:
    env = environment(tmp_path)
    folder = asked(tmp_path, chain("a", "b", after="sign"), env=env)
    runner = begin(folder)
    until(lambda: "step.intent" in kinds(folder))
    kill(runner)
    release(tmp_path)
    subprocess.run(["cp", "-a", str(folder.path), str(tmp_path / "old")], check=True)
    until(begin(folder).gone)
    subprocess.run(["rm", "-r", str(folder.path)], check=True)
    (tmp_path / "old").rename(folder.path)
    until(begin(folder).gone)
    error = failure(folder)
    assert error is not None and error.exit_code is Exit.REFUSED and "continued elsewhere" in error.message


def test_without_a_state_store_nothing_is_started(tmp_path: Path, begin: Begin) -> None:
    (tmp_path / "blocked").write_text("not a folder")
    env = environment(tmp_path, store=tmp_path / "blocked" / "store")
    folder = asked(tmp_path, chain("a"), env=env)
    until(begin(folder).gone)
    error = failure(folder)
    assert error is not None and error.exit_code is Exit.REFUSED and "cannot be locked" in error.message
    assert world(tmp_path) == set()


@pytest.fixture
def small_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state home on a disk of 1 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("no file system can be mounted here")
    monkeypatch.setenv("XDG_STATE_HOME", str(disk))
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_stops_new_steps_and_the_run_goes_on_when_there_is_room(
    tmp_path: Path, small_home: Path, begin: Begin
) -> None:
    folder = asked(tmp_path, [step("a", after="sign"), step("b", "a")])
    runner = begin(folder)
    until(lambda: "step.intent" in kinds(folder))
    ballast = small_home / "ballast"
    with ballast.open("wb") as file:
        for size in (4096, 1):
            while _written(file, size):
                pass
    release(tmp_path)
    until(lambda: "a" in world(tmp_path))
    reply = orders.send(folder, Noted(text="what is going on?", by=dict(ME)))
    assert reply.answer == "queued" and "the disk is full" in reply.why
    assert world(tmp_path) == {"a"} and "step.done" not in kinds(folder)
    ballast.unlink()
    until(runner.gone)
    assert state(folder).outcome == "done" and world(tmp_path) == {"a", "b"}
    assert state(folder).notes[0]["text"] == "what is going on?"


def test_a_journal_that_may_not_grow_stops_new_steps_and_the_run_goes_on_when_it_may(
    tmp_path: Path, begin: Begin
) -> None:
    """The same without the right to mount a disk: a limit on the runner's files, which is lifted while it runs."""
    folder = asked(tmp_path, [step("a", after="sign"), step("b", "a")])
    runner = begin(folder)
    until(lambda: "step.intent" in kinds(folder))
    hard = resource.prlimit(runner.pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(runner.pid, resource.RLIMIT_FSIZE, (4096, hard))
    release(tmp_path)
    until(lambda: "a" in world(tmp_path))
    reply = orders.send(folder, Noted(text="what is going on?", by=dict(ME)))
    assert reply.answer == "queued" and "cannot be written" in reply.why
    assert world(tmp_path) == {"a"} and "step.done" not in kinds(folder)
    assert "nothing new is started: " in folder.log.read_text()
    resource.prlimit(runner.pid, resource.RLIMIT_FSIZE, (hard, hard))
    until(runner.gone)
    assert state(folder).outcome == "done" and world(tmp_path) == {"a", "b"}
    assert state(folder).notes[0]["text"] == "what is going on?"


def _written(file: BinaryIO, size: int) -> bool:
    try:
        return os.write(file.fileno(), b"0" * size) > 0
    except OSError:
        return False


def test_a_real_run_takes_a_drills_environment_and_the_drill_starts_nothing_more(tmp_path: Path, begin: Begin) -> None:
    drill = asked(tmp_path, [step("a", after="c"), step("b", "a")], drill=True)
    drilling = begin(drill)
    until(lambda: "step.intent" in kinds(drill))
    real = asked(tmp_path, chain("c"))
    until(begin(real).gone, 30)
    assert state(real).outcome == "done" and state(real).fencing_token == 2
    assert waited_s(real, tmp_path) < 10
    until(drilling.gone)
    assert state(drill).lease_lost and state(drill).outcome is None
    assert world(tmp_path) == {"a", "c"}
    # What was under way when the lease went may have reached a target that cannot refuse it: nobody calls that done.
    assert state(drill).steps["a"].status is Status.UNCERTAIN
    ended = drill.ended()
    assert ended is not None and ended["exit"] == Exit.UNKNOWN
