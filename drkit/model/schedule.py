"""When something is rehearsed: calendars and schedules as files say them, and how their words are read. Pure.

- A *window* is `sun-thu 22:00-04:00`: days, then from and to. The days are those on which it opens. A range of days may
  begin on any day, so a week may start on Sunday. A window whose end is not after its start ends on the next day.
- *Dates* are `2026-12-24`, `2026-12-24..2027-01-02`, or every year `12-25`, `12-24..01-02`; words behind them say why.
- A cron expression has five fields, and is read as Debian's cron reads it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from annotated_types import Ge
from pydantic import AfterValidator, BeforeValidator, Field

from drkit.model.environment import Frozen
from drkit.model.runbook import Name, Spec
from drkit.model.values import Duration

if TYPE_CHECKING:
    from cronsim import CronSim

DAY_NAMES = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES = 24 * 60
_CLOCK = r"(\d{1,2}):(\d\d)"
_DAYS = r"[a-z]{3}(?:-[a-z]{3})?(?:,[a-z]{3}(?:-[a-z]{3})?)*"
_WINDOW = re.compile(rf"(?:({_DAYS}) )?{_CLOCK}-{_CLOCK}")
_DATE = r"(?:\d{4}-)?\d\d-\d\d"
_DATES = re.compile(rf"({_DATE})(?:\.\.({_DATE}))?(?: (\S.*))?")
_LEAP_YEAR = 2000
"""Any will do: dates without a year are checked in it, so that 02-29 is one."""


@dataclass(frozen=True, slots=True)
class Window:
    """Hours of the days of a week, by the clock on the wall. `days`: 0 is Monday; minutes count from midnight."""

    text: str
    days: frozenset[int]
    start: int
    end: int
    """At most `start`: it ends on the next day. 1440: at midnight."""

    def opened(self, wall: datetime) -> date | None:
        """The date on which the window opened that this wall-clock time is inside of; None if it is outside."""
        today, minute = wall.date(), wall.hour * 60 + wall.minute
        over_midnight = self.end <= self.start
        if today.weekday() in self.days and minute >= self.start and (over_midnight or minute < self.end):
            return today
        if over_midnight and (today.weekday() - 1) % 7 in self.days and minute < self.end:
            return date.fromordinal(today.toordinal() - 1)
        return None


@dataclass(frozen=True, slots=True)
class Dates:
    """One date or a range of dates, both ends included; `yearly`: of every year (the years in it mean nothing)."""

    text: str
    first: date
    last: date
    yearly: bool
    why: str | None = None

    def __contains__(self, day: date) -> bool:
        if not self.yearly:
            return self.first <= day <= self.last
        first, last, found = ((each.month, each.day) for each in (self.first, self.last, day))
        return first <= found <= last if first <= last else found >= first or found <= last


@lru_cache(maxsize=512)
def window(text: str) -> Window:
    """The window that this text says. ValueError says what is wrong with it."""
    found = _WINDOW.fullmatch(text)
    if found is None:
        raise ValueError(f'"{text}" is not a window; write sun-thu 22:00-04:00')
    start, end = (_minute(text, int(found[n]), int(found[n + 1])) for n in (2, 4))
    if start == DAY_MINUTES:
        raise ValueError(f'"{text}" starts at 24:00; write 00:00 of the next day')
    if start == end:
        raise ValueError(f'"{text}" is empty; write 00:00-24:00 for the whole day')
    days = range(7) if found[1] is None else (day for part in found[1].split(",") for day in _weekdays(text, part))
    return Window(text, frozenset(days), start, end)


@lru_cache(maxsize=512)
def dates(text: str) -> Dates:
    """The dates that this text says. ValueError says what is wrong with it."""
    found = _DATES.fullmatch(text)
    if found is None:
        raise ValueError(f'"{text}" is not a date; write 2026-12-25, 2026-12-24..2027-01-02 or, for every year, 12-25')
    ends = [each for each in (found[1], found[2]) if each is not None]
    yearly = len(ends[0]) == len("12-25")
    if any((len(each) == len("12-25")) is not yearly for each in ends):
        raise ValueError(f'"{text}" has a year at one end only; write it at both or at none')
    try:
        first, last = (date.fromisoformat(f"{_LEAP_YEAR}-{each}" if yearly else each) for each in (ends[0], ends[-1]))
    except ValueError:
        raise ValueError(f'"{text}" is no date of the calendar') from None
    if last < first and not yearly:
        raise ValueError(f'"{text}" ends before it begins')
    return Dates(text, first, last, yearly, found[3])


@lru_cache(maxsize=512)
def cron(text: str) -> CronSim:
    """The fields of a cron expression, as sets; only to be read. ValueError says what is wrong with it."""
    from cronsim import CronSim, CronSimError

    if len(text.split()) != 5:
        raise ValueError(f'"{text}" is not a cron expression; write five fields: minute hour day month weekday')
    try:
        return CronSim(text, datetime(2000, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        reason = str(error)[:1].lower() + str(error)[1:]
        advice = "write days of the week as 0-6 from Sunday, 5-7 for Friday to Sunday" if "week" in reason else None
        message = f'"{text}" is not a cron expression: {reason}'
        raise ValueError(f"{message}; {advice}" if advice else message) from None


@lru_cache(maxsize=64)
def zone(name: str) -> ZoneInfo:
    """The time zone of this name. ValueError if the tz database has none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # a folder of the database is an OSError
        near = get_close_matches(name, sorted(available_timezones()), n=1, cutoff=0.6)
        advice = f"did you mean {near[0]}?" if near else "write Europe/Berlin, America/Los_Angeles or UTC"
        raise ValueError(f'"{name}" is not in the tz database; {advice}') from None


