"""The real command, in a process of its own, with a private state home, in a small project without a sandbox.

The project's environment `lab` has two regions and nothing in them; its runbook makes files on this machine, so that
every part of a run is real but cheap: runner, journal, lease and copies (in a folder), orders, resume.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

Result = subprocess.CompletedProcess[str]

#: A test that waits for longer has failed; how fast anything is, is measured by none of them.
PATIENCE_S = 120.0

PROJECT = """
environment = "lab"

[environments.lab]
kind = "staging"
account = "nobody (..0000)"
state_store = "file://{folder}/store"
runbook = "walk"
sites = [{{name = "us-east-1", kind = "region"}}, {{name = "us-west-2", kind = "region"}}]
people = [{{name = "tester", uid = {uid}, roles = ["incident-commander"]}}]
"""

WALK = """
apiVersion: drkit/v1
kind: Runbook
metadata: {{name: walk, owner: nobody}}
objectives: {{rto: 1m}}
parameters:
  second: {{default: "{folder}/made/second", description: Path of the second file}}
probes:
  start: {{uses: process.exists, with: {{creates: "{folder}/go"}}}}
decide: "probes.start.exists"
steps:
  - {{id: first, uses: process.run, with: {{creates: "{folder}/made/first", argv: [touch, "{folder}/made/first"]}}}}
  - {{id: agree, uses: gate.approve, with: {{role: incident-commander, question: "Go on?"}}}}
  - {{id: second, uses: process.run, with: {{creates: "${{ params.second }}", argv: [touch, "${{ params.second }}"]}}}}
"""


@dataclass(frozen=True)
class Lab:
    """The project's folder, what its runbook makes, and how to run drkit in it."""

    folder: Path
    environment: dict[str, str]

    @property
    def made(self) -> list[str]:
        """Files that steps have made."""
        return sorted(path.name for path in (self.folder / "made").iterdir())

    def healthy(self, yes: bool) -> None:
        """Whether the runbook's `decide` says that the source is lost."""
        go = self.folder / "go"
        go.unlink(missing_ok=True) if yes else go.touch()

    def first_waits(self) -> Path:
        """Make the first step leave a file `begun` and wait until the file that is returned is there."""
        book, go = self.folder / "runbooks" / "walk.yaml", self.folder / "let-go"
        made = self.folder / "made" / "first"
        slow = f"touch {self.folder}/begun; until [ -e {go} ]; do sleep 0.1; done; touch {made}"
        book.write_text(book.read_text().replace(f'[touch, "{made}"]', f'[sh, -c, "{slow}"]'))
        return go

    def command(self, *words: str) -> list[str]:
        """The command line."""
        return [sys.executable, "-m", "drkit.cli", *words]

    def drkit(self, *words: str, **env: str) -> Result:
        """Run the command in this process, which is quick: no terminal on any side. Its runner is real all the same."""
        from drkit.cli.main import main

        out, err = io.StringIO(), io.StringIO()
        here = Path.cwd()
        os.chdir(self.folder)
        try:
            with (
                mock.patch.dict(os.environ, self.environment | env, clear=True),
                contextlib.redirect_stdout(out), contextlib.redirect_stderr(err),
                Path(os.devnull).open() as nobody, mock.patch.object(sys, "stdin", nobody),
            ):  # fmt: skip
                code = main(words)
        finally:
            os.chdir(here)
        return Result(list(words), code, out.getvalue(), err.getvalue())

    def process(self, *words: str, cwd: Path | None = None, timeout_s: float = PATIENCE_S) -> Result:
        """Run it in a process of its own, to its end."""
        return subprocess.run(
            self.command(*words), cwd=cwd or self.folder, env=self.environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=timeout_s,
        )  # fmt: skip


def project(folder: Path, **more: str) -> Lab:
    """A project with one environment and one runbook, made in this folder; `more`: variables of the environment."""
    for name in ("runbooks", "made", "store"):
        (folder / name).mkdir(parents=True)
    (folder / "drkit.toml").write_text(PROJECT.format(folder=folder, uid=os.getuid()))
    (folder / "runbooks" / "walk.yaml").write_text(WALK.format(folder=folder))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DRKIT_")}
    found = Lab(folder, clean | {"COLUMNS": "160"} | more)
    found.healthy(False)
    return found


def status(lab: Lab, run: str = "last", **env: str) -> dict[str, Any]:
    """The run as `drkit status -o json` tells it."""
    told: dict[str, Any] = json.loads(lab.drkit("status", run, "-o", "json", **env).stdout)
    return told


def until(holds: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def due(ago_s: float = 60.0) -> str:
    """A cron expression that was due then, and is again in a day."""
    at = datetime.fromtimestamp(time.time() - ago_s, UTC)
    return f"{at.minute} {at.hour} * * *"


def end_runners(private_state_home: Path) -> None:
    """Kill the runners of this test, each by its own id."""
    for home in private_state_home.parent.glob("*state*"):
        for runner in home.glob("drkit/runs/*/runner.json"):
            pid = json.loads(runner.read_text())["pid"]
            cmdline = Path(f"/proc/{pid}/cmdline")
            if cmdline.exists() and str(runner.parent) in cmdline.read_text():
                os.kill(pid, signal.SIGKILL)
