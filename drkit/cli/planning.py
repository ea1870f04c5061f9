"""From a command line to a plan with its evidence; and plans that were saved, and whether they still hold."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from drkit.cli import environment as environments
from drkit.cli.settings import Settings
from drkit.errors import PreflightFailed, Refused, UsageError

if TYPE_CHECKING:
    from drkit.catalog import Catalog
    from drkit.cli.evidence import Evidence
    from drkit.cli.seen import GoodDrill
    from drkit.model.credentials import Life
    from drkit.model.environment import Environment
    from drkit.model.plan import Plan

Mode = Literal["graceful", "ungraceful"]
VALID_S = 15 * 60
SAVED = "drkit.saved-plan/1"


@dataclass(frozen=True)
class Wanted:
    """What was asked for, as typed."""

    target: str
    source: str | None = None
    runbook: str | None = None
    mode: Mode = "ungraceful"
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Planned:
    """A plan, and all that it takes to show it and to carry it out."""

    plan: Plan
    environment: Environment
    catalog: Catalog
    wanted: Wanted
    evidence: Evidence | None = None
    rehearsed: GoodDrill | None = None
    """The last good drill of this runbook here: what its steps took."""
    lives: tuple[Life, ...] = ()
    """How long the credentials last that it would need."""

    def judged_lives(self) -> list[tuple[str, str]]:
        """(verdict, sentence) for each credential, beside how long the run may take."""
        from drkit.cli.credentials import judged, longest_s

        now, likely_s = time.time(), None if self.rehearsed is None else self.rehearsed.makespan_s
        limit_s = longest_s(self.plan)
        return [judged(life, now, likely_s=likely_s, longest_s=limit_s) for life in self.lives]

    def doubtful_lives(self) -> list[str]:
        """A line for each credential that is not known to last."""
        return [f"{verdict:<6} {told}" for verdict, told in self.judged_lives() if verdict != "OK"]

    def check_outlived(self) -> None:
        """Refused if a credential that nobody refreshes is certain to end, or has ended, before the run does."""
        short = [told for verdict, told in self.judged_lives() if verdict == "FAIL"]
        if short:
            hint = f"drkit doctor --region {self.plan.target} --env {self.environment.name}"
            raise PreflightFailed("; ".join(short), hint=hint, code="E0318")


def make(settings: Settings, wanted: Wanted) -> Planned:
    """Resolve a runbook. Reads files only; UsageError, FileError."""
    from drkit.catalog import Catalog
    from drkit.plan.files import load_runbook
    from drkit.plan.resolve import resolve

    environment = environments.load(settings)
    source, target = environments.region(environment, wanted.target, wanted.source)
    loaded = load_runbook(environments.runbook_file(environment, wanted.runbook))
    catalog = Catalog()
    plan = resolve(
        loaded, environment, catalog, source=source, target=target, mode=wanted.mode,
        parameters=wanted.parameters, changed_by="--set",
    )  # fmt: skip
    return Planned(plan, environment, catalog, wanted)


def look(planned: Planned, *, evidence: bool = True) -> Planned:
    """The same with its evidence, every probe asked once, and its credentials' lives. Reads the world, changes nothing.

    Without `evidence` only the credentials: a drill breaks what would be asked.
    """
    import anyio

    from drkit.cli.compose import reach
    from drkit.cli.credentials import lives
    from drkit.cli.evidence import gather
    from drkit.cli.seen import last_good_drill

    plan = planned.plan

    async def ask() -> tuple[Evidence | None, list[Life]]:
        found: list[Life] = []

        async def last() -> None:
            found.extend(await lives(context, plan))

        async with (
            reach(planned.environment, plan.source, plan.target, mode=plan.mode) as context,
            anyio.create_task_group() as group,
        ):
            group.start_soon(last)
            gathered = await gather(plan, planned.catalog, context) if evidence else None
        return gathered, found

    gathered, found = anyio.run(ask)
    rehearsed = last_good_drill(plan.environment, plan.runbook)
    return replace(planned, evidence=gathered, rehearsed=rehearsed, lives=tuple(found))


def save(planned: Planned, path: Path) -> None:
    """Write a plan for `failover --plan`. UsageError if the file cannot be written."""
    data = {
        "schema": SAVED,
        "made_wall": time.time(),
        "environment": planned.environment.name,
        "wanted": planned.wanted.__dict__,
        "hash": planned.plan.hash,
        "plan": planned.plan.model_dump(mode="json", by_alias=True),
        "evidence": None if planned.evidence is None else planned.evidence.to_json(),
    }
    try:
        path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--out {path}: {error.strerror}") from error


def load_saved(settings: Settings, path: Path, target: str | None) -> Planned:
    """Make the saved plan again and refuse if it is too old, or anything it was made of has changed."""
    data = _read(path)
    wanted = Wanted(**data["wanted"])
    again = f"drkit plan --region {wanted.target} --env {data['environment']} --out {path}"
    if target is not None and target != wanted.target:
        raise UsageError(f"--region {target}: the saved plan moves to {wanted.target}", code="E0214")
    age_s = time.time() - data["made_wall"]
    if age_s > VALID_S or age_s < 0:
        raise Refused(
            f"plan is stale\nIt was made {age_s / 60:.0f} min ago; a plan is valid for {VALID_S // 60} min.",
            hint=again, code="E0312",
        )  # fmt: skip
    if settings.env is None:
        settings.env = data["environment"]
    elif settings.env != data["environment"]:
        raise UsageError(f"--env {settings.env}: the saved plan is for {data['environment']}")
    planned = make(settings, wanted)
    if planned.plan.hash != data["hash"]:
        changed = _changes(data["plan"], planned.plan.model_dump(mode="json", by_alias=True))
        raise Refused(f"plan is stale\nChanged since it was made: {changed}.", hint=again, code="E0312")
    looked = look(planned)
    before, now = data["evidence"], looked.evidence
    if before is not None and now is not None and before["verdict"] != now.verdict:
        raise Refused(
            f"plan is stale\nThe evidence was {before['verdict']} and is {now.verdict} now: {now.reason}",
            hint=again, code="E0312",
        )  # fmt: skip
    return looked


def _read(path: Path) -> dict[str, Any]:
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--plan {path}: {error.strerror}", hint=f"drkit plan --region REGION --out {path}") from error
    except ValueError as error:
        raise UsageError(f"--plan {path} is not a saved plan: {error}") from error
    if not isinstance(data, dict) or data.get("schema") != SAVED:
        raise UsageError(f"--plan {path} is not a saved plan of this version")
    return data


def _changes(before: dict[str, Any], now: dict[str, Any]) -> str:
    names = [key for key in now if before.get(key) != now[key] and key != "steps"]
    steps_before = {step["id"]: step for step in before.get("steps", [])}
    steps = [f"step {step['id']}" for step in now.get("steps", []) if steps_before.get(step["id"]) != step]
    return ", ".join(names + steps) or "the order of its steps"
