"""Decide whether a scheduled scenario may start at an instant, and when it will. Pure: all facts are data.

The contract about time, which `tests/property/test_calendar_by_brute_force.py` repeats in the slowest possible way:

- A cron expression names wall-clock minutes of its zone. Each happens once: a minute that clocks jump over (spring)
  happens at the instant of the jump; a minute that they show twice (autumn) happens the first time.
- An instant is inside a window if the wall clock of the window's zone shows a time inside it: both times in autumn,
  and never for what clocks jump over. A window that crosses midnight belongs to the day on which it opened.
- A holiday closes its own date and every window that opened on it; a blackout or freeze date closes itself.
- A minimum gap is real time between starts, whatever clocks show meanwhile.

Instants are seconds since the epoch (UTC).
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from functools import cached_property
from typing import Literal
from zoneinfo import ZoneInfo

from drkit.chaos import choose
from drkit.model import schedule as words
from drkit.model.schedule import DAY_NAMES, Calendar, Dates, Schedule, SkipWhen, Window
from drkit.model.values import show_duration, utc

Rule = Literal[
    "due",
    "window",
    "holiday",
    "blackout",
    "freeze",
    "incident",
    "lever",
    "open_run",
    "drill",
    "min_gap",
    "tags",
    "choice",
]
_DAY = timedelta(days=1)
_ALWAYS = Calendar()


@dataclass(frozen=True)
class Timetable:
    """One scenario's schedule, with the calendar that it names."""

    name: str
    schedule: Schedule
    calendar_name: str | None = None
    calendar: Calendar = _ALWAYS

    @cached_property
    def zone(self) -> ZoneInfo:
        """Whose wall clock its cron expression is read by."""
        return words.zone(self.schedule.timezone or self.calendar.timezone)

    @cached_property
    def minutes(self) -> list[time]:
        """The times of day that its cron expression names."""
        fields = words.cron(self.schedule.cron)
        return [time(hour, minute) for hour in sorted(fields.hours) for minute in sorted(fields.minutes)]


@dataclass(frozen=True, slots=True)
class Hold:
    """Somebody declared a change freeze or an incident. `until`: an instant; None: until it is taken back."""

    kind: SkipWhen
    reason: str
    by: str
    until: float | None = None


