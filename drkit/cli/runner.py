"""`drkit _runner FOLDER`: the process that carries a run out. Started by other commands, never typed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drkit.errors import DrkitError


def register(app: typer.Typer) -> None:
    """Put `_runner` on `app`, where no help shows it."""
    app.command("_runner", hidden=True)(run)


def run(folder: Annotated[Path, typer.Argument()]) -> None:
    """Load what a run needs, wait for *go*, and carry it out."""
    import sys
    import traceback

    import anyio

    import drkit.notify.delivery  # noqa: F401 - of a run that has somebody to tell
    from drkit.cli import compose
    from drkit.engine import runner
    from drkit.engine.runs import RunFolder
    from drkit.engine.spawning import collect_rarely, wait_for_go

    # Loaded while whoever spawned us is still planning; SDKs follow when they are used.
    runs = RunFolder(folder)
    if not wait_for_go():
        runs.discard()  # nobody confirmed: nothing has begun, and nothing is left
        return
    collect_rarely()
    try:
        code = anyio.run(lambda: runner.carry_out(runs, compose.means(runs.request(), runs)))
    except DrkitError as error:
        traceback.print_exc(file=sys.stderr)  # our stderr is the run's log
        raise typer.Exit(int(error.exit_code)) from error
    raise typer.Exit(int(code))
