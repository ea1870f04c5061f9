"""How soon after "go" the first step of a local runbook starts, through the command line's own runner."""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from unittest import mock

from eng_drkit import SITES
from table import Row

from drkit.catalog import Catalog
from drkit.engine import runs
from drkit.engine.journal import read_rows
from drkit.engine.runs import Request
from drkit.engine.spawning import spawn
from drkit.model.environment import Environment
from drkit.model.plan import Plan
from drkit.model.values import Json

RUNS = 7
LOADED_S = 2.0
"""A runner is loaded while people still read the plan: it gets this long before it is told to go."""
GOAL_S = 0.3


def rows() -> list[Row]:
    """The median of some runs."""
    with tempfile.TemporaryDirectory(prefix="dr-bench-", dir="/var/tmp") as folder:
        took_s = [_first_step_s(Path(folder) / str(number)) for number in range(RUNS)]
    told = f"goal {GOAL_S:g} s: " + ("met" if statistics.median(took_s) < GOAL_S else "missed")
    return [
        ("first step after go", statistics.median(took_s), f"median of {RUNS}, longest {max(took_s):.2f} s; {told}")
    ]


def _first_step_s(folder: Path) -> float:
    """From go until the run's journal gives the first step to a worker."""
    folder.mkdir()
    with mock.patch.dict(os.environ, {"XDG_STATE_HOME": str(folder / "state")}):
        run = runs.new()
        runner = spawn(run, [sys.executable, "-m", "drkit.cli", "_runner", str(run.path)])
        time.sleep(LOADED_S)
        went = time.time()  # a row says when by the wall clock
        run.ask(request(run.id, folder, _touch(folder)))
        runner.go()
        while not runner.gone():
            time.sleep(0.02)
    given = [row for row in read_rows(run.journal) if any(command.verb == "prepare" for command in row.commands)]
    if not given:
        sys.exit(f"the run did not begin:\n{run.log.read_text()}")
    return datetime.fromisoformat(given[0].at).timestamp() - went


def _touch(folder: Path) -> dict[str, Json]:
    """A step that makes a file."""
    made = str(folder / "made")
    return {
        "id": "touch", "number": 1, "uses": "process.run", "kind": "action", "repeat": "safe",
        "params": {"creates": made, "argv": ["touch", made]},
    }  # fmt: skip


def request(run: str, folder: Path, step: dict[str, Json]) -> Request:
    """What a runner is asked: one step, in an environment with a state store in this folder."""
    environment = Environment(
        name="bench", kind="sandbox", account="none", state_store=(folder / "objects").as_uri(), sites=SITES
    )
    plan = Plan.model_validate(
        {
            "schema": "drkit.plan/1", "runbook": "bench", "runbook_digest": "sha256:0", "environment": "bench",
            "environment_kind": "sandbox", "account": "none", "source": "east", "target": "west", "steps": [step],
            "catalog": Catalog().digest([str(step["uses"])]), "drkit": "0",
        }
    )  # fmt: skip
    by = {"name": "dana", "uid": os.getuid(), "how": "terminal"}
    return Request.model_validate(
        {"run": run, "kind": "run", "plan": plan, "environment": environment, "by": by, "wall": time.time()}
    )
