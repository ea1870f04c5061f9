"""Fixtures of the command line's tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cli_lab import PROJECT, WALK, Lab


@pytest.fixture
def lab(tmp_path: Path, private_state_home: Path) -> Lab:
    """A project with one environment and one runbook."""
    folder = tmp_path / "lab"
    for name in ("runbooks", "made", "store"):
        (folder / name).mkdir(parents=True)
    (folder / "drkit.toml").write_text(PROJECT.format(folder=folder, uid=os.getuid()))
    (folder / "runbooks" / "walk.yaml").write_text(WALK.format(folder=folder))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DRKIT_")}
    found = Lab(folder, clean | {"DRKIT_SANDBOX_DIR": str(tmp_path / "sandbox"), "COLUMNS": "160"})
    found.healthy(False)
    return found
