"""`drkit drill run`: a runbook under a scenario, measured. In the sandbox also: bring the world up, and down again."""

from __future__ import annotations

from typing import Annotated

import typer

from drkit.cli import environment as environments
from drkit.cli import rehearsing
from drkit.cli.settings import Settings
from drkit.errors import DrkitError, Exit

group = typer.Typer(no_args_is_help=True, help="Rehearse a recovery, measured.")

ScenarioArgument = Annotated[str, typer.Argument(help="Name or file of a scenario.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A parameter.")]
ConfirmOption = Annotated[
    str | None, typer.Option("--confirm", metavar="ENVIRONMENT", help="Outside the sandbox: instead of typing it.")
]
Production = Annotated[bool, typer.Option("--allow-production", help="Without it production is never broken.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Resolve everything; break nothing.")]
Detach = Annotated[bool, typer.Option("--detach", help="Return as soon as it has begun.")]
Foreground = Annotated[bool, typer.Option("--foreground", help="In this process (CI, systemd).")]


def register(app: typer.Typer) -> None:
    """Put `drill` on `app`."""
    app.add_typer(group, name="drill", rich_help_panel="Rehearse")


@group.command("run")
def run(
    ctx: typer.Context,
    scenario: ScenarioArgument,
    runbook: Annotated[str | None, typer.Option("--runbook", "-r", help="Instead of the one it names.")] = None,
    changes: SetOption = None,
    confirm: ConfirmOption = None,
    allow_production: Production = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave a sandbox that this drill started running.")] = False,
    dry_run: DryRun = False,
    detach: Detach = False,
    foreground: Foreground = False,
) -> None:
    """Break things as a scenario says, let the runbook recover, measure it. Exit 0 if objectives are met, 4 if not."""
    settings: Settings = ctx.obj
    started = _sandbox_up(settings)
    finished = False
    try:
        wanted = rehearsing.Rehearsal(
            kind="drill", scenario=scenario, runbook=runbook, changes=changes or (), confirm=confirm,
            allow_production=allow_production, dry_run=dry_run,
        )  # fmt: skip
        code = rehearsing.rehearse(settings, wanted, detach=detach, foreground=foreground)
        finished = code in (Exit.DONE, Exit.MISSED, Exit.ROLLED_BACK) and not detach
    except DrkitError as error:
        finished = error.exit_code in (Exit.USAGE, Exit.REFUSED, Exit.LOCKED)  # nothing was touched: nothing to look at
        raise
    finally:
        if started and finished and not keep:
            _sandbox_down(settings)
        elif started:
            settings.say.note("The sandbox goes on.  Stop it: drkit sandbox down")
    raise typer.Exit(int(code))


def _sandbox_up(settings: Settings) -> bool:
    """Start the sandbox if it is what was asked for and does not run; whether we did."""
    if settings.env != environments.SANDBOX:
        return False
    from drkit.cli.sandbox import where
    from drkit.sandbox import world

    folder = where()
    if world.status(folder)["up"]:
        return False
    settings.say.note(f"Starting the sandbox in {folder} (about half a minute)")
    world.up(folder, tell=lambda part: settings.say.note(f"  ready  {part}") if settings.verbosity > 0 else None)
    return True


def _sandbox_down(settings: Settings) -> None:
    from drkit.cli.sandbox import where
    from drkit.sandbox import world

    world.down(where())
    settings.say.note("The sandbox that this drill started is down again.")
