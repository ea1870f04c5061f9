"""Fixtures of the command line's tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_lab import Lab, project


@pytest.fixture
def lab(tmp_path: Path, private_state_home: Path) -> Lab:
    """A project with one environment and one runbook."""
    return project(tmp_path / "lab", DRKIT_SANDBOX_DIR=str(tmp_path / "sandbox"))
