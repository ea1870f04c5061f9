"""What the calendar says, beside the slowest possible reading of its contract: minute by minute, as clocks show it.

The reference knows nothing of the code under test but the form of its input. It walks over real minutes, looks what the
clock on the wall shows at each, and applies the words of `drkit.chaos.calendar`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from drkit.chaos.calendar import Facts, Timetable, foresee, is_due, occurrences
from drkit.model.schedule import DAY_NAMES, Calendar, Choose, Schedule

ZONES = ("America/Los_Angeles", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kolkata", "UTC")
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
FULL = (range(60), range(24), range(1, 32), range(1, 13), range(8))


@dataclass(frozen=True)
class Cron:
    """An expression, and by itself what each field is true for. Weekdays: 0 and 7 are Sunday."""

    texts: tuple[str, ...]
    sets: tuple[frozenset[int], ...]

    @property
    def text(self) -> str:
        return " ".join(self.texts)

    def names(self, wall: datetime) -> bool:
        """The words of Debian's crontab(5)."""
        minute, hour, day, month, weekday = self.sets
        if wall.second or wall.minute not in minute or wall.hour not in hour or wall.month not in month:
            return False
        by_month, by_week = wall.day in day, bool({wall.isoweekday(), wall.isoweekday() % 7} & weekday)
        both = self.texts[2].startswith("*") or self.texts[4].startswith("*")
        return (by_month and by_week) if both else (by_month or by_week)


@dataclass(frozen=True)
class Window:
    """Days on which it opens (0 is Monday), from and to in minutes."""

    days: frozenset[int]
    start: int
    end: int

    @property
    def text(self) -> str:
        days = ",".join(DAY_NAMES[day] for day in sorted(self.days))
        return f"{days} {self.start // 60:02}:{self.start % 60:02}-{self.end // 60:02}:{self.end % 60:02}"

    def holds(self, wall: datetime, holidays: frozenset[date]) -> bool:
        """It opened today or yesterday, not on a holiday, and is not over."""
        for opened in (wall.date(), wall.date() - DAY):
            midnight = datetime.combine(opened, datetime.min.time())
            end = self.end if self.end > self.start else self.end + 24 * 60
            inside = midnight + self.start * MINUTE <= wall < midnight + end * MINUTE
            if inside and opened.weekday() in self.days and opened not in holidays:
                return True
        return False


@dataclass(frozen=True)
class World:
    """One schedule and its calendar."""

    zone: str
    calendar_zone: str
    cron: Cron
    own_window: Window | None
    windows: tuple[Window, ...] | None
    holidays: frozenset[date]
    blackout: frozenset[date]
    gap_s: float | None

    @property
    def table(self) -> Timetable:
        calendar = Calendar(
            timezone=self.calendar_zone,
            windows=None if self.windows is None else tuple(window.text for window in self.windows),
            holidays=tuple(str(day) for day in sorted(self.holidays)),
            blackout=tuple(f"{day}..{day} because" for day in sorted(self.blackout)),
        )  # fmt: skip
        window = None if self.own_window is None else self.own_window.text
        schedule = Schedule(cron=self.cron.text, timezone=self.zone, calendar="c", window=window, min_gap=self.gap_s)
        return Timetable("it", schedule, "c", calendar)


def named(cron: Cron, zone: str, start: datetime, end: datetime) -> Iterator[datetime]:
    """The instants in (start, end] that a cron expression names: each minute that clocks show for the first time.

    Where clocks jump forward, all minutes that they jump over come at the instant of the jump.
    """
    clock, at = ZoneInfo(zone), start - 2 * DAY
    shown = at.astimezone(clock).replace(tzinfo=None)
    while at < end:
        at += MINUTE
        wall = at.astimezone(clock).replace(tzinfo=None)
        due = False
        while shown < wall:
            shown += MINUTE
            due = due or cron.names(shown)
        if due and at > start:
            yield at


def allowed(world: World, instants: Iterator[datetime]) -> list[tuple[datetime, bool]]:
    """Each instant, and whether the calendar lets it start."""
    found: list[tuple[datetime, bool]] = []
    last: datetime | None = None
    for at in instants:
        own = at.astimezone(ZoneInfo(world.zone)).replace(tzinfo=None)
        wall = at.astimezone(ZoneInfo(world.calendar_zone)).replace(tzinfo=None)
        good = world.own_window is None or world.own_window.holds(own, frozenset())
        good = good and (world.windows is None or any(window.holds(wall, world.holidays) for window in world.windows))
        good = good and wall.date() not in world.holidays | world.blackout
        good = good and (last is None or world.gap_s is None or (at - last).total_seconds() >= world.gap_s)
        last = at if good else last
        found.append((at, good))
    return found


