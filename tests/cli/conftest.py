"""The real command, in a process of its own, with a private state home and no colours."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Result = subprocess.CompletedProcess[str]
Drkit = Callable[..., Result]


@pytest.fixture
def drkit(tmp_path: Path, private_state_home: Path) -> Drkit:
    """Run `drkit WORDS...` in an empty project folder; no terminal on any end."""
    project = tmp_path / "project"
    project.mkdir()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DRKIT_")}

    def run(*words: str, cwd: Path | None = None, env: dict[str, str] | None = None, timeout_s: float = 30.0) -> Result:
        return subprocess.run(
            [sys.executable, "-m", "drkit.cli", *words],
            cwd=cwd or project,
            env=clean | {"DRKIT_SANDBOX_DIR": str(tmp_path / "sandbox"), "COLUMNS": "160"} | (env or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    return run
