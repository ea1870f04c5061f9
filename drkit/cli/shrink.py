"""`drkit chaos shrink`: which faults of a failed run are enough to make it fail. Each try is a run of its own.

So nothing is held between two tries, and whoever ends this command in the middle of one leaves a run that goes on to
its end and heals. Their requests say of which search they are: the command, typed again, takes over what ended.
"""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from drkit.cli import chaos, drill, healing, rehearsing, repeating, seen
from drkit.cli import environment as environments
from drkit.cli.settings import Settings
from drkit.errors import DrkitError, Exit, Refused

if TYPE_CHECKING:
    from drkit.chaos.shrink import Attempt, Search
    from drkit.cli.seen import Seen
    from drkit.engine.runs import Request
    from drkit.model.environment import Environment

SCHEMA = "drkit.shrink/1"
MARKS = {"fails": "FAIL", "holds": "OK", "unresolved": "?"}


def register(app: typer.Typer) -> None:
    """Put `shrink` below `chaos`."""
    chaos.group.command("shrink")(shrink)


def shrink(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(help="A run that failed.")],
    runs_max: Annotated[int, typer.Option("--max-runs", min=1, help="Try at most so many sets.")] = 50,
    anew: Annotated[bool, typer.Option("--anew", help="Take over no try of a search that was cut off.")] = False,
    confirm: drill.ConfirmOption = None,
    allow_production: drill.Production = False,
    dry_run: drill.DryRun = False,
) -> None:
    """Repeat a failed run with fewer and fewer of its faults: the smallest set that breaks the same expectation.

    Exit 0 when it is found, 4 when --max-runs ended the search: the smallest so far is told. What failed and does not
    fail again is told too (exit 1). Between two runs every target is asked for leftovers; any ends the search.
    A search that was cut off is gone on with: what it tried to the end is not tried again.
    """
    from drkit.chaos.again import Again
    from drkit.chaos.shrink import Search
    from drkit.model.values import utc

    settings: Settings = ctx.obj
    before = repeating.recorded(run)
    environment = environments.load(settings)
    broken, faults = _failed(seen.read(seen.find(run)), before)
    began, known = ("", []) if anew else cut_off(before.run, faults, broken)
    began = began or utc(time.time())

    def begin(some: tuple[str, ...], *, dry_run: bool) -> Seen | None:
        again = Again(before, some, began)
        wanted = rehearsing.Rehearsal(
            kind="run", scenario=again.scenario, confirm=environment.name, allow_production=allow_production,
            dry_run=dry_run, again=again,
        )  # fmt: skip
        waiting = rehearsing.begun(settings, wanted)
        return None if waiting is None else _ended(settings, waiting)

    if dry_run:
        begin(faults, dry_run=True)
        return
    _clean(environment, Refused)
    what = (
        f"Up to {runs_max} runs of {before.plan.scenario} will break things in {environment.name.upper()}, on purpose."
    )
    rehearsing.permitted(settings, environment, what, confirm, allow_production)
    if known:
        tries = f"{len(known)} {'try' if len(known) == 1 else 'tries'}"
        settings.say.note(f"Going on with the search of {began}, of which {tries} ended; --anew tries all again.")

    def attempt(some: tuple[str, ...]) -> Attempt:
        if search.attempts:
            _clean(environment, DrkitError)
        look = begin(some, dry_run=False)
        assert look is not None  # it was not a dry run
        found = judged(look, some, broken)
        line = f"{MARKS[found.outcome]:<5} {found.run}  {len(some)} of {len(faults)}: {', '.join(some)}  {_said(found)}"
        (settings.say.line if settings.output == "text" else settings.say.note)(line.rstrip())
        return found

    search = Search()
    try:
        search.go(faults, attempt, runs_max, known)
        _clean(environment, DrkitError)
    except BaseException as error:
        if search.attempts:
            _show(settings, before, faults, broken, search, stopped=getattr(error, "message", type(error).__name__))
        raise
    _show(settings, before, faults, broken, search, stopped=None)
    if search.smallest is None:
        raise _not_again(before, search.attempts[0])
    raise typer.Exit(int(Exit.DONE if search.minimal else Exit.MISSED))


def judged(look: Seen, faults: tuple[str, ...], broken: tuple[str, ...]) -> Attempt:
    """What a run that has ended says: it breaks at least one of what was `broken`, or nothing, or cannot be told."""
    from drkit.chaos.shrink import Attempt
    from drkit.report.breaking import broken as broken_in

    state, now = look.state, broken_in(look.state, look.rows)
    if set(now) & set(broken):
        return Attempt(faults, state.run, "fails", now)
    if now or state.outcome != "done":
        why = "it broke something else" if now else f"{state.outcome}: {state.why or 'nobody said why'}"
        return Attempt(faults, state.run, "unresolved", now, why)
    return Attempt(faults, state.run, "holds")