def agree(world: World, start: datetime, end: datetime) -> int:
    """The code says what the reference says; how many instants there were."""
    table, after, until = world.table, start.timestamp(), end.timestamp()
    expected = allowed(world, named(world.cron, world.zone, start, end))
    seen = [
        (datetime.fromtimestamp(each.at, UTC), each.verdict.allowed) for each in foresee([table], after, Facts(), until)
    ]
    assert seen == expected
    assert [datetime.fromtimestamp(at, UTC) for at in occurrences(table, after, until)] == [at for at, _ in expected]
    return len(expected)


def field(n: int) -> st.SearchStrategy[tuple[str, frozenset[int]]]:
    """The text of one field of a cron expression, and what it is true for."""
    whole = FULL[n]
    number = st.integers(whole[0], whole[-1])
    pair = st.tuples(number, number).map(sorted)
    step = st.integers(1, 40)
    single = st.one_of(
        number.map(lambda one: (str(one), frozenset({one}))),
        pair.map(lambda two: (f"{two[0]}-{two[1]}", frozenset(range(two[0], two[1] + 1)))),
        st.tuples(pair, step).map(
            lambda all: (f"{all[0][0]}-{all[0][1]}/{all[1]}", frozenset(range(all[0][0], all[0][1] + 1, all[1])))
        ).filter(lambda made: "-" in made[0] and made[0].split("-")[0] != made[0].split("-")[1].split("/")[0]),
    )  # fmt: skip
    lists = st.lists(single, min_size=1, max_size=3).map(
        lambda parts: (",".join(text for text, _ in parts), frozenset().union(*(found for _, found in parts)))
    )
    every = st.just(("*", frozenset(whole)))
    stepped = step.map(lambda one: (f"*/{one}", frozenset(whole[::one])))
    return st.one_of(every, every, stepped, lists) if n > 1 else st.one_of(every, stepped, lists, lists)


crons = (
    st.tuples(*(field(n) for n in range(5)))
    .map(lambda fields: Cron(tuple(text for text, _ in fields), tuple(found for _, found in fields)))
    # A day that no month has is a mistake of its own, and refused.
    .filter(lambda cron: min(cron.sets[2]) <= 28)
)
clock_minutes = st.one_of(st.sampled_from([0, 60, 90, 120, 150, 180, 1320]), st.integers(0, 1439))
windows = st.builds(
    Window, st.frozensets(st.integers(0, 6), min_size=1), clock_minutes, st.one_of(clock_minutes, st.just(1440))
).filter(lambda window: window.start != window.end and (window.start, window.end) != (0, 0))


def days(start: date) -> st.SearchStrategy[frozenset[date]]:
    return st.frozensets(st.integers(-2, 6).map(lambda n: start + n * DAY), max_size=3)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[World, datetime]:
    """A schedule and calendar, and a day near which something happens to the clocks of its zone, mostly."""
    zone = draw(st.sampled_from(ZONES))
    year = draw(st.integers(2024, 2034))
    start = draw(st.sampled_from([*2 * _turns(zone, year), datetime(year, 12, 31, tzinfo=UTC)]))
    day = start.date()
    calendar_zone = draw(st.sampled_from([zone, zone, *ZONES]))
    world = World(
        zone, calendar_zone, draw(crons), draw(st.none() | windows), draw(st.none() | st.tuples(windows, windows)),
        draw(days(day)), draw(days(day)), draw(st.none() | st.sampled_from([60.0, 3600.0, 5400.0, 86400.0, 90000.0])),
    )  # fmt: skip
    return world, start - DAY


def _turns(zone: str, year: int) -> list[datetime]:
    """Days of a year on which clocks are changed."""
    clock = ZoneInfo(zone)
    found = [datetime(year, 1, 1, tzinfo=UTC) + n * DAY for n in range(365)]
    return [at for at in found if at.astimezone(clock).utcoffset() != (at + DAY).astimezone(clock).utcoffset()]


def everything(cron: str) -> Cron:
    """A literal expression with `*` and numbers only."""
    parts = tuple(cron.split())
    sets = tuple(
        frozenset(whole) if part == "*" else frozenset({int(part)}) for part, whole in zip(parts, FULL, strict=True)
    )
    return Cron(parts, sets)


