"""From a scenario to a run that has begun: compiled, shown, permitted, asked of a runner."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from drkit.cli import environment as environments
from drkit.cli.settings import Settings, pairs
from drkit.errors import Exit, Refused, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drkit.catalog import Catalog
    from drkit.chaos.again import Again
    from drkit.chaos.choose import Aim
    from drkit.chaos.compile import Targets
    from drkit.cli.launch import Waiting
    from drkit.model.environment import Environment
    from drkit.model.plan import Plan
    from drkit.model.scenario import Scenario
    from drkit.model.values import Json
    from drkit.plan.files import Loaded, LoadedScenario

RUNBOOK = "runbook/"


@dataclass(frozen=True, slots=True)
class Reserved:
    """A run that a schedule decided on: nobody is there to answer, and asking for it twice begins it once."""

    run: str
    wall: float
    """When it was decided: the same however often it is asked for."""
    aim: Aim


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """What is to be broken, and by whose leave."""

    kind: str
    """`drill`, with a runbook that recovers, or `run`."""
    scenario: str
    runbook: str | None = None
    """None: the one that the scenario names."""
    changes: Sequence[str] = ()
    confirm: str | None = None
    allow_production: bool = False
    dry_run: bool = False
    reserved: Reserved | None = None
    again: Again | None = None
    """A run that is to be repeated; Refused, with what differs, unless it would be the same."""


def rehearse(settings: Settings, wanted: Rehearsal, *, detach: bool, foreground: bool) -> Exit:
    """Begin it (see `begun`) and watch it; how it ended.

    A `reserved` run is not watched unless it is in the foreground: DONE means that a runner was asked to begin it.
    """
    from drkit.cli import launch

    waiting = begun(settings, wanted, foreground=foreground)
    if waiting is None:
        return Exit.DONE
    if foreground:
        return launch.in_process(settings, waiting.folder)
    return Exit.DONE if wanted.reserved is not None else launch.follow(settings, waiting, detach=detach)


def begun(settings: Settings, wanted: Rehearsal, *, foreground: bool = False) -> Waiting | None:
    """Compile the scenario (with a runbook, for a drill), have it confirmed, begin it. None: it was only shown."""
    from drkit.catalog import Catalog
    from drkit.chaos.unattended import check_unattended
    from drkit.cli import aiming, launch
    from drkit.cli import plan as plans
    from drkit.cli.ordering import me
    from drkit.drill.compile import policy
    from drkit.engine.runs import Request
    from drkit.plan.files import load_runbook, load_scenario

    environment = environments.load(settings)
    reserved, again = wanted.reserved, wanted.again
    run = None if reserved is None else reserved.run
    with launch.waiting(foreground=foreground, needed=not wanted.dry_run, run=run) as waiting:
        loaded = load_scenario(environments.find_file("scenario", wanted.scenario))
        named = wanted.runbook or _named(loaded.scenario)
        book = None if wanted.kind == "run" or named is None else load_runbook(environments.find_file("runbook", named))
        if wanted.kind == "drill" and book is None:
            raise UsageError(f"{wanted.scenario} runs no runbook", hint=f"drkit chaos run {wanted.scenario}")
        catalog = Catalog()
        found = aiming.targets(settings, environment, loaded, catalog, reserved.aim if reserved else None, again)
        plan = _compiled(loaded, book, environment, catalog, pairs(wanted.changes), found, again)
        if wanted.dry_run:
            breaks = aiming.breaks(plan, environment, catalog)
            told = plan.model_dump(mode="json", by_alias=True) | {"hash": plan.hash, "breaks": breaks}
            settings.say.result(told, lambda: aiming.show(settings, plan, breaks))
            settings.say.note("Dry run: nothing was broken, and no run was started.")
            return None
        aiming.refuse_if_stopped(environment)
        settings.say.note(plans.head(plan), style="bold")
        settings.say.note(f"  {loaded.scenario.hypothesis}")
        settings.say.note(f"  {plans.totals(plan)}")
        if wanted.kind == "drill":
            _check_credentials(settings, plan, environment, catalog)
        if reserved is not None:
            check_unattended(plan)
        what = f"{plan.scenario} will break things in {environment.name.upper()}, on purpose."
        confirmed = permitted(settings, environment, what, wanted.confirm, wanted.allow_production)
        request = Request(
            run=waiting.folder.id, kind=wanted.kind, plan=plan, environment=environment, by=me(environment),
            wall=time.time() if reserved is None else reserved.wall, drill=True, policy=policy(loaded.scenario),
            confirmed=confirmed, project=str(Path.cwd()),
            options=_files(loaded, book) | ({} if again is None else again.options(loaded.scenario)),
        )  # fmt: skip
        settings.say.note(f"Starting run {waiting.folder.id}.")
        waiting.begin(request)
    return waiting


def _compiled(
    loaded: LoadedScenario, book: Loaded | None, environment: Environment, catalog: Catalog, typed: dict[str, Json],
    targets: Targets, again: Again | None,
) -> Plan:  # fmt: skip
    """The plan; of a run that is repeated, with the faults of it that are meant. Refused if that run would differ."""
    from drkit.chaos.again import check_same
    from drkit.drill.compile import compile_drill

    def compiled(parameters: dict[str, Json], only: tuple[str, ...] | None) -> Plan:
        return compile_drill(
            loaded, book, environment, catalog, parameters=parameters, targets=targets, only=only
        )  # fmt: skip

    if again is None:
        return compiled(typed, None)
    before = again.request.plan
    given = {one.name: one.value for one in before.changed_parameters}
    plan = compiled(given, again.had)
    check_same(before, plan)
    return plan if again.only is None else compiled(given, again.only)


def _check_credentials(settings: Settings, plan: Plan, environment: Environment, catalog: Catalog) -> None:
    """As before a failover: say which credentials may not last, and refuse if one is certain not to."""
    from drkit.cli.planning import Planned, Wanted, look

    planned = look(Planned(plan, environment, catalog, Wanted(plan.target)), evidence=False)
    for line in planned.doubtful_lives():
        settings.say.note(f"  {line}")
    planned.check_outlived()


def _files(loaded: LoadedScenario, book: Loaded | None) -> dict[str, Json]:
    """Where the files are that it was compiled from, for whoever repeats it."""
    found: dict[str, Json] = {"scenario": str(Path(loaded.path).absolute())}
    return found if book is None else found | {"runbook": str(Path(book.path).absolute())}


def _named(scenario: Scenario) -> str | None:
    """The runbook that the scenario's method runs."""
    return next((step.run.removeprefix(RUNBOOK) for step in scenario.method if step.run is not None), None)


def permitted(
    settings: Settings, environment: Environment, what: str, confirm: str | None, allow_production: bool
) -> str | None:
    """What was typed to permit breaking things; None in the sandbox, where nothing is asked. `what` will be done."""
    from drkit.cli import asking

    if environment.kind == "sandbox":
        return None
    if environment.kind == "production" and not allow_production:
        raise Refused(
            f"{environment.name} is production: nothing is broken there unasked", hint="add --allow-production"
        )
    return asking.confirmed(settings, what, environment.name, "--confirm", confirm)