def cut_off(run: str, faults: tuple[str, ...], broken: tuple[str, ...]) -> tuple[str, list[Attempt]]:
    """When the last search for this run on this machine began, and what it tried to the end; "" if it is not cut off.

    What cannot be told of is tried again: it was killed, perhaps, or stopped.
    """
    from drkit.chaos.shrink import unfinished
    from drkit.engine.runs import all_runs

    searches: dict[str, list[Attempt]] = {}
    for folder in all_runs():
        options = folder.request().options
        search = options.get("search")
        if not isinstance(search, dict) or search["of"] != run:
            continue
        tried, look = searches.setdefault(str(search["began"]), []), seen.read(folder)
        if look.run is not None and look.state.outcome is not None:
            found = judged(look, tuple(str(each) for each in cast(list[str], options["only"])), broken)
            tried += [found] if found.outcome != "unresolved" else []
    began = max(searches, default="")
    known = searches.get(began, [])
    return (began, known) if unfinished(faults, known) else ("", [])


def _failed(look: Seen, before: Request) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the run broke, and the faults that its journal says were injected. Refused if it cannot be shrunk."""
    from drkit.engine.state import Status
    from drkit.report.breaking import broken as broken_in

    run, state = before.run, look.state
    if state.outcome is None:
        raise Refused(f"run {run} is not over", hint=f"drkit status {run} --watch")
    if before.kind == "drill":
        raise Refused(
            f"run {run} is a drill: its runbook moves the service, and nothing moves it back between two tries",
            hint=f"drkit chaos run {before.plan.scenario}      then shrink that run",
        )
    if not any(step.part == "heal" for step in before.plan.steps):
        raise Refused(
            f"run {run} heals nothing (rollback: never), so that each try would be broken by the one before",
            hint=f"drkit chaos stop --run {run} --env {before.environment.name}",
        )
    broken = broken_in(state, look.rows)
    if not broken:
        raise Refused(
            f"run {run} did not fail: every expectation of {before.plan.scenario} held as far as it was looked at",
            hint=f"drkit report {run}",
        )
    injected = [s.id for s in state.steps.values() if s.plan.part == "inject" and s.status is Status.DONE]
    if not injected:
        raise Refused(f"run {run} failed, and injected nothing before it did", hint=f"drkit logs {run}")
    return broken, tuple(injected)


def _ended(settings: Settings, waiting: Any) -> Seen:
    """The run once it is over. DrkitError if it stands still, and typer's Exit if whoever looks left."""
    from drkit.cli.seen import Seen
    from drkit.cli.viewer import Viewer

    quiet = replace(settings, output="text", plain=True, verbosity=-1)
    look = Seen(waiting.folder, starting=lambda: waiting.spawned is not None and not waiting.spawned.gone())
    code = Viewer(quiet, look, owner=False, wait=settings.can_ask, after=0).show()
    if code is Exit.SIGINT:
        raise typer.Exit(int(code))
    if look.state.outcome is None:
        run = waiting.folder.id
        raise DrkitError(
            f"run {run} stands still: {look.state.phase}", hint=f"drkit status {run}",
            state="What it broke is held until it goes on, or until the lease of each fault is over.",
        )  # fmt: skip
    return look


def _clean(environment: Environment, kind: type[DrkitError]) -> None:
    """Nothing is broken in the environment, as every target says; `kind` is raised otherwise."""
    found = healing.look(environment)
    if found.markers:
        told = ", ".join(f"{marker.fault} at {marker.where}" for marker in found.markers)
        raise kind(
            f"still broken in {environment.name}: {told}", hint=f"drkit chaos stop --all --env {environment.name}",
            state="The faults that are named heal when their leases are over.",
        )  # fmt: skip
    if found.silent:
        raise kind(
            f"unknown what is broken: {'; '.join(found.silent)}",
            hint=f"drkit chaos leftovers --env {environment.name}",
            state="What was broken there heals when its lease is over.",
        )  # fmt: skip


def _not_again(before: Request, first: Attempt) -> DrkitError:
    held = "nothing broke" if first.outcome == "holds" else _said(first)
    return DrkitError(
        f"run {before.run} failed, and with the same faults run {first.run} does not: {held}\n"
        "It fails only now and then, or something else than these faults made it fail.",
        hint=f"drkit chaos replay {before.run} --env {before.environment.name}",
        state="Everything that was broken is healed.",
    )  # fmt: skip


def _said(attempt: Attempt) -> str:
    return "; ".join(filter(None, (attempt.why, ", ".join(attempt.broken))))


def _show(
    settings: Settings, before: Request, faults: tuple[str, ...], broken: tuple[str, ...], search: Search,
    *, stopped: str | None,
) -> None:  # fmt: skip
    """The smallest set, how it is repeated, and in JSON every attempt."""
    smallest = search.smallest
    again = None if smallest is None else f"drkit chaos replay {smallest.run} --env {before.environment.name}"
    told = {
        "schema": SCHEMA, "run": before.run, "scenario": before.plan.scenario, "environment": before.environment.name,
        "broken": broken, "faults": faults, "attempts": [asdict(attempt) for attempt in search.attempts],
        "smallest": None if smallest is None else smallest.faults, "minimal": search.minimal, "stopped": stopped,
        "replay": again,
    }  # fmt: skip

    def text() -> None:
        if smallest is None:
            return
        each = "alone" if len(smallest.faults) == 1 else "with any one of them left out it does not fail"
        why = each if search.minimal else f"perhaps fewer are: the search ended after {len(search.attempts)} runs"
        settings.say.line(
            f"{len(smallest.faults)} of {len(faults)} faults are enough: {', '.join(smallest.faults)}  ({why})"
        )

    settings.say.result(told, text)
    if again is not None:
        settings.say.next(again)
