"""`drkit chaos`: break something on purpose; find what was broken and never healed, and heal it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drkit.cli import author, compose, drill, rehearsing, repeating, seen, toolkit, undoing
from drkit.cli import environment as environments
from drkit.cli.ordering import me, order
from drkit.cli.settings import Settings
from drkit.errors import Exit, UsageError

if TYPE_CHECKING:
    from drkit.cli.launch import Waiting
    from drkit.model.environment import Environment
    from drkit.model.faults import Marker, Markers

#: So often it is looked for what is left and healed.
ROUNDS = 3

RollbackOption = Annotated[
    str | None, typer.Option("--rollback-strategy", help="always (default), default, deviated or never.")
]
HypothesisOption = Annotated[str | None, typer.Option("--hypothesis-strategy", help="When steady state is checked.")]
FrequencyOption = Annotated[float, typer.Option("--hypothesis-frequency", help="Seconds between checks in the method.")]
FailFastOption = Annotated[bool, typer.Option("--fail-fast", help="End when a check in the method is not met.")]
VarOption = Annotated[list[str] | None, typer.Option("--var", metavar="NAME[:TYPE]=VALUE", help="Configuration value.")]
VarFileOption = Annotated[list[Path] | None, typer.Option("--var-file", help="Configuration and secrets; or a .env.")]
JournalOption = Annotated[Path | None, typer.Option("--journal-path", help="A copy of the journal, in their shape.")]
DeadlineOption = Annotated[
    str | None, typer.Option("--deadline", metavar="DUR", help="Limit of an activity that has none (1h).")
]

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
    rollback_strategy: RollbackOption = None,
    hypothesis_strategy: HypothesisOption = None,
    frequency: FrequencyOption = 1.0,
    fail_fast: FailFastOption = False,
    var: VarOption = None,
    var_file: VarFileOption = None,
    journal_path: JournalOption = None,
    deadline: DeadlineOption = None,
) -> None:
    """Inject a scenario's faults, without a runbook; or run a Chaos Toolkit experiment (`drkit help experiments`).

    `drkit chaos stop --all` heals what it leaves.
    """
    wishes = toolkit.Wishes(
        rollback_strategy, hypothesis_strategy, frequency, fail_fast, tuple(var or ()), tuple(var_file or ()),
        journal_path, deadline,
    )  # fmt: skip
    if toolkit.is_experiment(scenario):
        ended = toolkit.run(
            ctx.obj, Path(scenario), wishes, confirm=confirm, allow_production=allow_production, dry_run=dry_run,
            detach=detach,
        )  # fmt: skip
        raise typer.Exit(int(ended))
    wishes.refuse()
    wanted = rehearsing.Rehearsal(
        kind="run", scenario=scenario, changes=changes or (), confirm=confirm, allow_production=allow_production,
        dry_run=dry_run,
    )  # fmt: skip
    raise typer.Exit(int(rehearsing.rehearse(ctx.obj, wanted, detach=detach, foreground=foreground)))


@group.command("replay")
def replay(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(help="Run to repeat.")],
    confirm: drill.ConfirmOption = None,
    allow_production: drill.Production = False,
    dry_run: drill.DryRun = False,
    detach: drill.Detach = False,
    foreground: drill.Foreground = False,
) -> None:
    """Break the same targets in the same order at the same offsets. Exit 3, with what differs, if that cannot be."""
    from drkit.chaos.again import Again

    before = repeating.recorded(run)
    again = Again(before)
    wanted = rehearsing.Rehearsal(
        kind=before.kind, scenario=again.scenario, runbook=again.runbook, confirm=confirm,
        allow_production=allow_production, dry_run=dry_run, again=again,
    )  # fmt: skip
    raise typer.Exit(int(rehearsing.rehearse(ctx.obj, wanted, detach=detach, foreground=foreground)))


@group.command("validate")
def validate(
    ctx: typer.Context,
    path: Annotated[Path, typer.Argument(help="An experiment or a scenario.")],
    var: VarOption = None,
    var_file: VarFileOption = None,
) -> None:
    """Check an experiment or a scenario: every mistake at once. Nothing that it names is run or imported."""
    wishes = toolkit.Wishes(var=tuple(var or ()), var_file=tuple(var_file or ()))
    if toolkit.is_experiment(str(path)):
        toolkit.validate(ctx.obj, path, wishes)
        return
    wishes.refuse()
    author.validate(ctx, [path])


@group.command("import")
def import_(
    ctx: typer.Context,
    path: Annotated[Path, typer.Argument(help="A Chaos Toolkit experiment.")],
    on: Annotated[str, typer.Option("--on", metavar="ROLE", help="Role of the hosts that are to be hit.")],
    out: Annotated[Path | None, typer.Option(help="Write it here instead of printing it.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 2 if anything is not carried over.")] = False,
) -> None:
    """Convert an experiment to a scenario, and list what is not carried over."""
    toolkit.convert(ctx.obj, path, on, out, strict=strict)


@group.command("lever")
def lever(
    ctx: typer.Context,
    move: Annotated[str, typer.Argument(metavar="engage|release|status", help="What to do with it.")],
    reason: Annotated[str | None, typer.Option("--reason", help="Why; goes with it.")] = None,
) -> None:
    """The safety lever: while it is engaged, all faults are healed and none is injected, from whatever machine."""
    from drkit.chaos.lever import Lever, read
    from drkit.chaos.lever import move as moved
    from drkit.model.values import utc
    from drkit.providers.objects import open_objects

    settings: Settings = ctx.obj
    environment = environments.load(settings)
    objects = open_objects(environment)
    if move not in ("engage", "release", "status"):
        raise UsageError(f'"{move}" is neither engage, release nor status', hint="drkit chaos lever status")
    if move == "status":
        now = read(objects, environment.name)
    elif not reason:
        raise UsageError("say why: --reason", hint=f"drkit chaos lever {move} --reason ...")
    else:
        by = str(me(environment).get("name"))
        now = moved(objects, environment.name, Lever(move == "engage", by, utc(time.time()), reason))
    told = {"schema": "drkit.lever/1", "engaged": now is not None and now.engaged, "lever": str(now) if now else None}
    settings.say.result(told, lambda: settings.say.line(f"The lever of {environment.name}: {now or 'never moved'}."))
    if move == "engage":
        settings.say.next(f"drkit chaos leftovers --env {environment.name}")


@group.command("leftovers")
def leftovers(ctx: typer.Context) -> None:
    """Faults that are not healed, as their targets say; nothing else is asked. Exit 1 if there are any.

    A target that does not answer may hold some: it is named, and counts.
    """
    from drkit.model.faults import joined

    settings: Settings = ctx.obj
    found = undoing.leftovers()
    environment = _environment(settings, needed=not found.markers)
    if environment is not None:
        found = joined([look(environment), found])
    settings.say.result(
        {"schema": "drkit.leftovers/1", **found.model_dump(mode="json", exclude={"answered_by"})},
        lambda: settings.say.table(
            ("fault", "at", "state", "heals itself", "run", "step"),
            [(m.fault, m.where, m.state, _within(m), m.run or "", m.step or "") for m in found.markers],
        ),
    )
    for overdue in found.markers:
        if overdue.why is not None:
            settings.say.warn(f"{overdue.fault} at {overdue.where}: {overdue.why}")
    for silent in found.silent:
        settings.say.warn(f"Unknown what is left there: {silent}")
    where = f" --env {environment.name}" if environment is not None else ""
    if found.markers:
        settings.say.next(f"drkit chaos stop --all{where}")
    elif not found.silent and environment is not None:
        settings.say.note(f"Nothing is left broken in {environment.name}.")
    if found.markers or found.silent:
        raise typer.Exit(int(Exit.FAILED))


@group.command("stop")
def stop(
    ctx: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="Every fault of every run.")] = False,
    run: Annotated[str | None, typer.Option("--run", help="Only the faults of this run.")] = None,
) -> None:
    """Heal what was broken: ends drills that go on here, and heals every fault that a target remembers.

    Experiments of this machine are rolled back.
    """
    settings: Settings = ctx.obj
    if everything == (run is not None):
        raise UsageError("say which: --all, or --run RUN", hint="drkit chaos stop --all")
    stopped = undoing.stop(settings, run)
    environment = _environment(settings, needed=not stopped.found)
    code = Exit.DONE if environment is None else _heal_all(settings, environment, run)
    stopped.check()
    raise typer.Exit(int(code))


def _heal_all(settings: Settings, environment: Environment, run: str | None) -> Exit:
    """End the environment's drills, and heal what its targets remember."""
    from drkit.cli import launch

    for going in drills(environment):
        if run in (None, going):
            settings.say.note(f"Ending {going}, which goes on")
            order(seen.find(going), "abort", reason="drkit chaos stop")
    code = Exit.DONE
    for _ in range(ROUNDS):  # what a drill was just injecting when it was ended is seen in the next one
        found = look(environment)
        markers = [marker for marker in found.markers if run in (None, marker.run)]
        if not markers:
            break
        code = launch.follow(settings, heal(environment, markers), detach=False)
    for silent in found.silent:
        settings.say.warn(f"Unknown what is left there: {silent}")
    if not markers:
        settings.say.note(f"Nothing is left broken in {environment.name}, as far as it answers.")
    return Exit.FAILED if (markers or found.silent) and code is Exit.DONE else code


