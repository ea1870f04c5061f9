"""`drkit schedule`: start what is due, say when and why, hand it to others, and hold it back."""

from __future__ import annotations

import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from drkit.cli import drill, rehearsing, scheduling
from drkit.cli.settings import Settings
from drkit.errors import Exit, UsageError

if TYPE_CHECKING:
    from drkit.chaos.calendar import Facts, Timetable, Verdict
    from drkit.chaos.ledger import Decision, Record
    from drkit.model.schedule import SkipWhen

group = typer.Typer(no_args_is_help=True, help="Rehearse by the calendar.")

Names = Annotated[list[str] | None, typer.Argument(metavar="[SCENARIO]...", help="Only these; left out: all.")]
Incident = Annotated[bool, typer.Option("--incident", help="An open incident, instead of a change freeze.")]

#: Occurrences that `next` looks at before it says that there is none, and how far ahead.
LOOKED_AT_MAX = 20_000
AHEAD_S = 10 * 366 * 86400.0


def register(app: typer.Typer) -> None:
    """Put `schedule` on `app`."""
    app.add_typer(group, name="schedule", rich_help_panel="Rehearse")


@group.command("run")
def run(
    ctx: typer.Context,
    names: Names = None,
    once: Annotated[bool, typer.Option("--once", help="Carry out what is due now, and end (CronJob, CI).")] = False,
    confirm: drill.ConfirmOption = None,
    allow_production: drill.Production = False,
) -> None:
    """Start scenarios when they are due, until SIGTERM (exit 143). One scheduler an environment.

    Every occurrence is started once or not at all, however often this process is killed. See `drkit help schedule`.
    """
    from drkit.chaos.holding import Holding
    from drkit.chaos.scheduler import Scheduler

    settings: Settings = ctx.obj
    scene = scheduling.scene(settings, names)
    name = scene.environment.name
    what = f"{', '.join(scene.scheduled)} will break things in {name.upper()}, on purpose, whenever they are due."
    confirmed = rehearsing.permitted(settings, scene.environment, what, confirm, allow_production)
    starter = scheduling.Starter(scene, confirmed, allow_production, foreground=once)
    failed = False

    def tell(table: Timetable, decision: Decision) -> None:
        nonlocal failed
        failed = failed or decision.outcome == "failed"
        settings.say.result(
            scheduling.as_json(table.name, decision), lambda: settings.say.line(_told(table.name, decision))
        )

    with Holding(scene.objects, name) as holding:
        scheduler = Scheduler(scene.ledger, starter, scene.look, holding.check, tell)
        if once:
            code = scheduling.once(scene, scheduler, starter)
            raise typer.Exit(int(Exit.FAILED if failed and code is Exit.DONE else code))
        settings.say.note(f"Scheduling {', '.join(scene.scheduled)} in {name}.  Ctrl-C ends it; runs go on.")
        code = scheduling.forever(scene, scheduler)
    settings.say.note("The scheduler has ended. Runs that it started go on: drkit runs")
    raise typer.Exit(int(code))


@group.command("next")
def next_(
    ctx: typer.Context,
    names: Names = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1000, help="Starts of each scenario.")] = 3,
    explain: Annotated[bool, typer.Option("--explain", help="Also what does not start, and why.")] = False,
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="About this moment, also a past one: 2026-12-01T03:00Z.")
    ] = None,
    exit_status: Annotated[
        bool, typer.Option("--exit-status", help="Exit 0 if something is due and may start now (or at TIME), else 3.")
    ] = False,
) -> None:
    """When scenarios start next; why one does, does not, or did not. Reads only."""
    settings: Settings = ctx.obj
    moment = None if at is None else _moment(at, "--at")
    scene = scheduling.scene(settings, names)
    kept = {table.name: scene.ledger.read(table.name) for table in scene.tables}
    records = {name: found[0] for name, found in kept.items() if found is not None}
    facts = _with_last(scene.look(), records)
    if exit_status:
        due = _due_now(scene.tables, records, facts, time.time() if moment is None else moment)
        settings.say.note("Due, and may start: " + ", ".join(due) if due else "Nothing is due that may start.")
        raise typer.Exit(int(Exit.DONE if due else Exit.REFUSED))
    if moment is not None:
        rows = [_about(table, moment, records.get(table.name), facts, scene.tables) for table in scene.tables]
    else:
        rows = _ahead(scene.tables, facts, count, explain)
    settings.say.result(rows, lambda: _show(settings, rows, why=explain or moment is not None))
    shown = "--explain" if not explain and moment is None else "--at TIME"
    settings.say.next(f"drkit schedule next {shown} --env {scene.environment.name}")


