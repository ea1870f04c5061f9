"""`drkit chaos leftovers` and `stop`: find what was broken and never healed, and heal it, from any machine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drkit.cli import chaos, compose, seen, toolkit, undoing
from drkit.cli import environment as environments
from drkit.cli.ordering import me, order
from drkit.cli.settings import Settings
from drkit.errors import Exit, JournalError, UsageError

if TYPE_CHECKING:
    from drkit.chaos.ending import Ending
    from drkit.cli.launch import Waiting
    from drkit.model.environment import Environment
    from drkit.model.faults import Marker, Markers

#: So often it is looked for what is left and healed.
ROUNDS = 3


def register(app: typer.Typer) -> None:
    """Put `leftovers` and `stop` below `chaos`."""
    chaos.group.command("leftovers")(leftovers)
    chaos.group.command("stop")(stop)


def leftovers(ctx: typer.Context) -> None:
    """Faults that are not healed, as their targets say; nothing else is asked. Exit 1 if there are any.

    A target that does not answer may hold some: it is named, and counts. Leases that are spent are named, and do not.
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
            [
                (m.fault, m.where, m.state, _within(m), m.run or "", m.step or "")
                for m in (*found.markers, *found.spent)
            ],
        ),
    )
    for overdue in found.markers:
        if overdue.why is not None:
            settings.say.warn(f"{overdue.fault} at {overdue.where}: {overdue.why}")
    for silent in found.silent:
        settings.say.warn(f"Unknown what is left there: {silent}")
    where = f" --env {environment.name}" if environment is not None else ""
    if found.spent:
        settings.say.note(
            "Spent leases have healed their faults and do nothing more; `chaos stop --all` takes them away."
        )
    if not found.markers and not found.silent and environment is not None:
        settings.say.note(f"Nothing is left broken in {environment.name}.")
    if found.markers or found.spent:
        settings.say.next(f"drkit chaos stop --all{where}")
    if found.markers or found.silent:
        raise typer.Exit(int(Exit.FAILED))


def stop(
    ctx: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="Every fault of every run.")] = False,
    run: Annotated[str | None, typer.Option("--run", help="Only the faults of this run.")] = None,
) -> None:
    """Heal what was broken: ends drills, and heals every fault that a target remembers.

    A drill that goes on elsewhere, or whose runner is dead, loses the environment. Leases that have healed their
    faults are taken away. Experiments of this machine are rolled back.
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

    ending = _unattended(settings, environment, run)
    for going in drills(environment):
        if run in (None, going):
            settings.say.note(f"Ending {going}, which goes on")
            order(seen.find(going), "abort", reason="drkit chaos stop")
    code = Exit.DONE
    for _ in range(ROUNDS):  # what a drill was just injecting when it was ended is seen in the next one
        found = look(environment)
        markers = [marker for marker in (*found.markers, *found.spent) if run in (None, marker.run)]
        if markers:
            code = launch.follow(settings, heal(environment, markers), detach=False)
        elif ending is None:
            break
        if ending is not None:
            _free(settings, environment, ending)
            ending = None
    for silent in found.silent:
        settings.say.warn(f"Unknown what is left there: {silent}")
    if not markers:
        settings.say.note(f"Nothing is left broken in {environment.name}, as far as it answers.")
    return Exit.FAILED if (markers or found.silent) and code is Exit.DONE else code


def _unattended(settings: Settings, environment: Environment, run: str | None) -> Ending | None:
    """Begin to end the drill that holds the environment and that nobody on this machine carries out; None if none does.

    Its lease has to be waited for, perhaps; what it broke has not.
    """
    from drkit.chaos.ending import Ending, unattended
    from drkit.providers.objects import open_objects

    objects = open_objects(environment)
    try:
        holder = unattended(objects, environment.name)
        if holder is None or run not in (None, holder.run):
            return None
        ending = Ending(objects, environment.name, holder)
        ending.claim()
    except JournalError as error:
        settings.say.warn(f"What holds {environment.name} cannot be told: {error.message}")
        return None
    settings.say.note(f"Ending {holder.run} by {holder.who}@{holder.host}, which nobody on this machine carries out")
    _never_goes_on(holder.run)
    return ending


def _never_goes_on(run: str) -> None:
    """Whoever resumes it on this machine, ends it. One that is known only elsewhere stays as it is there."""
    from drkit.engine.runs import all_runs

    for folder in all_runs():
        if folder.id == run and not toolkit.is_run(folder) and folder.ended() is None:
            order(folder, "abort", reason="drkit chaos stop")


def _free(settings: Settings, environment: Environment, ending: Ending) -> None:
    try:
        ending.wait()
        settings.say.note(f"{environment.name} is free.")
    except JournalError as error:
        settings.say.warn(f"{environment.name} may still be locked: {error.message}")


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

    if marker.state == "spent":
        return "it has; nothing is broken"
    if marker.expires_in_s is None:
        return "no: its lease is gone"
    return f"in {show_duration(max(marker.expires_in_s, 0))}"