def _environment(settings: Settings, *, needed: bool) -> Environment | None:
    """The environment; None if none was named and none is needed, because experiments need none."""
    try:
        return environments.load(settings)
    except UsageError:
        if needed or settings.env is not None:
            raise
        return None


def look(environment: Environment) -> Markers:
    """What every target of the environment remembers."""
    import anyio

    from drkit.catalog import Catalog
    from drkit.chaos.leftovers import leftovers

    regions = environment.regions or (environment.name,)

    async def asked() -> Markers:
        async with compose.reach(environment, regions[0], regions[-1], mode="ungraceful") as ctx:
            return await leftovers(ctx, Catalog())

    return anyio.run(asked)


def heal(environment: Environment, markers: list[Marker]) -> Waiting:
    """Begin a run that heals these faults. It has a lease of its own: whoever broke things may still hold the other."""
    from drkit.catalog import Catalog
    from drkit.chaos.leftovers import healing
    from drkit.cli import launch
    from drkit.engine.runs import Request

    with launch.waiting(foreground=False) as waiting:
        request = Request(
            run=waiting.folder.id, kind="heal", plan=healing(environment, markers, Catalog()), environment=environment,
            by=me(environment), wall=time.time(), drill=True, project=str(Path.cwd()),
        )  # fmt: skip
        waiting.begin(request)
    return waiting


def drills(environment: Environment) -> list[str]:
    """Runs of this machine that break things in the environment on purpose, and are being carried out now."""
    from drkit.engine.runs import all_runs

    found = []
    for folder in all_runs():
        if not folder.journal.exists():
            continue
        request = folder.request()
        if request.environment.name == environment.name and request.drill and request.kind != "heal":
            look = seen.read(folder)
            if look.run is not None and look.alive and look.state.outcome is None:
                found.append(folder.id)
    return found


def _within(marker: Marker) -> str:
    from drkit.model.values import show_duration

    if marker.expires_in_s is None:
        return "no: its lease is gone"
    return f"in {show_duration(max(marker.expires_in_s, 0))}"