@group.command("render")
def render(
    ctx: typer.Context,
    kind: Annotated[Literal["cronjob", "systemd", "github"], typer.Option("--for", help="Who is to start it.")],
    names: Names = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Write the files there.")] = None,
    image: Annotated[str, typer.Option("--image", help="Container image of a CronJob.")] = "drkit",
    program: Annotated[str | None, typer.Option("--drkit", metavar="PATH", help="The drkit that is started.")] = None,
    allow_production: drill.Production = False,
) -> None:
    """Files with which CronJob, systemd or GitHub Actions start what is due. drkit still decides whether it may."""
    from drkit import __version__
    from drkit.chaos import rendering

    settings: Settings = ctx.obj
    scene = scheduling.scene(settings, names)
    environment = scene.environment
    words = [
        program or (str(Path(sys.executable).with_name("drkit")) if kind == "systemd" else "drkit"),
        "schedule",
        "run",
        "--once",
    ]
    words += ["--no-input", "--env", environment.name]
    if environment.kind != "sandbox":
        words += ["--confirm", environment.name]
    if environment.kind == "production" and allow_production:
        words.append("--allow-production")
    job = rendering.Job(environment.name, tuple(words), str(scene.folder.parent), image, __version__)
    files = rendering.all_files(kind, scene.tables, job, time.time())
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (out / name).write_text(text)
        settings.say.result(sorted(files), lambda: settings.say.line("\n".join(str(out / name) for name in files)))
        return
    begin = "---\n" if kind != "systemd" else ""
    settings.say.result(
        files, lambda: settings.say.line("\n".join(f"{begin}# {name}\n{text}" for name, text in files.items()))
    )


@group.command("freeze")
def freeze(
    ctx: typer.Context,
    reason: Annotated[str, typer.Option("--reason", help="Why; shown wherever something does not start.")],
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="2026-12-01T08:00Z, or 4h.")] = None,
    incident: Incident = False,
) -> None:
    """Declare a change freeze (or an incident): scenarios that skip it do not start until it is over."""
    from drkit.chaos.calendar import Hold
    from drkit.model.values import utc

    settings: Settings = ctx.obj
    end = None if until is None else _moment(until, "--until")
    if end is not None and end <= time.time():
        raise UsageError(f"--until: {until} is over already")
    scene = scheduling.opened(settings)
    hold = Hold(_kind(incident), reason, scheduling.person(scene.environment), end)
    scene.ledger.declare(hold.kind, hold)
    settings.say.line(f"{_said(hold.kind)} in {scene.environment.name} until {utc(end) if end else 'it is taken back'}")
    option = " --incident" if incident else ""
    settings.say.next(f"drkit schedule unfreeze{option} --env {scene.environment.name}")


@group.command("unfreeze")
def unfreeze(ctx: typer.Context, incident: Incident = False) -> None:
    """Take a change freeze (or an incident) back."""
    settings: Settings = ctx.obj
    scene = scheduling.opened(settings)
    scene.ledger.declare(_kind(incident), None)
    settings.say.line(f"No {_said(_kind(incident)).lower()} is declared in {scene.environment.name}")


def _kind(incident: bool) -> SkipWhen:
    return "open_incident" if incident else "change_freeze"


def _said(kind: SkipWhen) -> str:
    return "Open incident" if kind == "open_incident" else "Change freeze"


def _told(scenario: str, decision: Decision) -> str:
    under = f" {decision.run}" if decision.run else ""
    return f"{decision.at}  {scenario}  {decision.outcome}{under}  {'; '.join(decision.why)}"


def _with_last(facts: Facts, records: dict[str, Record]) -> Facts:
    from dataclasses import replace

    from drkit.chaos.ledger import seconds

    return replace(facts, last={n: seconds(r.last_start) for n, r in records.items() if r.last_start})


def _due_now(tables: list[Timetable], records: dict[str, Record], facts: Facts, now: float) -> list[str]:
    """Scenarios with an undecided occurrence that is on time and may start."""
    from drkit.chaos.calendar import occurrences, verdict
    from drkit.chaos.ledger import seconds

    found: list[str] = []
    for table in tables:
        since = now - table.schedule.start_within
        if table.name in records:
            since = max(since, seconds(records[table.name].upto))
        due = list(occurrences(table, since, now))
        if due and verdict(table, due[-1], facts, tables).allowed:
            found.append(table.name)
    return found


