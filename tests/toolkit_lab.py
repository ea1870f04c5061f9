"""Experiments for tests: write one, read it, run it in this process or in a fork that may be killed."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from drkit import __version__
from drkit.chaos.toolkit import opening, reading, running
from drkit.chaos.toolkit.ending import JOURNAL, Ended
from drkit.chaos.toolkit.leftover import left_in
from drkit.chaos.toolkit.locks import MachineLock
from drkit.chaos.toolkit.opening import Options
from drkit.chaos.toolkit.redaction import Redaction
from drkit.chaos.toolkit.resolving import resolve
from drkit.engine import runs
from drkit.engine.journal import read_rows
from drkit.engine.runs import RunFolder
from drkit.model.events import Row

ME: dict[str, Any] = {"name": "tester", "uid": 0, "how": "terminal", "roles": []}


def process(name: str, script: str, kind: str = "action", **more: Any) -> dict[str, Any]:
    """An activity that is a line for the shell."""
    provider = {"type": "process", "path": "sh", "arguments": ["-c", script]}
    return {"type": kind, "name": name, "provider": provider, **more}


def python(name: str, module: str, func: str, kind: str = "probe", **more: Any) -> dict[str, Any]:
    """An activity that is a Python function; `arguments` go to the provider."""
    provider = {"type": "python", "module": module, "func": func, "arguments": more.pop("arguments", {})}
    return {"type": kind, "name": name, "provider": provider, **more}


def experiment(**parts: Any) -> dict[str, Any]:
    """A whole experiment; `probes` become its hypothesis."""
    probes = parts.pop("probes", None)
    said: dict[str, Any] = {"title": "a test", "description": "of drkit", "method": []}
    if probes is not None:
        said["steady-state-hypothesis"] = {"title": "all is well", "probes": probes}
    return said | parts


def written(folder: Path, said: dict[str, Any] | str, name: str = "experiment.json") -> Path:
    """The file of an experiment."""
    path = folder / name
    path.write_text(said if isinstance(said, str) else json.dumps(said, indent=1))
    return path


@dataclass
class Ran:
    """A run that has ended."""

    folder: RunFolder
    ended: Ended

    @property
    def journal(self) -> dict[str, Any]:
        """In Chaos Toolkit's shape."""
        told: dict[str, Any] = json.loads((self.folder.path / JOURNAL).read_text())
        return told

    @property
    def rows(self) -> list[Row]:
        """The chained journal."""
        return list(read_rows(self.folder.journal))

    def statuses(self, part: str = "run") -> list[tuple[str, str]]:
        """Names and statuses of the activities of a part."""
        return [(entry["activity"]["name"], entry["status"]) for entry in self.journal[part]]


def run(path: Path, folder: RunFolder | None = None, **options: Any) -> Ran:
    """Run the experiment of this file to its end, in this process."""
    read = reading.load(path).experiment
    values = resolve(read, ({}, {}), warn=lambda text: None)
    running.check_controls(read, values)
    read = running.titled(read, values)
    folder = folder or runs.new()
    wanted = replace(Options(), **options)
    hold = MachineLock(runs.state_home() / "locks", read.title, folder.id)
    opened = opening.open_run(folder, read, opening.local(), ME, wanted, {}, Redaction(values.secrets), __version__)
    return Ran(folder, running.carry_out(folder, read, values, wanted, opened, hold))


def forked(work: Callable[[], object], within_s: float = 30.0) -> int:
    """Do this in a fork of this process, and wait for its end: its exit status as `os.waitpid` has it."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    with os.fdopen(os.pidfd_open(pid), closefd=True) as ended:
        ready, _, _ = select.select([ended], [], [], within_s)
    if not ready:
        os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    assert ready, f"the fork did not end within {within_s:g} s"
    return status


def healed(folder: RunFolder, within_s: float = 10.0) -> bool:
    """Nothing is left of this run, and nobody is at work on it, before the time is up."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if folder.ended() is not None and left_in(folder) is None and not runs.alive(folder):
            return True
        time.sleep(0.02)
    return False