def _minute(text: str, hours: int, minutes: int) -> int:
    if minutes > 59 or hours > 24 or (hours == 24 and minutes):
        raise ValueError(f'"{text}": there is no {hours:02}:{minutes:02}; a day goes from 00:00 to 24:00')
    return hours * 60 + minutes


def _weekdays(text: str, part: str) -> list[int]:
    """The days of `fri` or of `fri-mon`, counted on over the end of the week."""
    names = part.split("-")
    unknown = next((name for name in names if name not in DAY_NAMES), None)
    if unknown is not None:
        raise ValueError(f'"{text}": {unknown} is not a day; write {", ".join(DAY_NAMES)}')
    first, last = DAY_NAMES.index(names[0]), DAY_NAMES.index(names[-1])
    return [(first + n) % 7 for n in range((last - first) % 7 + 1)]


def _checked_window(text: str) -> str:
    return window(text).text


def _checked_dates(text: str) -> str:
    return dates(text).text


def _checked_cron(text: str) -> str:
    cron(text)
    return text


def _checked_zone(name: str) -> str:
    zone(name)
    return name


def _written_out(value: object) -> object:
    """TOML knows dates of its own."""
    return value.isoformat() if type(value) is date else value


def _not_empty(windows: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if windows == ():
        raise ValueError("windows is empty, so nothing would ever run; leave it out for any hour")
    return windows


CronText = Annotated[str, AfterValidator(_checked_cron), Field(json_schema_extra={"examples": ["0 3 * * 1-5"]})]
ZoneName = Annotated[
    str, AfterValidator(_checked_zone), Field(json_schema_extra={"examples": ["Europe/Berlin", "UTC"]})
]
WindowText = Annotated[
    str,
    AfterValidator(_checked_window),
    Field(json_schema_extra={"pattern": f"^{_WINDOW.pattern}$", "examples": ["sun-thu 22:00-04:00"]}),
]
DatesText = Annotated[
    str,
    BeforeValidator(_written_out),
    AfterValidator(_checked_dates),
    Field(json_schema_extra={"pattern": f"^{_DATES.pattern}$", "examples": ["12-25 Christmas", "2026-12-24"]}),
]
SkipWhen = Literal["open_incident", "change_freeze"]


class Calendar(Frozen):
    """When something may be broken, for many scenarios: `[calendars.NAME]` in `drkit.toml`."""

    timezone: ZoneName = "UTC"
    """Whose wall clock windows and dates are read by."""
    windows: Annotated[tuple[WindowText, ...] | None, AfterValidator(_not_empty)] = None
    """Something may start inside any of these; left out: at any hour."""
    holidays: tuple[DatesText, ...] = ()
    """On these dates nothing starts, and no window opens."""
    blackout: tuple[DatesText, ...] = ()
    """On these dates nothing starts."""
    freeze: tuple[DatesText, ...] = ()
    """On these dates changes are frozen: scenarios that skip a change freeze do not start."""
    min_gap: Duration | None = None
    """At least this long from the start of one scenario of this calendar to the start of the next."""
    opt_in: tuple[str, ...] = ()
    """Only scenarios, and targets, that carry one of these tags; empty: all. A host's are its roles and its site."""
    opt_out: tuple[str, ...] = ()
    """No scenario or target that carries one of these tags."""
    seed: str = ""
    """What random choices are drawn with: the same seed, the same choices."""


class Choose(Spec):
    """What is drawn by the calendar's seed, anew for each occurrence."""

    group: Name | None = None
    """Of the scenarios of this group that are due at one moment only one starts."""
    parameters: dict[str, list[str] | Literal["hosts", "regions"]] = Field(default_factory=dict)
    """Parameters whose value is drawn, from a list or from what the environment has."""


class Schedule(Spec):
    """When a scenario is rehearsed."""

    cron: CronText
    timezone: ZoneName | None = None
    """Whose wall clock `cron` and `window` are read by; left out: the calendar's, else UTC."""
    calendar: Name | None = None
    """Name under `[calendars]` in drkit.toml."""
    window: WindowText | None = None
    """It may start inside this only, on top of what the calendar says."""
    min_gap: Duration | None = None
    """At least this long from one start of this scenario to the next."""
    start_within: Annotated[Duration, Ge(30)] = 300.0
    """How late it may still start; after that, `catch_up` decides."""
    catch_up: Literal["skip", "once"] = "skip"
    """What becomes of occurrences that nobody was there to start: nothing, or one run for all of them."""
    skip_when: list[SkipWhen] = ["open_incident", "change_freeze"]
    """It does not start while one of these is the case. While a real run is open nothing ever starts."""
    tags: list[str] = Field(default_factory=list)
    """What calendars opt this scenario in or out by."""
    choose: Choose | None = None