def _ahead(tables: list[Timetable], facts: Facts, count: int, explain: bool) -> list[dict[str, Any]]:
    """The next starts of each scenario, in order; with `explain` also every occurrence before the last of them."""
    from drkit.chaos.calendar import foresee

    now = time.time()
    left = {table.name: count for table in tables}
    rows: list[dict[str, Any]] = []
    refused: dict[str, dict[str, Any]] = {}
    for looked_at, found in enumerate(foresee(tables, now, facts, now + AHEAD_S)):
        name = found.table.name
        if looked_at == LOOKED_AT_MAX or not any(left.values()):
            break
        if not left[name]:
            continue
        row = _row(found.table, found.at, found.verdict)
        left[name] -= found.verdict.allowed
        if found.verdict.allowed or (explain and sum(r["scenario"] == name for r in rows) < 10 * count):
            rows.append(row)
        refused.setdefault(name, row)
    never = [name for name, missing in left.items() if missing == count]
    return rows + [refused[name] for name in never if name in refused and refused[name] not in rows]


def _about(table: Timetable, at: float, record: Record | None, facts: Facts, tables: list[Timetable]) -> dict[str, Any]:
    """What was decided about this moment, or would be."""
    from drkit.chaos.calendar import is_due, verdict
    from drkit.chaos.ledger import seconds

    now = time.time()
    decisions = record.decisions if record is not None else ()
    decided = next((each for each in decisions if seconds(each.at) == at), None)
    if decided is None and at <= now and is_due(table, at):
        decided = next((each for each in decisions if seconds(each.at) > at and each.outcome == "missed"), None)
    if decided is not None:
        row = _row(table, at, None) | {"outcome": decided.outcome, "why": list(decided.why), "drawn": decided.drawn}
        return row | {"run": decided.run, "decided": decided.decided}
    row = _row(table, at, verdict(table, at, facts, tables))
    if at > now or not is_due(table, at):
        return row
    return row | {"outcome": "undecided", "why": [_why_undecided(at, record), *row["why"]]}


def _why_undecided(at: float, record: Record | None) -> str:
    from drkit.chaos.ledger import seconds

    if record is None:
        return "no scheduler has ever seen this scenario"
    if at <= seconds(record.since):
        return f"this scenario is scheduled since {record.since}"
    if at > seconds(record.upto):
        return f"no scheduler has decided anything after {record.upto}: none may be running"
    return f"the ledger keeps the last {len(record.decisions)} decisions, and this one is older"


def _row(table: Timetable, at: float, verdict: Verdict | None) -> dict[str, Any]:
    from drkit.model.values import utc

    local = datetime.fromtimestamp(at, table.zone)
    row: dict[str, Any] = {
        "scenario": table.name, "at": utc(at), "local": f"{local:%a %Y-%m-%d %H:%M %Z}", "outcome": None, "why": [],
        "drawn": {}, "run": None, "decided": None,
    }  # fmt: skip
    if verdict is not None:
        outcome = "will start" if verdict.allowed else "will not start"
        row |= {"outcome": outcome, "why": list(verdict.why), "drawn": dict(verdict.drawn)}
    return row


def _show(settings: Settings, rows: list[dict[str, Any]], *, why: bool) -> None:
    """A line for each; reasons below it where they were asked for, or where nothing else is to be said."""
    width = max((len(row["scenario"]) for row in rows), default=0)
    for row in rows:
        drawn = "".join(f"  {name}={value}" for name, value in row["drawn"].items())
        under = f" {row['run']}" if row["run"] else ""
        head = f"{row['at'][:16]}Z  {row['local']}  {row['scenario']:<{width}}"
        settings.say.line(f"{head}  {row['outcome']}{under}{drawn}")
        for said in row["why"] if why or row["outcome"] != "will start" else ():
            settings.say.line(f"    {said}")


def _moment(text: str, flag: str) -> float:
    """Seconds since the epoch of `2026-12-01T03:00Z`, or of `4h` from now. UsageError if it is neither."""
    from drkit.model.values import parse_duration

    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        try:
            return time.time() + parse_duration(text)
        except ValueError:
            raise UsageError(f'{flag}: "{text}" is not a time; write 2026-12-01T03:00Z, or 4h') from None
    if found.tzinfo is None:
        raise UsageError(f'{flag}: "{text}" has no zone', hint=f"{flag} {text}Z")
    return found.timestamp()
