"""Windows, dates, cron expressions and zones as files write them; and where their mistakes are reported."""

from __future__ import annotations

import re
from datetime import date, datetime
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_fakes import catalog
from test_plan_project import project, told
from test_plan_scenarios import GOOD

from drkit.errors import FileError, UsageError
from drkit.model import schedule as words
from drkit.plan import files
from drkit.plan.schema import schema

TOML = """\
environment = "lab"

[environments.lab]
kind = "staging"
account = "lab"
state_store = "file:///srv/state"
sites = [{name = "us-east-1", kind = "region"}, {name = "us-west-2", kind = "region"}]

[calendars.office]
timezone = "America/Los_Angeles"
windows = ["sun-thu 22:00-04:00"]
holidays = [2026-11-26, "12-25 Christmas"]
blackout = ["2026-11-27..2026-11-30 Black Friday"]
min_gap = "20h"
"""
SCHEDULE = """\
schedule:
  cron: "0 3 * * 1-5"
  calendar: office
  choose: {parameters: {replicas: ["3", "4"]}}
"""


def days(text: str) -> str:
    return "".join(str(day) for day in sorted(words.window(text).days))


def test_days_of_windows_go_on_over_the_end_of_the_week() -> None:
    assert days("sun-thu 22:00-04:00") == "01236"
    assert days("mon-fri 09:00-17:00") == "01234"
    assert days("fri-mon,wed 09:00-17:00") == "02456"
    assert days("09:00-17:00") == "0123456"


def test_a_window_that_crosses_midnight_belongs_to_the_day_on_which_it_opens() -> None:
    night = words.window("fri 22:00-04:00")
    friday = date(2026, 11, 27)
    assert night.opened(datetime(2026, 11, 27, 22, 0)) == friday
    assert night.opened(datetime(2026, 11, 28, 3, 59)) == friday
    assert night.opened(datetime(2026, 11, 28, 4, 0)) is None
    assert night.opened(datetime(2026, 11, 27, 3, 0)) is None
    assert words.window("fri 22:00-24:00").opened(datetime(2026, 11, 28, 0, 0)) is None


def test_dates_with_and_without_years() -> None:
    turn = words.dates("12-24..01-02 turn of the year")
    assert (date(2027, 1, 2) in turn, date(2030, 12, 24) in turn, date(2027, 1, 3) in turn) == (True, True, False)
    assert turn.why == "turn of the year"
    assert date(2028, 2, 29) in words.dates("02-29")
    once = words.dates("2026-12-24..2027-01-02")
    assert (date(2026, 12, 31) in once, date(2027, 12, 31) in once) == (True, False)


@pytest.mark.parametrize(
    ("read", "text", "says"),
    [
        (words.window, "mon 25:00-26:00", "there is no 25:00"),
        (words.window, "mon 09:60-10:00", "there is no 09:60"),
        (words.window, "mon 09:00-24:01", "there is no 24:01"),
        (words.window, "mon 09:00-09:00", "is empty; write 00:00-24:00"),
        (words.window, "mon 24:00-04:00", "starts at 24:00"),
        (words.window, "mon 9-17", "is not a window"),
        (words.window, "mob 09:00-17:00", "mob is not a day; write mon, tue"),
        (words.window, "", "is not a window"),
        (words.dates, "2026-02-29", "is no date of the calendar"),
        (words.dates, "24.12.2026", "is not a date"),
        (words.dates, "2026-12-24..01-02", "a year at one end only"),
        (words.dates, "2026-12-24..2026-12-01", "ends before it begins"),
        (words.cron, "61 * * * *", "bad minute"),
        (words.cron, "0 3 * * fri-sun", "bad day-of-week; write days of the week as 0-6 from Sunday"),
        (words.cron, "0 3 * *", "write five fields"),
        (words.cron, "0 0 3 * * *", "write five fields"),
        (words.cron, "0 0 30 2 *", "bad day-of-month"),
        (words.cron, "@daily", "write five fields"),
        (words.zone, "Europe/Belin", "did you mean Europe/Berlin"),
        (words.zone, "America", "is not in the tz database"),
        (words.zone, "../etc/passwd", "is not in the tz database"),
        (words.zone, "PST8", "is not in the tz database"),
    ],
)
def test_what_is_wrong_is_said_with_how_it_would_be_right(read: Any, text: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        read(text)


@given(st.lists(st.text("0123456789*/-,?LW#MONSUNJAB", max_size=8), min_size=4, max_size=6).map(" ".join))
def test_any_text_is_a_cron_expression_or_a_value_error(text: str) -> None:
    try:
        assert words.cron(text).minutes
    except ValueError as error:
        assert "is not a cron expression" in str(error)


def scenario(folder: Path, *changes: tuple[str, str], toml: str = TOML) -> list[str]:
    """The mistakes of a scheduled scenario in a project."""
    (folder / "drkit.toml").write_text(toml)
    text = GOOD + SCHEDULE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    for name, content in (("scenarios", text), ("runbooks", "x")):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "checkout.yaml").write_text(content)
    try:
        files.check(folder / "scenarios" / "checkout.yaml", None, catalog())
    except FileError as error:
        return [f"{m.line}:{m.column} {m.message}" + (f" | {m.hint}" if m.hint else "") for m in error.mistakes]
    return []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ((" office", " ofice"), '25:13 there is no calendar "ofice" | did you mean office?'),
        (('"0 3 * * 1-5"', '"0 3 * * 1-8"'), '24:9 cron "0 3 * * 1-8" is not a cron expression: bad day-of-week'),
        (("calendar: office", "timezone: Europe/Belin"), '25:13 timezone "Europe/Belin" is not in the tz database'
                                                         " | did you mean Europe/Berlin?"),
        (("calendar: office", 'window: "25:00-26:00"'), '25:11 window "25:00-26:00": there is no 25:00'
                                                        " | a day goes from 00:00 to 24:00"),
        (("calendar: office", "catch_up: twice"), "25:13 catch_up \"twice\" is not one of 'skip' or 'once'"),
        (("calendar: office", "min_gap: 20"), "25:12 min_gap 20 has no unit | write 90s, 5m or 1h"),
        (("calendar: office", "calender: office"), '25:3 unknown key "calender" | did you mean calendar?'),
        (("calendar: office", "start_within: 5s"), "25:17 start_within \"5s\" must be greater than or equal to 30"),
        (("{replicas:", "{repliacs:"), '26:25 there is no parameter "repliacs" | did you mean replicas?'),
        (('["3", "4"]', "[]"), "26:35 replicas has nothing to be drawn from"),
        (("environment: lab\n", ""), "23:3 what is scheduled must name its environment | add environment: NAME"),
    ],
)  # fmt: skip
def test_mistakes_of_a_schedule_have_their_place(tmp_path: Path, change: tuple[str, str], expected: str) -> None:
    assert scenario(tmp_path) == []
    assert any(found.startswith(expected) for found in scenario(tmp_path, change)), scenario(tmp_path, change)


