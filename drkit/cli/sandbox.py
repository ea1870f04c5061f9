"""`drkit sandbox up|status|down`: the embedded two-region world."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from drkit.cli.settings import Settings, duration
from drkit.errors import Exit

if TYPE_CHECKING:
    from pathlib import Path

#: How long a runner may take to leave before it is told more firmly.
_LEAVES_WITHIN_S = 4.0

group = typer.Typer(no_args_is_help=True, help="The embedded two-region world.")


def register(app: typer.Typer) -> None:
    """Put `sandbox` on `app`."""
    app.add_typer(group, name="sandbox", rich_help_panel="Rehearse")


@group.command("up")
def up(
    ctx: typer.Context,
    link_delay: Annotated[str, typer.Option(metavar="DUR", help="One-way delay of the replication link.")] = "50ms",
    replication: Annotated[
        Literal["async", "sync"], typer.Option(help="Whether a write waits for the standby.")
    ] = "async",
) -> None:
    """Start two regions, an on-premises site and their users on this machine. Takes some seconds."""
    settings: Settings = ctx.obj
    delay_s = duration(link_delay, "--link-delay")
    folder = where()
    settings.say.note(f"Starting the sandbox in {folder}")
    from drkit.sandbox import world

    began = time.monotonic()
    environment = world.up(
        folder, link_delay_s=delay_s, replication=replication, tell=lambda part: settings.say.note(f"  ready  {part}")
    )
    took_s = time.monotonic() - began
    settings.say.result(
        {"schema": "drkit.sandbox/1", "up": True, "folder": str(folder), "seconds": round(took_s, 3),
         "regions": list(environment.regions), "state_store": environment.state_store},
        lambda: settings.say.line(f"The sandbox is up after {took_s:.1f} s: {', '.join(environment.regions)}"),
    )  # fmt: skip
    settings.say.next(f"drkit plan --region {environment.regions[-1]} --env sandbox", "drkit sandbox status")


@group.command("status")
def status(ctx: typer.Context) -> None:
    """What runs, as the sandbox's own supervisor says. Exit 1 if it is not up."""
    from drkit.sandbox import world

    settings: Settings = ctx.obj
    found = world.status(where())
    settings.say.result({"schema": "drkit.sandbox/1", **found}, lambda: _show(settings, found))
    if not found["up"]:
        settings.say.next("drkit sandbox up")
        raise typer.Exit(int(Exit.FAILED))


@group.command("down")
def down(ctx: typer.Context) -> None:
    """Stop everything the sandbox started, also after a crash, and remove its folder."""
    from drkit.sandbox import world

    settings: Settings = ctx.obj
    folder = where()
    _end_runners(settings, folder.absolute())
    stopped = world.down(folder)
    text = f"The sandbox in {folder} is down; nothing is left." if stopped else f"There was no sandbox in {folder}."
    settings.say.result({"schema": "drkit.sandbox/1", "up": False, "folder": str(folder)}, lambda: None)
    settings.say.note(text)


def _end_runners(settings: Settings, folder: Path) -> None:
    """A run of ours that rests in this sandbox would wait for ever in a world that is gone: its runner leaves."""
    import signal
    from pathlib import Path

    from drkit.engine import runs
    from drkit.sandbox.processes import Process, wait_gone

    for run in runs.all_runs():
        if not runs.alive(run):
            continue
        prober, runner = run.request().environment.prober, run.runner()
        if runner is None or prober is None or not Path(prober.folder).is_relative_to(folder):
            continue
        process = Process(runner.pid, runner.start)
        if run.ended() is not None and not wait_gone([process], within_s=_LEAVES_WITHIN_S):
            continue  # it was on its way out
        settings.say.note(f"Run {run.id} is open in this sandbox: its runner ends.  What it did: drkit status {run.id}")
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):  # pause and leave; leave at once; no choice
            process.send(number)
            if not wait_gone([process], within_s=_LEAVES_WITHIN_S):
                break


def where() -> Path:
    """The sandbox's folder."""
    from drkit.sandbox.layout import default_folder

    return default_folder()


def _show(settings: Settings, found: dict[str, Any]) -> None:
    say = settings.say
    if not found["up"]:
        left = found.get("left", 0)
        say.line(f"The sandbox is not running ({found['folder']})." + (f" {left} processes are left." if left else ""))
        return
    say.line(f"SANDBOX   {found['folder']}" + _outages(found))
    for key in ("parts", "links"):
        items = [item for item in found.get(key, []) if isinstance(item, dict)]
        heads = list(dict.fromkeys(name for item in items for name in item if not isinstance(item[name], dict | list)))
        say.line()
        say.table([key[:-1], *heads[1:]], [[_cell(item.get(head)) for head in heads] for item in items])


def _outages(found: dict[str, Any]) -> str:
    outages = found.get("outages") or []
    return f"   OUTAGE: {', '.join(map(str, outages))}" if outages else ""


def _cell(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return "-" if value is None else "yes" if value else "NO"
    return str(value)
