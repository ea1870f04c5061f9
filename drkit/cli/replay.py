"""`drkit replay`: what this version's rules make of a run's events, beside what was decided then. Reads only."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drkit.cli import seen as seeing
from drkit.cli.settings import Settings
from drkit.errors import Exit, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from drkit.engine.decisions import Decision, Pair
    from drkit.model.events import Command, Row

SCHEMA = "drkit.replay/1"
#: The longest value of an argument that is shown to people; the JSON has all of it.
SHOWN = 100


def register(app: typer.Typer) -> None:
    """Put `replay` on `app`."""
    app.command("replay", rich_help_panel="Prove")(replay)


def replay(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(help="Run id; left out: the last run.")] = "last",
    differences: Annotated[
        bool, typer.Option("--differences", "-d", help="Only events that are decided otherwise now.")
    ] = False,
) -> None:
    """Decide a run's journal again, event by event, and compare. Exit 4 if a decision comes out otherwise.

    What this version of drkit makes of old runs is seen before it is trusted with the next one. Reads only; the run may
    be over or go on. With --state URL the copy in the state store is read instead of this machine's journal.
    """
    from drkit.engine.decisions import Decision, decide_again

    settings: Settings = ctx.obj
    id, rows = _rows(settings, run)
    count, kept = Count(id), list[Decision]()
    if settings.output == "jsonl":
        _line(settings, {"schema": SCHEMA, "run": id})
    for decision in decide_again(rows):
        count.take(decision)
        if differences and decision.same:
            continue
        if settings.output == "jsonl":
            _line(settings, as_json(decision))
        elif settings.output == "json" or settings.query is not None:
            kept.append(decision)
        else:
            _show(settings, decision)
    if settings.output == "jsonl":
        _line(settings, count.to_json())
    else:
        told = count.to_json() | {"decided": [as_json(decision) for decision in kept]}
        settings.say.result(told, lambda: settings.say.line(count.text()))
    settings.say.next(f"drkit logs {id}" if count.first is None else f"drkit replay {id} --differences -o json")
    if count.first is not None:
        raise typer.Exit(int(Exit.MISSED))


class Count:
    """What a replay comes to."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.written_by: str | None = None
        self.events = self.commands = self.differences = 0
        self.first: Decision | None = None
        self.broke = False

    def take(self, decision: Decision) -> None:
        """One more."""
        self.written_by = self.written_by or getattr(decision.row.fact, "drkit", None)
        self.events += 1
        self.commands += len(decision.then)
        if not decision.same:
            self.differences += 1
            self.first = self.first or decision
        self.broke = self.broke or decision.broke is not None

    def to_json(self) -> dict[str, Any]:
        """The sum, as scripts read it. `complete` is false if the rules could not go on after the last event shown."""
        from drkit import __version__

        return {
            "schema": SCHEMA, "run": self.run, "written_by": self.written_by, "replayed_by": __version__,
            "events": self.events, "commands": self.commands, "differences": self.differences,
            "first_difference": None if self.first is None else as_json(self.first), "complete": not self.broke,
        }  # fmt: skip

    def text(self) -> str:
        """The sum, as people read it."""
        from drkit import __version__
        from drkit.engine.decisions import about

        by = f"written by drkit {self.written_by}, decided again by {__version__}"
        if self.first is None:
            return f"OK    {self.run}: {self.events} events, {self.commands} commands, none comes out otherwise; {by}"
        many = f"{self.differences} of {self.events} events are" if self.differences > 1 else "one event is"
        head = f"FAIL  {self.run}: {many} decided otherwise; {by}\n      first: event {self.first.row.seq}, "
        return head + about(self.first.row.fact) + ("\n      nothing after it can be judged" if self.broke else "")


def as_json(decision: Decision) -> dict[str, Any]:
    """One event with both decisions, as scripts read it. `broke`: why this version cannot decide about it."""
    from drkit.engine.decisions import about

    row = decision.row
    return {
        "seq": row.seq, "at": row.at, "event": about(row.fact), "same": decision.same, "broke": decision.broke,
        "then": [command.to_json() for command in decision.then],
        "now": [command.to_json() for command in decision.now],
    }  # fmt: skip


def lines(decision: Decision) -> list[str]:
    """One event with both decisions, as people read it: a decision that comes out the same is one line."""
    from drkit.engine.decisions import about

    row = decision.row
    told = [f"{row.seq:>5}  {row.at[11:19]}  {about(row.fact)}"]
    if decision.broke is not None:
        return [*told, f"  !!    this version cannot decide about it: {decision.broke}"]
    for pair in decision.pairs():
        told += _pair(pair)
    if not decision.same and all(pair.same for pair in decision.pairs()):
        told.append(f"  !!    in another order now: {', '.join(_name(command) for command in decision.now)}")
    return told


def _pair(pair: Pair) -> list[str]:
    if pair.then is not None and pair.same:
        return [f"        {_said(pair.then)}"]
    told = [f"  !!    {word} {_said(command)}" for word, command in (("then", pair.then), ("now ", pair.now))]
    return told + [f"  !!         {name}: {_short(then)} -> {_short(now)}" for name, then, now in pair.changed()]


def _said(command: Command | None) -> str:
    return "nothing" if command is None else f"{_name(command):<24} {command.why}"


def _name(command: Command) -> str:
    return f"{command.verb} {command.step or ''}".rstrip()


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def _show(settings: Settings, decision: Decision) -> None:
    for line in lines(decision):
        settings.say.line(line, style=None if decision.same else "yellow")


def _line(settings: Settings, value: dict[str, Any]) -> None:
    from drkit.cli.say import queried, write
    from drkit.model.values import canonical

    write(canonical(queried(value, settings.query)).decode())


def _rows(settings: Settings, run: str) -> tuple[str, Iterable[Row]]:
    """The run's id and its journal: this machine's, or with --state its copy. JournalError if it never began."""
    from drkit.engine.journal import Tail, read_rows

    if settings.state is not None:
        from drkit.cli.environment import store_at
        from drkit.engine.copy import restore

        if run == "last":
            raise UsageError("--state needs the id of the run", hint=f"drkit replay RUN --state {settings.state}")
        return run, restore(store_at(settings, settings.state), run)
    folder = seeing.find(run)
    with Tail(folder.journal) as tail:
        if not tail.new(1):
            _ = seeing.Seen(folder).state  # says that the run never began
    return folder.id, read_rows(folder.journal)
