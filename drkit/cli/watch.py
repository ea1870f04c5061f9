"""Look at runs: `status`, `runs`, `logs`, `events`. Read-only, from the journal on this machine, without a network."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from drkit.cli import seen as seeing
from drkit.cli.settings import Settings
from drkit.errors import Exit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drkit.cli.seen import Seen
    from drkit.model.events import Row

PANEL = "Watch a run"
RunArgument = Annotated[str, typer.Argument(help="Run id; left out: the last run.")]


def register(app: typer.Typer) -> None:
    """Put the watching commands on `app`."""
    for name, command in (("status", status), ("runs", runs), ("logs", logs), ("events", events)):
        app.command(name, rich_help_panel=PANEL)(command)


def status(
    ctx: typer.Context,
    run: RunArgument = "last",
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow it; Ctrl-C only leaves.")] = False,
    manual: Annotated[bool, typer.Option("--manual", help="What is done and what remains, to carry on by hand.")] = (
        False
    ),
    exit_status: Annotated[bool, typer.Option("--exit-status", help="Exit with how the run stands.")] = False,
) -> None:
    """Where a run stands: every step, what it waits for, what to type."""
    settings: Settings = ctx.obj
    look = seeing.read(seeing.find(run))
    if watch:
        from drkit.cli.viewer import Viewer

        code = Viewer(settings, look, owner=False, wait=True).show()
        raise typer.Exit(int(code if exit_status or code is Exit.SIGINT else Exit.DONE))
    if manual:
        _manual(settings, look)
        return
    from drkit.cli import screen

    state, untold = look.state, _untold(look)
    settings.say.result(screen.as_json(state, look.alive) | {"notify": untold}, lambda: _show(settings, look))
    if settings.output == "text":
        if untold is not None:
            settings.say.warn(f"notify: {untold}")
        for text in screen.next_words(state, look.alive):
            settings.say.note(text)
    if exit_status:
        seeing.await_verdict(look)
        raise typer.Exit(int(seeing.exit_code(look)))


def runs(ctx: typer.Context) -> None:
    """Every run of yours on this machine, the newest last."""
    from drkit.engine.runs import all_runs

    settings: Settings = ctx.obj
    found = [_row(folder) for folder in all_runs()]
    heads = ("run", "kind", "runbook", "environment", "source", "target", "stands", "asked_at")
    settings.say.result(
        found, lambda: settings.say.table(heads, [[str(row[head] or "-") for head in heads] for row in found])
    )
    if found:
        settings.say.next(f"drkit status {found[-1]['run']}")
    else:
        settings.say.note("There is no run on this machine yet.")


def logs(
    ctx: typer.Context,
    run: RunArgument = "last",
    step: Annotated[str | None, typer.Argument(help="Only this step and what it stands for.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it happens.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="The runner's own log: tracebacks and warnings.")] = False,
) -> None:
    """What happened, a line an event."""
    from drkit.cli import saying

    settings: Settings = ctx.obj
    folder = seeing.find(run)
    if step is not None:
        _known(seeing.read(folder), step, follow)
    if raw:
        settings.say.line(
            folder.log.read_text(encoding="utf-8", errors="replace").rstrip() if folder.log.exists() else ""
        )
        return
    look = seeing.Seen(folder)
    for row in _rows(look, follow):
        look.take([row])
        about = getattr(row.fact, "step", None) or ""
        if step is None or about == step or about.startswith(f"{step}/"):
            for text in saying.words(row, look.state):
                settings.say.line(text)
    settings.say.note(f"The runner's own log: {folder.log}")


def _known(look: Seen, step: str, following: bool) -> None:
    """UsageError for a step that the run neither has nor, while it is followed, may still get."""
    grows = [id for id, each in look.state.steps.items() if each.plan.join is not None and each.plan.join.over]
    if not (following and look.state.outcome is None and any(step.startswith(f"{id}/") for id in grows)):
        look.check_step(step)


def events(
    ctx: typer.Context,
    run: RunArgument = "last",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it happens.")] = False,
) -> None:
    """The journal itself: a JSON object an event; the first line names the schema."""
    from drkit.cli.say import queried, write
    from drkit.model.events import SCHEMA
    from drkit.model.values import canonical

    settings: Settings = ctx.obj
    look = seeing.Seen(seeing.find(run))
    head = canonical({"schema": SCHEMA, "run": look.folder.id}).decode()
    for row in _rows(look, follow):
        if look.run is None:
            write(head)  # not before the journal was found to be one of this schema
        look.take([row])
        write(canonical(queried(row.to_json(), settings.query)).decode())


def _rows(look: Seen, following: bool) -> Iterator[Row]:
    """The journal from its beginning; following: until the run is over and everything was read."""
    from drkit.engine import journal

    if not look.folder.journal.exists() and not following:
        _ = look.state  # says that the run never began
    if not following:
        yield from journal.read_rows(look.folder.journal)
        return
    for rows in journal.follow(
        look.folder.journal, stop=lambda: not look.alive or (look.run is not None and look.state.outcome is not None)
    ):
        yield from rows


def _show(settings: Settings, look: Seen) -> None:
    from drkit.cli import screen

    state = look.state
    wall = time.time()
    t = screen.t_now(state, wall)
    settings.say.line(screen.header(state, wall))
    settings.say.line(screen.clock(state, t, None))
    settings.say.table(("", "#", "step", "", ""), [line.cells for line in screen.lines(state, t)])


def _untold(look: Seen) -> str | None:
    """What of the run's news has not reached everybody; None: all have everything."""
    from drkit.notify import outbox

    return outbox.undelivered(outbox.read(look.folder.path / outbox.NAME))


def _row(folder: object) -> dict[str, str | None]:
    from drkit.engine.runs import RunFolder
    from drkit.errors import DrkitError
    from drkit.model.values import utc

    assert isinstance(folder, RunFolder)
    request = folder.request()
    row = {
        "run": request.run, "kind": request.kind, "runbook": request.plan.runbook,
        "environment": request.plan.environment, "source": request.plan.source, "target": request.plan.target,
        "asked_at": utc(request.wall),
    }  # fmt: skip
    try:
        look = seeing.read(folder)
        stands: str | None = "never began" if look.run is None else look.state.outcome or look.state.phase
        if look.run is not None and look.state.outcome is None and not look.alive:
            stands = f"{stands}, runner gone"
    except DrkitError as error:  # one unreadable journal does not hide the other runs
        stands = f"unreadable: {error.message.splitlines()[0]}"
    return row | {"stands": stands}


def _manual(settings: Settings, look: Seen) -> None:
    from drkit.catalog import Catalog
    from drkit.plan.manual import manual

    steps = look.state.steps.values()
    filled = {step.id: look.parameters(step) for step in steps}
    text = manual(
        look.state.plan, Catalog(), environment=look.folder.request().environment,
        statuses={step.id: step.status.value for step in steps},
        rendered={id: params for id, params in filled.items() if params is not None},
        steps=[step.plan for step in steps if step.undoes is None],
    )  # fmt: skip
    settings.say.line(text)
