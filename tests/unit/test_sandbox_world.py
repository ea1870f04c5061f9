"""What `up` and `down` refuse, and how they say so; nothing is started here."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drkit.errors import DrkitError, Refused
from drkit.sandbox import layout, postgres, world
from drkit.sandbox.layout import Folders
from drkit.sandbox.processes import of_world


@pytest.fixture
def folder() -> Iterator[Path]:
    base = Path(tempfile.mkdtemp(prefix="drkit-test-"))
    base.chmod(0o711)
    yield base / "world"
    shutil.rmtree(base)


def test_a_world_that_is_not_there_is_said_to_be_down(folder: Path) -> None:
    with pytest.raises(DrkitError, match="not running") as caught:
        world.load(folder)
    assert caught.value.hint == "drkit sandbox up"
    assert world.status(folder) == {"up": False, "left": 0, "folder": str(folder)}
    assert world.down(folder) is False


def test_two_at_once_are_refused(folder: Path) -> None:
    folder.mkdir()
    handle = os.open(folder, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        for verb in (world.up, world.down):
            with pytest.raises(Refused, match="at work"):
                verb(folder)
    finally:
        os.close(handle)


def test_a_folder_with_other_things_in_it_is_left_alone(folder: Path) -> None:
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(Refused, match="not a sandbox"):
        world.down(folder)
    with pytest.raises(Refused, match="not empty"):
        world.up(folder)
    assert (folder / "thesis.txt").read_text() == "years of work"


def test_a_folder_that_cannot_be_made_is_named(folder: Path) -> None:
    folder.write_text("a file")
    with pytest.raises(DrkitError, match="cannot be built"):
        world.up(folder / "below")


def test_a_full_disk_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
    with pytest.raises(DrkitError, match="is full"):
        world.up(folder)
    assert of_world(folder) == []


def test_what_fails_is_named_with_its_log_and_nothing_is_left_running(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout.Settings, "as_json", lambda self: {"surprise": 1})  # the supervisor will not know this
    with pytest.raises(DrkitError, match="surprise") as caught:
        world.up(folder)
    assert str(folder / "log" / "supervisor.log") in str(caught.value.hint)
    assert of_world(folder) == []


def test_servers_user_must_be_able_to_reach_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (tmp_path / "closed").mkdir(mode=0o700)
    with pytest.raises(DrkitError, match="may not pass through") as caught:
        postgres.find_binaries(tmp_path / "closed" / "world")
    assert str(caught.value.hint).startswith("chmod o+x ")


def test_leftover_memory_is_read_from_postmaster_pid_and_torn_files_are_no_error(tmp_path: Path) -> None:
    assert postgres.remove_leftover_memory(tmp_path) is False
    (tmp_path / "postmaster.pid").write_text("123\n")
    assert postgres.remove_leftover_memory(tmp_path) is False
    (tmp_path / "postmaster.pid").write_text("123\n/data\n0\n5432\n/run\n*\n  999 888777\nready\n")
    assert postgres.remove_leftover_memory(tmp_path) is False, "no such segment"


MAKES = """
import ctypes, sys
assert ctypes.CDLL(None).shmget(int(sys.argv[1]), 56, 0o3600) >= 0  # IPC_CREAT | IPC_EXCL, for the owner alone
"""


@pytest.mark.parametrize("noted", [False, True])
def test_memory_of_a_dead_server_is_removed_also_if_it_was_not_written_down_yet(tmp_path: Path, noted: bool) -> None:
    key = tmp_path.stat().st_ino % 2**31
    if noted:
        key ^= 1 << 30
    with subprocess.Popen([sys.executable, "-c", MAKES, str(key)]) as server:
        assert server.wait() == 0
    written = f"*\n {key} 888777\nready\n" if noted else ""
    (tmp_path / "postmaster.pid").write_text(f"-{server.pid}\n/data\n0\n5432\n/run\n{written}")
    assert postgres.remove_leftover_memory(tmp_path) is True
    assert postgres.remove_leftover_memory(tmp_path) is False, "it is gone"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"DRKIT_SANDBOX_DIR": "/srv/w"}, "/srv/w"),
        ({"XDG_STATE_HOME": "/home/dana/.state"}, "/home/dana/.state/drkit/sandbox"),
    ],
)
def test_where_a_world_is_kept(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str) -> None:
    monkeypatch.delenv("DRKIT_SANDBOX_DIR", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert str(world.default_folder()) == expected


def test_addresses_of_roles_and_links_never_collide() -> None:
    pairs: list[Any] = [
        (site, what, number)
        for site in (*layout.REGIONS, layout.ONPREM, layout.OUTSIDE)
        for what in (*layout.ROLES_ON_SITE, *layout._LINKS_ON_SITE)
        for number in range(3)
    ]
    addresses = {layout.address(*pair) for pair in pairs}
    assert len(addresses) == len(pairs)


def test_settings_survive_their_file(tmp_path: Path) -> None:
    made = layout.Settings(0.2, "sync", sockets={"us-east-1": "/s"})
    (tmp_path / "settings.json").write_text(json.dumps(made.as_json()))
    assert layout.Settings(**json.loads(Folders(tmp_path).settings.read_text())) == made
