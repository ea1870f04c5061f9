"""`drkit resume`: continue a run after a pause, a crash, a lost terminal or a lost machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from drkit.cli import seen as seeing
from drkit.cli import toolkit
from drkit.cli.settings import Settings
from drkit.errors import JournalError, Refused, UsageError

if TYPE_CHECKING:
    from drkit.cli.seen import Seen
    from drkit.engine.orders import Queued
    from drkit.engine.runs import RunFolder, Start

PANEL = "Recover"
Wanted = list[tuple[str, str | None, str | None, dict[str, Any]]]


def register(app: typer.Typer) -> None:
    """Put `resume` on `app`."""
    app.command("resume", rich_help_panel=PANEL)(resume)


def resume(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(help="Run id, or `last`.")] = "last",
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try every failed step again.")] = False,
    begin: Annotated[
        str | None, typer.Option("--from", metavar="STEP", help="Leave out what stands before it.")
    ] = None,
    skip: Annotated[list[str] | None, typer.Option("--skip", metavar="STEP", help="Leave it out.")] = None,
    reason: Annotated[str | None, typer.Option("--reason", help="Why; needed with --from and --skip.")] = None,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Take the lock from a holder that no longer renews it.")
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Return as soon as it goes on.")] = False,
    foreground: Annotated[bool, typer.Option("--foreground", help="In this process (CI, systemd).")] = False,
) -> None:
    """Continue a run where it stands: after a pause, a crash, a lost machine. No completed step runs again.

    With --state URL the run is read back from the state store, on a machine that has never seen it.
    """
    from drkit.cli import launch
    from drkit.cli.ordering import me

    settings: Settings = ctx.obj
    folder = _folder(settings, run)
    look = seeing.read(folder)
    _check(look, begin, skip or [], reason)
    wanted = _wanted(look, retry_failed, begin, skip or [], reason)
    if look.alive:
        _tell(settings, look, wanted)
        if detach:
            raise typer.Exit(0)
        raise typer.Exit(int(launch.watch(settings, look)))
    settings.say.note(f"Nobody carries {folder.id} out: starting a runner for it.")
    request = folder.request()
    by = me(request.environment)
    start = _start(settings, look, by, wanted, take_over=take_over, from_copy=settings.state is not None)
    waiting = launch.Waiting(folder, None if foreground else launch.spawn(folder))
    waiting.begin(request, start)
    if foreground:
        raise typer.Exit(int(launch.in_process(settings, folder)))
    if look.state.outcome is not None:  # killed while it wrote the report: no further event will come
        look.starting = lambda: waiting.spawned is not None and not waiting.spawned.gone()
        raise typer.Exit(int(launch.watch(settings, look)))
    raise typer.Exit(int(launch.follow(settings, waiting, detach=detach, after=look.state.seq)))


def _folder(settings: Settings, run: str) -> RunFolder:
    """The run's folder; with --state read back from the state store."""
    if settings.state is None:
        return seeing.find(run)
    from drkit.cli.environment import store_at
    from drkit.engine.copy import restore_folder

    if run == "last":
        raise UsageError("--state needs the id of the run", hint=f"drkit resume RUN --state {settings.state}")
    settings.say.note(f"Reading {run} back from {settings.state}")
    return restore_folder(store_at(settings, settings.state), run)


def _check(look: Seen, begin: str | None, skip: list[str], reason: str | None) -> None:

    if look.run is None:
        raise JournalError(
            f"run {look.folder.id} never began: there is nothing to resume", state="Nothing was changed.",
            hint=f"cat {look.folder.log}",
        )  # fmt: skip
    if toolkit.is_run(look.folder):
        raise Refused(
            f"run {look.folder.id} is an experiment: it is rolled back, never continued",
            hint=f"drkit chaos stop --run {look.folder.id}", state="The run stays as it is.",
        )  # fmt: skip
    if look.state.outcome is not None and look.folder.ended() is not None:
        raise Refused(
            f"run {look.folder.id} has ended ({look.state.outcome}): there is nothing to resume",
            hint=f"drkit report {look.folder.id}", state="The run stays as it ended.",
        )  # fmt: skip
    for name in filter(None, [begin, *skip]):
        look.check_step(name)
        if not reason:
            raise UsageError("--from and --skip need a reason", hint='add --reason "..."', code="E0219")


def _wanted(look: Seen, retry_failed: bool, begin: str | None, skip: list[str], reason: str | None) -> Wanted:
    """The orders that this resume amounts to, in the order in which they are given."""
    from drkit.engine.refusals import why_not
    from drkit.model.events import Ordered

    wanted: Wanted = [("skip", name, reason, {}) for name in skip]
    if begin is not None:
        wanted.append(("from", begin, reason, {}))
    if look.state.paused is not None or look.state.until is not None or retry_failed:
        wanted.append(("resume", None, reason, {"retry_failed": True} if retry_failed else {}))
    for verb, step, why, args in wanted:
        refused = why_not(Ordered(verb=verb, by={}, step=step, reason=why, args=args), look.state)
        if refused is not None:
            raise Refused(refused, hint=f"drkit status {look.folder.id}", state="The run stays as it was.")
    return wanted


def _tell(settings: Settings, look: Seen, wanted: Wanted) -> None:
    """A runner is there: give it the orders."""
    from drkit.cli.ordering import send, typist
    from drkit.model.events import Ordered

    if not wanted:
        settings.say.note(f"{look.folder.id} is being carried out: {look.state.phase}.")
    for verb, step, reason, args in wanted:
        reply = send(look.folder, Ordered(verb=verb, by=typist(look.folder), step=step, reason=reason, args=args))
        if reply.answer == "refused":
            raise Refused(f"{verb}: {reply.why}", hint=f"drkit status {look.folder.id}", state="The run goes on.")
        settings.say.note(f"{verb}{' ' + step if step else ''}: {reply.answer} {reply.why}".rstrip())


def _start(
    settings: Settings, look: Seen, by: dict[str, Any], wanted: Wanted, *, take_over: bool, from_copy: bool
) -> Start:
    from drkit.cli.ordering import orders
    from drkit.engine.runs import Start

    kept = _queued(settings, look)
    told = orders(by, wanted)
    return Start(by=by, take_over=take_over, from_copy=from_copy, orders=(*kept, *told))


def _queued(settings: Settings, look: Seen) -> list[dict[str, Any]]:
    """Orders given while nobody listened: shown, and asked again; what only stops things counts anyway."""
    from drkit.cli.asking import ask
    from drkit.engine.orders import STOPPING, queue
    from drkit.model.events import Ordered

    taken: list[dict[str, Any]] = []
    for queued in queue(look.folder, look.folder.request().environment.people):
        if isinstance(queued.order, Ordered) and queued.order.verb in STOPPING:
            continue  # the runner takes it by itself
        told = _told(queued)
        if not settings.can_ask:
            settings.say.warn(f"Not applied, since nobody is here to ask: {told}")
            continue
        if ask(f"{told}\nDo it now? Type yes, anything else drops it: ") == "yes":
            taken.append(queued.order.to_json())
        queued.forget()
    return taken


def _told(queued: Queued) -> str:
    data = queued.order.to_json()
    what = data.get("verb") or data.get("answer") or "note"
    who = queued.order.by.get("name")
    return f"ordered while nobody listened, at {queued.at} by {who}: {what} {data.get('step') or ''}".rstrip()
