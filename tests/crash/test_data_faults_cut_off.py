"""The scripts of faults of data, killed before each command that writes: the revert brings everything back.

Run past SSH and past the protocol, which has tests of its own. bash stands for the host's shell, because it can say
which command comes next.
"""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from drkit.model.environment import Environment
from drkit.model.paper import Paper

#: Dies before the Nth command that writes, in whatever function or pipeline that is.
CUT = """
writes=0
trap 'case $BASH_COMMAND in
  mv\\ *|rm\\ *|cp\\ *|chown\\ *|chmod\\ *|touch\\ *|mkdir\\ *|head\\ *|printf\\ *|echo\\ *|shows\\ *|:|dd\\ *)
    writes=$((writes + 1)); [ "$writes" -ne "$CUT_AT" ] || kill -KILL $$ ;;
esac' DEBUG
set -T
"""
FAULTS = {
    "bit_flip": ("flip", "key"),
    "key_loss": ("lose", "key"),
    "wal_truncation": ("truncate", "archive"),
    "empty_backup": ("empty", "backups"),
    "stale_backup": ("age", "backups"),
}
PAPER = Paper(Environment(name="lab", kind="staging", account="0", sites=(), state_store="file:///nowhere"), "a", "b")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host's root with an archive, two backups and a key."""
    for path, text in {
        "key": "kept", "archive/000000010000000000000001": "log" * 99, "backups/monday/label": "old",
        "backups/tuesday/label": "new", "backups/tuesday/base/1": "rows", "var/lib/drkit/faults/none": "",
    }.items():  # fmt: skip
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    os.utime(tmp_path / "backups/monday", (1, 1))
    return tmp_path


def scripts(name: str) -> tuple[str, str]:
    """What injects and what reverts."""
    entry, path = FAULTS[name]
    fault = getattr(importlib.import_module(f"drkit.chaos.faults.{name}"), entry)
    p = fault.params.model_validate({"host": "h", "path": path})
    return fault.commander(p, PAPER), fault.heal.commander(p, PAPER)


def run(root: Path, script: str, cut_at: int = 0) -> int:
    """How a script ends that is cut off there, with all that it has started."""
    fault = root / "var/lib/drkit/faults/key-of-it"
    process = subprocess.Popen(
        ["bash", "-c", CUT + script], cwd=root, start_new_session=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, env={"PATH": os.environ["PATH"], "FAULT": str(fault), "CUT_AT": str(cut_at)},
    )  # fmt: skip
    code = process.wait(20)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return code


def began(root: Path) -> None:
    """As the protocol does: the fault's folder is empty."""
    fault = root / "var/lib/drkit/faults/key-of-it"
    shutil.rmtree(fault, ignore_errors=True)
    fault.mkdir()


def tree(root: Path, name: str) -> dict[str, Any]:
    """All that is there beside what the protocol keeps; a folder's time changes when something in it does.

    A bit is flipped in place: cut off between that and the file's time, it has the time of that.
    """
    paths = [path for path in root.rglob("*") if not path.is_relative_to(root / "var")]
    timed = name != "bit_flip"
    return {str(p): (p.read_bytes(), p.stat().st_mtime_ns if timed else 0) if p.is_file() else None for p in paths}


def cuts(root: Path, script: str) -> Iterator[int]:
    """Run a script cut off before its first write, its second, ..., until it comes to its end."""
    for cut_at in range(1, 100):
        code = run(root, script, cut_at)
        if code == 0:
            assert cut_at > 1, "it never wrote"
            return
        assert code == -signal.SIGKILL, f"cut off at {cut_at}, it ended with {code}"
        yield cut_at


@pytest.mark.parametrize("name", FAULTS)
def test_an_inject_that_is_cut_off_anywhere_is_reverted(root: Path, name: str) -> None:
    inject, revert = scripts(name)
    whole = tree(root, name)
    began(root)
    for cut_at in cuts(root, inject):
        assert run(root, revert) == 0
        assert tree(root, name) == whole, f"cut off at {cut_at}"
        began(root)
    assert tree(root, name) != whole


@pytest.mark.parametrize("name", FAULTS)
def test_a_revert_that_is_cut_off_anywhere_is_ended_by_the_next_one(root: Path, name: str) -> None:
    inject, revert = scripts(name)
    whole = tree(root, name)
    began(root)
    assert run(root, inject) == 0
    for cut_at in cuts(root, revert):
        assert run(root, revert) == 0
        assert tree(root, name) == whole, f"cut off at {cut_at}"
        began(root)
        assert run(root, inject) == 0
    assert tree(root, name) == whole
