"""Run folders: private, with ids that can be read aloud, found again or with the closest name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from runner_fakes import asked, chain, environment

from drkit.engine import runs
from drkit.engine.identity import ProcessId, login, machine, process, this_process
from drkit.engine.runs import Request, RunFolder, Start
from drkit.errors import JournalError, UsageError


def test_a_new_run_is_private_and_empty(private_state_home: Path) -> None:
    folder = runs.new()
    assert folder.path.parent == private_state_home / "drkit" / "runs"
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert runs.all_runs() == [], "nothing was asked yet"


def test_ids_are_short_unambiguous_and_never_given_twice() -> None:
    ids = [runs.new().id for _ in range(200)]
    assert len(set(ids)) == 200
    assert all(len(id) == 4 and id[0].isalpha() and not set(id) & set("0o1lIi") for id in ids)
    taken: list[str] = []

    def elsewhere(id: str) -> bool:
        taken.append(id)
        return len(taken) < 4

    assert runs.new(taken=elsewhere).id == taken[3]


def test_a_home_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="no run can be kept in"):
        runs.new(tmp_path / "file")


def test_the_last_run_is_the_newest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run on this machine yet"):
        runs.find("last")
    folders = [asked(tmp_path, chain("a")) for _ in range(3)]
    for n, folder in enumerate(folders):
        os.utime(folder.path / "request.json", (1000 + n, 1000 + n))
    assert runs.find("last") == folders[2]
    assert runs.all_runs() == folders
    assert runs.find(folders[0].id) == folders[0]


def test_an_unknown_run_is_answered_with_the_closest_ids(tmp_path: Path) -> None:
    folder = asked(tmp_path, chain("a"))
    typed = folder.id[:3] + ("x" if folder.id[3] != "x" else "y")
    with pytest.raises(UsageError, match=f'there is no run "{typed}" on this machine; did you mean {folder.id}'):
        runs.find(typed)
    with pytest.raises(UsageError, match=r'there is no run "0000" on this machine$'):
        runs.find("0000")


def test_a_request_survives_its_file_and_holds_no_secret(tmp_path: Path) -> None:
    folder = asked(tmp_path, chain("a", "b"), accepted_loss_s=4.0)
    request = folder.request()
    assert request.environment == environment(tmp_path) and request.accepted_loss_s == 4.0
    assert request.plan.hash == Request.from_bytes(request.to_bytes(), "x").plan.hash
    assert (folder.path / "request.json").stat().st_mode & 0o077 == 0


def test_a_request_that_is_none_is_named(tmp_path: Path) -> None:
    folder = runs.new()
    with pytest.raises(JournalError, match="has no request"):
        folder.request()
    (folder.path / "request.json").write_text("{}")
    with pytest.raises(JournalError, match=r"request\.json is not a request"):
        folder.request()


def test_how_to_begin_is_asked_once() -> None:
    folder = runs.new()
    folder.plan_start(Start(by={"name": "dana"}, take_over=True))
    start = folder.take_start()
    assert start is not None and start.take_over
    assert folder.take_start() is None


def test_alive_means_this_very_process() -> None:
    folder = runs.new()
    assert not runs.alive(folder)
    folder.claim()
    assert runs.alive(folder) and folder.runner() == this_process()
    mine = this_process()
    assert ProcessId(mine.pid, mine.start + 1, mine.machine).dead, "another process had this pid before"
    assert not ProcessId(mine.pid, mine.start + 1, "another machine").dead, "nobody can tell from here"
    assert process(mine.pid) == mine and machine() == mine.machine
    assert login(0) == "root"


def test_a_run_that_began_is_not_discarded() -> None:
    folder = runs.new()
    folder.journal.write_bytes(b"x")
    folder.discard()
    assert folder.journal.exists()


def test_a_folder_from_elsewhere_is_adopted() -> None:
    folder = runs.adopt("k7qd")
    assert folder == RunFolder(runs.state_home() / "runs" / "k7qd") and folder.spool.is_dir()