@dataclass(frozen=True)
class Facts:
    """What is the case beside what files say."""

    lever: str | None = None
    """Why nothing may be broken now, where the safety lever is engaged."""
    open_run: str | None = None
    """The real run that holds the environment, in words."""
    drill: str | None = None
    """The drill that holds it, in words."""
    holds: tuple[Hold, ...] = ()
    last: Mapping[str, float] = field(default_factory=dict)
    """When each scenario was last started."""
    inventory: choose.Inventory = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reason:
    """What one rule says."""

    rule: Rule
    ok: bool
    said: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What every rule says of one occurrence, and what was drawn for it."""

    reasons: tuple[Reason, ...]
    drawn: Mapping[str, str] = field(default_factory=dict)
    """Parameters and their values."""

    @property
    def allowed(self) -> bool:
        """No rule says no."""
        return all(reason.ok for reason in self.reasons)

    @property
    def why(self) -> tuple[str, ...]:
        """The rules that say no; if none does, what they all say."""
        return tuple(reason.said for reason in self.reasons if self.allowed or not reason.ok)


def occurrences(table: Timetable, after: float, until: float) -> Iterator[float]:
    """The instants after `after`, up to and with `until`, that the cron expression names; ascending, each once."""
    fields, zone = words.cron(table.schedule.cron), table.zone
    wall = datetime.fromtimestamp(after, zone)
    day, first = wall.date(), bisect_right(table.minutes, wall.time())
    end = datetime.fromtimestamp(until, zone).date() + _DAY  # where clocks were set back over midnight
    previous = after
    while day <= end:
        if day.month in fields.months and fields.match_day(day):
            for minute in table.minutes[first:]:
                at = _instant(datetime.combine(day, minute), zone)
                if at > until:
                    return
                if at > previous:
                    previous = at
                    yield at
        day, first = day + _DAY, 0


def is_due(table: Timetable, at: float) -> bool:
    """The cron expression names this instant."""
    return next(occurrences(table, at - 1, at), None) == at


def verdict(
    table: Timetable, at: float, facts: Facts, tables: Iterable[Timetable] = (), *, start: float | None = None
) -> Verdict:
    """Whether the occurrence `at` may start, with what every rule says of it.

    `tables` are all timetables of the environment: groups and gaps of a calendar go over them. `start` is the instant
    at which it would really start, if that is not its own (a caught-up one): windows, dates and gaps are judged by it.
    """
    begins = at if start is None else start
    everybody = {each.name: each for each in tables} | {table.name: table}
    reasons = [_due(table, at), *_windows(table, begins), *_dates(table, begins)]
    reasons += [*_held(table, begins, facts), *_open(facts), *_gaps(table, begins, facts, everybody)]
    reasons += _tags(table)
    chosen, drawn = _choice(table, at, facts, everybody)
    return Verdict((*reasons, *chosen), drawn)


@dataclass(frozen=True, slots=True)
class Foreseen:
    """One occurrence, as it would be decided."""

    at: float
    table: Timetable
    verdict: Verdict


def foresee(tables: Sequence[Timetable], after: float, facts: Facts, until: float) -> Iterator[Foreseen]:
    """Every occurrence in (after, until] in order, as it will be decided if nobody declares or starts anything else.

    What runs now is taken to be over by then; of two that are due in one instant the second finds the first running.
    """
    last = dict(facts.last)
    ahead = replace(facts, open_run=None, drill=None, last=last)
    named = sorted(tables, key=lambda each: each.name)
    streams = [_numbered(n, occurrences(table, after, until)) for n, table in enumerate(named)]
    begun: tuple[float, str] | None = None
    for at, n in heapq.merge(*streams):
        table = named[n]
        same = begun[1] if begun is not None and begun[0] == at else None
        found = verdict(table, at, replace(ahead, drill=same and f"{same} starts in the same instant"), tables)
        if found.allowed:
            last[table.name] = at
            begun = (at, table.name)
        yield Foreseen(at, table, found)


def _numbered(n: int, instants: Iterable[float]) -> Iterator[tuple[float, int]]:
    return ((at, n) for at in instants)


def _instant(wall: datetime, zone: ZoneInfo) -> float:
    """When clocks of this zone show this for the first time; where they jump over it, the instant of the jump."""
    at = wall.replace(tzinfo=zone, fold=0).timestamp()
    if datetime.fromtimestamp(at, zone).replace(tzinfo=None) == wall:
        return at
    # Both readings of a time that is jumped over lie around the jump (PEP 495): halve until it is found.
    low, high = wall.replace(tzinfo=zone, fold=1).timestamp(), at
    before = datetime.fromtimestamp(low, zone).utcoffset()
    while high - low > 1:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high


def _wall(at: float, zone: str) -> datetime:
    return datetime.fromtimestamp(at, words.zone(zone)).replace(tzinfo=None)


def _shown(at: float, zone: str) -> str:
    wall = _wall(at, zone)
    return f"{DAY_NAMES[wall.weekday()]} {wall:%Y-%m-%d %H:%M} {zone}"


def _due(table: Timetable, at: float) -> Reason:
    cron, zone = table.schedule.cron, table.zone.key
    due = is_due(table, at)
    return Reason("due", due, f'cron "{cron}" {"is" if due else "is not"} due at {_shown(at, zone)}')


def _windows(table: Timetable, at: float) -> Iterator[Reason]:
    """The scenario's own window, and those of its calendar."""
    own, calendar = table.schedule.window, table.calendar
    if own is not None:
        yield _inside([words.window(own)], at, table.zone.key, ())
    if calendar.windows is not None:
        windows = [words.window(text) for text in calendar.windows]
        yield _inside(windows, at, calendar.timezone, [words.dates(text) for text in calendar.holidays])


def _inside(windows: Sequence[Window], at: float, zone: str, holidays: Sequence[Dates]) -> Reason:
    wall, shut = _wall(at, zone), None
    for window in windows:
        opened = window.opened(wall)
        holiday = None if opened is None else _among(opened, holidays)
        if opened is not None and holiday is None:
            return Reason("window", True, f"inside {window.text}: it is {_shown(at, zone)}")
        shut = shut or (holiday and f"{window.text} does not open on {opened}, a holiday ({holiday.text})")
    said = " and ".join(window.text for window in windows)
    return Reason("window", False, shut or f"outside {said}: it is {_shown(at, zone)}")


def _among(day: date, known: Iterable[Dates]) -> Dates | None:
    return next((each for each in known if day in each), None)


