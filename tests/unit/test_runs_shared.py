"""A run's folder is private, unless somebody gave the state folder to a group on purpose."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from drkit.engine import runs
from drkit.engine.journal import SqliteStore
from drkit.engine.runs import RunFolder, write_durably
from drkit.engine.sharing import socket_mode
from drkit.model.events import GENESIS, Noted, Row


def modes(folder: RunFolder) -> dict[str, str]:
    """The mode of everything that there is of a run while its journal is open."""
    write_durably(folder.path / "request.json", b"{}")
    write_durably(folder.spool / "1.json", b"{}")
    with SqliteStore(folder.journal) as store:
        store.append([Row.link(1, "", Noted(text="x", by={}), (), GENESIS)])
        found = {path.name: path for path in (folder.path, *folder.path.rglob("*"))}
        return {name: oct(stat.S_IMODE(path.stat().st_mode)) for name, path in found.items()}


def test_a_runs_folder_is_its_owners_alone() -> None:
    folder = runs.new()
    found = modes(folder)
    assert set(found.values()) == {"0o700", "0o600"}, found
    assert socket_mode(folder.path) == 0o600


@pytest.mark.parametrize("mode", [0o2755, 0o770])
def test_a_state_folder_that_only_looks_shared_is_not(private_state_home: Path, mode: int) -> None:
    private_state_home.mkdir()
    private_state_home.chmod(mode)
    assert set(modes(runs.new()).values()) <= {"0o700", "0o600", "0o2700"}


def test_in_a_shared_state_folder_the_group_may_look_and_speak_and_change_nothing(private_state_home: Path) -> None:
    private_state_home.mkdir()
    private_state_home.chmod(0o2770)
    folder = runs.new()
    found = modes(folder)
    assert (found.pop(folder.id), found.pop("spool"), found.pop("journal.db.lock")) == ("0o2750", "0o3770", "0o600")
    assert set(found.values()) == {"0o640"}, found
    assert socket_mode(folder.path) == 0o660
    assert stat.S_IMODE(folder.path.parent.stat().st_mode) == 0o3770
    assert runs.adopt("k7qd").path.stat().st_mode & 0o7777 == 0o2750
