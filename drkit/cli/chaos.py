"""`drkit chaos`: break something on purpose; find what was broken and never healed, and heal it."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drkit.cli import drill, seen
from drkit.cli import environment as environments
from drkit.cli.settings import Settings
from drkit.errors import DrkitError, Exit, UsageError

if TYPE_CHECKING:
    from drkit.cli.seen import Seen
    from drkit.engine.state import StepState
    from drkit.model.environment import Environment
    from drkit.model.plan import Plan

group = typer.Typer(no_args_is_help=True, help="Break something on purpose, and heal it.")


def register(app: typer.Typer) -> None:
    """Put `chaos` on `app`."""
    app.add_typer(group, name="chaos", rich_help_panel="Rehearse")


@group.command("run")
def run(
    ctx: typer.Context,
    scenario: drill.ScenarioArgument,
    changes: drill.SetOption = None,
    confirm: drill.ConfirmOption = None,
    allow_production: drill.Production = False,
    dry_run: drill.DryRun = False,
    detach: drill.Detach = False,
    foreground: drill.Foreground = False,
) -> None:
    """Inject a scenario's faults, without a runbook. `drkit chaos stop --all` heals what it leaves."""
    code = drill.rehearse(
        ctx.obj, scenario, None, changes, confirm=confirm, allow_production=allow_production, dry_run=dry_run,
        detach=detach, foreground=foreground, kind="run",
    )  # fmt: skip
    raise typer.Exit(int(code))


@dataclass(frozen=True, slots=True)
class Leftover:
    """A fault that was injected and not healed, as the journals on this machine tell it."""

    run: str
    step: str
    fault: str
    params: dict[str, Any]
    heal: dict[str, Any]
    alive: bool
    """Its run is still being carried out."""


@group.command("leftovers")
def leftovers(ctx: typer.Context) -> None:
    """Faults that were injected and never healed. Exit 10 if there are any."""
    settings: Settings = ctx.obj
    environment = environments.load(settings)
    found = unhealed(environment)
    settings.say.result(
        [asdict(left) for left in found],
        lambda: settings.say.table(
            ("run", "step", "fault", "its run"),
            [(f.run, f.step, f.fault, "goes on" if f.alive else "is over") for f in found],
        ),
    )
    if not found:
        settings.say.note(f"Nothing is left broken in {environment.name}, as far as this machine's journals know.")
        return
    settings.say.next(f"drkit chaos stop --all --env {environment.name}")
    raise typer.Exit(int(Exit.CHANGES))


@group.command("stop")
def stop(
    ctx: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="Every fault of every run.")] = False,
    run: Annotated[str | None, typer.Option("--run", help="Only the faults of this run.")] = None,
) -> None:
    """Heal what was broken: aborts drills that go on, and undoes every fault that is still there."""
    from drkit.cli import launch
    from drkit.cli.steer import order
    from drkit.engine.runs import Request

    settings: Settings = ctx.obj
    if everything == (run is not None):
        raise UsageError("say which: --all, or --run RUN", hint="drkit chaos stop --all")
    environment = environments.load(settings)
    found = [left for left in unhealed(environment) if run in (None, left.run)]
    for going in dict.fromkeys(left.run for left in found if left.alive):
        settings.say.note(f"Ending {going}, which goes on")
        order(seen.find(going), "abort", reason="drkit chaos stop")
        _wait_over(going)
    found = [left for left in unhealed(environment) if run in (None, left.run)]
    if not found:
        settings.say.note(f"Nothing is broken in {environment.name}, as far as this machine's journals know.")
        return
    with launch.waiting(foreground=False) as waiting:
        request = Request(
            run=waiting.folder.id, kind="run", plan=healing(environment, found), environment=environment,
            by=launch.me(environment), wall=time.time(), drill=True, project=str(Path.cwd()),
        )  # fmt: skip
        waiting.begin(request)
    raise typer.Exit(int(launch.follow(settings, waiting, detach=False)))


def unhealed(environment: Environment) -> list[Leftover]:
    """Injected faults of this environment's runs on this machine for which no heal is journaled, the oldest first."""
    from drkit.engine.runs import all_runs

    found: dict[tuple[str, str], Leftover] = {}
    for folder in all_runs():
        if not folder.journal.exists() or folder.request().environment.name != environment.name:
            continue
        look = seen.read(folder)
        if look.run is None:
            continue
        _healed(look, found)
        for step in look.state.steps.values():
            if step.plan.part == "inject" and step.intent and not _is_healed(step, look):
                heal = _heal(step)
                found[folder.id, step.id] = Leftover(
                    folder.id, step.id, step.plan.uses, dict(step.params or step.plan.params), heal, look.alive
                )
    return list(found.values())


def healing(environment: Environment, found: list[Leftover]) -> Plan:
    """One plan that undoes each of these faults, the last one first, independently of each other."""
    from drkit import __version__
    from drkit.catalog import Catalog
    from drkit.model.plan import Plan, PlanStep
    from drkit.model.values import digest

    catalog = Catalog()
    steps: list[PlanStep] = []
    for number, left in enumerate(reversed(found), start=1):
        entry = catalog.entry(str(left.heal["uses"]))
        steps.append(
            PlanStep(
                id=f"heal-{left.run}-{left.step}", number=number, uses=entry.name, kind="action",
                title=f"heal {left.fault} of run {left.run}", params=left.heal["params"],
                timeout_s=getattr(entry, "timeout_s", 60.0), repeat=getattr(entry, "repeat", "safe"),
                site=left.params.get("site"), part="heal", heals=left.step,
            )
        )  # fmt: skip
    regions = environment.regions
    return Plan(
        schema="drkit.plan/1", runbook="chaos-stop", runbook_digest=digest([s.model_dump(mode="json") for s in steps]),
        environment=environment.name, environment_kind=environment.kind, account=environment.account,
        source=regions[0], target=regions[-1], steps=tuple(steps), catalog=catalog.digest(s.uses for s in steps),
        drkit=__version__,
    )  # fmt: skip


def _healed(look: Seen, found: dict[tuple[str, str], Leftover]) -> None:
    """Take out what a later `chaos stop` has healed."""
    for step in look.state.steps.values():
        if step.plan.part == "heal" and step.id.startswith("heal-") and step.status.value in ("done", "skipped"):
            for run, name in list(found):
                if step.id == f"heal-{run}-{name}":
                    del found[run, name]


def _is_healed(step: StepState, look: Seen) -> bool:
    if step.status.value in ("compensated",):
        return True
    return any(
        other.plan.heals == step.id and other.status.value in ("done", "skipped") for other in look.state.steps.values()
    )


def _heal(step: StepState) -> dict[str, Any]:
    """The use that takes the fault back: journaled with the step, else asked of the fault itself."""
    from drkit.catalog import Catalog
    from drkit.chaos.compile import heal

    if step.undo is not None and "uses" in step.undo:
        return {"uses": step.undo["uses"], "params": step.undo["params"]}
    use = heal(Catalog().entry(step.plan.uses), step.plan)
    if use is None:
        raise DrkitError(f"{step.plan.uses} does not say how it is healed")
    return {"uses": use.uses, "params": use.params}


def _wait_over(run: str) -> None:
    """Until a run has ended, at most a minute."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if seen.read(seen.find(run)).state.outcome is not None:
            return
        time.sleep(0.2)
    raise DrkitError(f"{run} has not ended within a minute", hint=f"drkit status {run}")