def plain(zone: str, cron: str, window: Window | None = None, gap_s: float | None = None) -> World:
    return World(zone, zone, everything(cron), window, None, frozenset(), frozenset(), gap_s)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(worlds())
@example((plain("Europe/Berlin", "30 2 * * *"), datetime(2026, 3, 27, tzinfo=UTC)))
@example((plain("Europe/Berlin", "* * * * *"), datetime(2026, 10, 24, tzinfo=UTC)))
@example((plain("Australia/Lord_Howe", "* 2 * * *"), datetime(2026, 10, 2, tzinfo=UTC)))
@example((plain("Australia/Lord_Howe", "* 1 * * *"), datetime(2026, 4, 3, tzinfo=UTC)))
@example((plain("America/St_Johns", "* * * * *"), datetime(2006, 10, 28, tzinfo=UTC)))  # set back over midnight
@example((plain("Pacific/Apia", "0 12 * * *"), datetime(2011, 12, 28, tzinfo=UTC)))  # a day that never was
@example((plain("UTC", "30 * * * *", Window(frozenset({6}), 1320, 240)), datetime(2026, 11, 28, tzinfo=UTC)))
@example((plain("UTC", "0 3 * * *", gap_s=86400.0), datetime(2026, 11, 28, tzinfo=UTC)))
def test_a_few_days_are_as_the_slow_reading_has_them(case: tuple[World, datetime]) -> None:
    world, start = case
    agree(world, start, start + 4 * DAY)


def test_what_was_shown_before_clocks_went_back_over_midnight_is_not_lost() -> None:
    world = plain("America/St_Johns", "0 0 * * *")  # 00:01 became 23:01 of the day before
    start = datetime(2006, 10, 28, 12, tzinfo=UTC)
    assert agree(world, start, datetime(2006, 10, 29, 3, tzinfo=UTC)) == 1


def test_the_days_on_which_clocks_change_are_among_them() -> None:
    assert [len(_turns(zone, 2026)) for zone in ZONES] == [2, 2, 2, 0, 0]


YEARS = (
    ("30 2 * * *", Window(frozenset({6, 0, 1, 2, 3}), 1320, 240)),  # a week that starts on Sunday, over midnight
    ("*/20 1-3 * * 0", None),
    ("15 0 1,15 * 5", Window(frozenset({4, 5}), 1380, 60)),
)


@pytest.mark.soak
@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize(("cron", "window"), YEARS)
def test_ten_years_are_as_the_slow_reading_has_them(zone: str, cron: str, window: Window | None) -> None:
    sets = {"*/20": frozenset({0, 20, 40}), "1-3": frozenset({1, 2, 3}), "1,15": frozenset({1, 15})}
    parts = tuple(cron.split())
    read = tuple(
        sets.get(part) or (frozenset(whole) if part == "*" else frozenset({int(part)}))
        for part, whole in zip(parts, FULL, strict=True)
    )
    start = datetime(2026, 1, 1, tzinfo=UTC)
    christmas = frozenset(date(year, 12, day) for year in range(2026, 2036) for day in (24, 25, 26))
    autumn = frozenset(date(year, 11, day) for year in range(2026, 2036) for day in range(20, 31))
    windows = None if window is None else (window,)
    world = World(zone, zone, Cron(parts, read), None, windows, christmas, autumn, 90000.0)
    assert agree(world, start, start + 3652 * DAY) > 400


def test_an_instant_is_due_exactly_if_it_is_among_the_occurrences() -> None:
    table = plain("Europe/Berlin", "30 2 * * *").table
    start = datetime(2026, 3, 28, tzinfo=UTC).timestamp()
    due = {start + n * 60 for n in range(3 * 24 * 60) if is_due(table, start + n * 60)}
    assert due == set(occurrences(table, start - 1, start + 3 * 24 * 3600))


def test_of_a_group_exactly_one_starts_at_every_common_occurrence_whatever_the_order() -> None:
    def member(name: str) -> Timetable:
        schedule = Schedule(cron="0 3 * * *", calendar="c", choose=Choose(group="nightly"))
        return Timetable(name, schedule, "c", Calendar(seed="7"))

    tables = [member(name) for name in ("cut", "fill", "kill")]
    start = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    end = start + 90 * 86400
    one, other = (
        [(each.at, each.table.name) for each in foresee(some, start, Facts(), end) if each.verdict.allowed]
        for some in (tables, tables[::-1])
    )
    assert one == other
    assert len({at for at, _ in one}) == len(one) == 90
    assert {name for _, name in one} == {"cut", "fill", "kill"}
