"""A run's folder for an experiment: the request as every run has one, the experiment without secrets, a plan to show.

The plan is for screens (`status`, `runs`, `logs`): an activity is a step, in the order in which it happens. It is never
carried out by the engine; `experiment.json` in the folder says whose run it is.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drkit.chaos.toolkit.model import Experiment, Http, Process, Python
from drkit.chaos.toolkit.outcome import plain
from drkit.chaos.toolkit.redaction import Redaction, undeclared
from drkit.model.values import digest

if TYPE_CHECKING:
    from drkit.engine.runs import RunFolder

FILE = "experiment.json"
#: What this machine is called where an environment is named.
HERE = "this-machine"
_PARTS = {"before": "steady", "method": "inject", "after": "steady", "rollback": "heal"}


@dataclass(frozen=True, slots=True)
class Options:
    """How it is to be run."""

    hypothesis: str = "default"
    rollbacks: str = "always"
    frequency_s: float = 1.0
    fail_fast: bool = False
    deadline_s: float = 3600.0
    term_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Kept:
    """What a folder says of its experiment: where its file was, and the experiment itself if it holds no secret."""

    path: str
    digest: str
    cwd: str
    whole: bool
    data: dict[str, Any]
    configuration: dict[str, Any]
    deadline_s: float


def local() -> dict[str, Any]:
    """The environment of an experiment that names none: this machine."""
    return {
        "name": HERE, "kind": "staging", "account": "-", "sites": [], "state_store": "file:///",
    }  # fmt: skip


def open_run(
    folder: RunFolder, experiment: Experiment, environment: dict[str, Any], by: dict[str, Any], options: Options,
    configuration: Mapping[str, Any], redaction: Redaction, version: str,
) -> dict[str, Any]:  # fmt: skip
    """Write the folder's files; what the first event of the journal says."""
    from drkit.engine.runs import write_durably

    plan = redaction.clean(plan_of(experiment, environment, version))
    data = redaction.clean(undeclared(experiment.raw))
    request = {
        "run": folder.id, "kind": "run", "plan": plan, "environment": environment, "by": by, "wall": time.time(),
        "drill": True, "project": str(Path.cwd()), "options": {"experiment": experiment.path},
    }  # fmt: skip
    kept = Kept(
        str(Path(experiment.path).absolute()), experiment.digest, str(Path.cwd()),
        data == experiment.raw, data, redaction.clean(plain(configuration)),
        options.deadline_s,
    )  # fmt: skip
    write_durably(folder.path / FILE, json.dumps(asdict(kept)).encode())
    write_durably(folder.path / "request.json", json.dumps(request).encode())
    return {
        "run": folder.id, "run_kind": "run", "plan": plan, "plan_hash": digest(plan), "drkit": version,
        "catalog": plan["catalog"], "by": by, "host": os.uname().nodename, "wall": request["wall"], "drill": True,
    }  # fmt: skip


def kept_in(folder: RunFolder) -> Kept | None:
    """What is kept of the experiment; None: this folder is no experiment's."""
    try:
        return Kept(**json.loads((folder.path / FILE).read_bytes()))
    except FileNotFoundError:
        return None


def plan_of(experiment: Experiment, environment: Mapping[str, Any], version: str) -> dict[str, Any]:
    """The experiment as a plan, for screens. An activity waits for what stands before it, not for what runs beside."""
    steps: list[dict[str, Any]] = []
    front: list[str] = []
    beside: list[str] = []
    before = ""
    for number, (step, stage, activity) in enumerate(experiment.steps(), start=1):
        if stage != before:
            front, beside, before = [*front, *beside], [], stage
        steps.append(
            {
                "id": step, "number": number, "uses": f"chaostoolkit.{_kind(activity.provider)}", "kind": activity.kind,
                "title": activity.name, "needs": front, "optional": True, "part": _PARTS[stage], "repeat": "ask",
                "params": {"calls": _called(activity.provider)},
            }
        )  # fmt: skip
        if activity.background:
            beside.append(step)
        else:
            front = [step]
    return {
        "schema": "drkit.plan/1", "runbook": Path(experiment.path).stem, "runbook_digest": experiment.digest,
        "scenario": experiment.title, "hypothesis": experiment.hypothesis.title if experiment.hypothesis else None,
        "environment": environment["name"], "environment_kind": environment["kind"],
        "account": environment["account"], "source": "-", "target": "-", "steps": steps,
        "catalog": experiment.digest, "drkit": version,
    }  # fmt: skip


def _kind(provider: Process | Http | Python) -> str:
    return type(provider).__name__.lower()


def _called(provider: Process | Http | Python) -> str:
    """What is called, as a screen shows it; arguments may hold what nobody should read."""
    if isinstance(provider, Process):
        return provider.path
    text = provider.url.partition("?")[0] if isinstance(provider, Http) else f"{provider.module}.{provider.func}"
    return text.replace("${", "{")  # it is not ours to fill in
