"""`drkit chaos`: break something on purpose, or see to it that nobody does. What was left is found in `healing`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from drkit.cli import author, drill, rehearsing, repeating, toolkit
from drkit.cli import environment as environments
from drkit.cli.settings import Settings
from drkit.errors import UsageError

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
    from drkit.cli.ordering import me
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