def test_a_project_without_that_calendar_is_a_mistake_of_the_scenario(tmp_path: Path) -> None:
    toml = TOML[: TOML.index("[calendars")]
    expected = '25:13 there is no calendar "office" | add [calendars.office] to drkit.toml'
    assert scenario(tmp_path, toml=toml) == [expected]


def test_a_scenario_whose_calendar_is_wrong_is_reported_with_that_and_its_own_mistakes(tmp_path: Path) -> None:
    toml = TOML.replace("sun-thu", "sun-thr")
    found = scenario(tmp_path, ("hold: 2m", "hold: 2"), toml=toml)
    assert found == [
        '11:11 windows "sun-thr 22:00-04:00": thr is not a day | write mon, tue, wed, thu, fri, sat, sun',
        "15:45 hold 2 has no unit | write 90s, 5m or 1h",
    ]


def test_a_calendar_is_read_with_the_dates_of_toml(tmp_path: Path) -> None:
    calendar = project(tmp_path, TOML).calendar("office")
    assert (calendar.timezone, calendar.min_gap) == ("America/Los_Angeles", 72000.0)
    assert calendar.holidays == ("2026-11-26", "12-25 Christmas")
    with pytest.raises(UsageError, match="there is no calendar"):
        project(tmp_path, TOML).calendar("ofice")


def test_every_mistake_of_a_calendar_has_its_place_and_keeps_nobody_from_the_environments(tmp_path: Path) -> None:
    toml = TOML.replace("Los_Angeles", "Los_Angles").replace("sun-thu 22:00", "sun-thu 25:00").replace("min_", "mn_")
    found = project(tmp_path, toml.replace('"12-25 Christmas"', '"25.12."'))
    with pytest.raises(FileError) as error:
        found.calendar("office")
    assert told(error) == [
        'drkit.toml:10:12 timezone "America/Los_Angles" is not in the tz database | did you mean America/Los_Angeles?',
        'drkit.toml:11:11 windows "sun-thu 25:00-04:00": there is no 25:00 | a day goes from 00:00 to 24:00',
        'drkit.toml:12:12 holidays "25.12." is not a date'
        " | write 2026-12-25, 2026-12-24..2027-01-02 or, for every year, 12-25",
        'drkit.toml:14:1 unknown key "mn_gap" | did you mean min_gap?',
    ]
    assert found.environment("lab").kind == "staging"
    empty = project(tmp_path, TOML.replace('["sun-thu 22:00-04:00"]', "[]"))
    with pytest.raises(FileError, match="windows is empty, so nothing would ever run"):
        empty.calendar("office")


def test_the_schema_for_editors_knows_schedules(tmp_path: Path) -> None:
    validator = jsonschema.Draft202012Validator(schema("scenario", catalog()))
    base = {
        "apiVersion": "drkit/v1", "kind": "Scenario", "metadata": {"name": "x", "owner": "y"}, "hypothesis": "z",
        "method": [{"id": "a", "inject": "db.cut", "with": {"cluster": "c", "region": "source"}}],
    }  # fmt: skip
    good = {"cron": "0 3 * * *", "window": "sun-thu 22:00-04:00", "min_gap": "20h", "choose": {"group": "g"}}
    assert not list(validator.iter_errors(base | {"schedule": good}))
    for wrong in ({"window": "mon 9-17"}, {"catch_up": "twice"}, {"min_gap": 20}, {"calender": "x"}):
        assert list(validator.iter_errors(base | {"schedule": good | wrong})), wrong