def _dates(table: Timetable, at: float) -> Iterator[Reason]:
    calendar = table.calendar
    day = _wall(at, calendar.timezone).date()
    lists: tuple[tuple[Rule, str, Sequence[str]], ...] = (
        ("holiday", "a holiday", calendar.holidays),
        ("blackout", "blacked out", calendar.blackout),
        ("freeze", "in a change freeze", calendar.freeze if "change_freeze" in table.schedule.skip_when else ()),
    )
    for rule, what, texts in lists:
        found = _among(day, (words.dates(text) for text in texts))
        if found is not None:
            yield Reason(rule, False, f"{day} is {what} ({found.text})")


def _held(table: Timetable, at: float, facts: Facts) -> Iterator[Reason]:
    for hold in facts.holds:
        if hold.kind in table.schedule.skip_when and (hold.until is None or at < hold.until):
            what: tuple[Rule, str] = (
                ("freeze", "a change freeze") if hold.kind == "change_freeze" else ("incident", "an open incident")
            )
            until = "it is taken back" if hold.until is None else utc(hold.until)
            yield Reason(what[0], False, f"{what[1]} until {until}, declared by {hold.by}: {hold.reason}")


def _open(facts: Facts) -> Iterator[Reason]:
    """Whatever the scenario says: nothing is broken while people recover something, or while something is broken."""
    if facts.lever is not None:
        yield Reason("lever", False, facts.lever)
    if facts.open_run is not None:
        yield Reason("open_run", False, f"a real run is open: {facts.open_run}")
    if facts.drill is not None:
        yield Reason("drill", False, f"another drill is open: {facts.drill}")


def _gaps(table: Timetable, at: float, facts: Facts, tables: Mapping[str, Timetable]) -> Iterator[Reason]:
    """The scenario's own gap, and its calendar's, which is between any two of its scenarios."""
    mates = [name for name, each in tables.items() if each.calendar_name == table.calendar_name]
    for gap_s, names in ((table.schedule.min_gap, [table.name]), (table.calendar.min_gap, sorted(mates))):
        last = max(((facts.last[name], name) for name in names if name in facts.last), default=None)
        if gap_s is not None and last is not None:
            since = at - last[0]
            said = f"{show_duration(max(0.0, since))} since {last[1]} started at {utc(last[0])}"
            yield Reason("min_gap", since >= gap_s, f"{said}, and the least is {show_duration(gap_s)}")


def _tags(table: Timetable) -> Iterator[Reason]:
    refused = choose.why_not(table.schedule.tags, table.calendar.opt_in, table.calendar.opt_out)
    if refused is not None:
        yield Reason("tags", False, refused)


def _choice(
    table: Timetable, at: float, facts: Facts, tables: Mapping[str, Timetable]
) -> tuple[list[Reason], dict[str, str]]:
    wanted, calendar = table.schedule.choose, table.calendar
    if wanted is None:
        return [], {}
    reasons: list[Reason] = []
    if wanted.group is not None:
        members = [name for name, each in tables.items() if _competes(each, table, at)]
        winner = choose.draw(calendar.seed, f"{utc(at)} {wanted.group}", members)
        said = f"{winner} is drawn of {wanted.group} ({', '.join(sorted(members))})"
        reasons.append(Reason("choice", winner == table.name, said))
    drawn = choose.parameters(
        wanted, facts.inventory, seed=calendar.seed, occasion=f"{utc(at)} {table.name}",
        opt_in=calendar.opt_in, opt_out=calendar.opt_out,
    )  # fmt: skip
    for parameter, value in drawn.items():
        said = f"{parameter} is {value}, drawn" if value else f"{parameter} cannot be drawn: no candidate opts in"
        reasons.append(Reason("choice", value is not None, said))
    return reasons, {parameter: value for parameter, value in drawn.items() if value is not None}


def _competes(other: Timetable, table: Timetable, at: float) -> bool:
    """Both are of one group of one calendar, and due at the same moment, and the other one may be taken."""
    mine, theirs = table.schedule.choose, other.schedule.choose
    if mine is None or theirs is None or (mine.group, table.calendar_name) != (theirs.group, other.calendar_name):
        return False
    allowed = choose.why_not(other.schedule.tags, other.calendar.opt_in, other.calendar.opt_out) is None
    return other.name == table.name or (allowed and is_due(other, at))
