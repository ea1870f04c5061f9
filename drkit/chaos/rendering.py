"""Hand a timetable to CronJob, systemd or GitHub Actions: their files, as text. Pure.

What they start is `drkit schedule run --once`, which decides by calendar and ledger whether an occurrence is due. So
their own expression only has to be true *at least* whenever ours is: where their dialect cannot say it exactly (the
last day of a month, a local time in UTC), the file fires more often, and drkit starts nothing then.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from drkit.chaos.calendar import Timetable
from drkit.model import schedule as words
from drkit.model.schedule import DAY_NAMES

_FIELDS = (range(60), range(24), range(1, 32), range(1, 13), range(7))
#: Days of a month that may be its last one, and its last working day (cronsim's marks for `L` and `LW`).
_LAST = {-1000: range(28, 32), -1001: range(26, 32)}
_YEAR_DAYS = 366
CRONJOB_NAME_MAX = 52


@dataclass(frozen=True)
class Broad:
    """A cron expression in numbers, true whenever the original is. Weekdays: 0 is Sunday. Full: any."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]

    def __str__(self) -> str:
        sets = (self.minutes, self.hours, self.days, self.months, self.weekdays)
        return " ".join(_listed(found, whole) for found, whole in zip(sets, _FIELDS, strict=True))


@dataclass(frozen=True)
class Job:
    """What a file is to start, and from where."""

    environment: str
    command: tuple[str, ...]
    """The words that start `drkit schedule run --once`, with its options, without the scenario."""
    folder: str
    image: str
    version: str

    def words(self, table: Timetable) -> list[str]:
        """The command for one scenario."""
        return [*self.command, table.name]


def broad(table: Timetable) -> list[Broad]:
    """One or two expressions that all dialects read alike: limited by days of the month or of the week, not by both."""
    fields = words.cron(table.schedule.cron)
    days = frozenset(day for mark in fields.days for day in _LAST.get(mark, (mark,)))
    weekdays = frozenset((each if isinstance(each, int) else each[0]) % 7 for each in fields.weekdays)
    any_day, any_weekday = frozenset(_FIELDS[2]), frozenset(_FIELDS[4])
    rest = frozenset(fields.minutes), frozenset(fields.hours)
    months = frozenset(fields.months)
    if days >= any_day or weekdays >= any_weekday:
        if fields.day_and:
            return [Broad(*rest, days, months, weekdays)]
        return [Broad(*rest, any_day, months, any_weekday)]
    if fields.day_and:
        return [Broad(*rest, any_day, months, weekdays)]  # `*/2` with a weekday: dialects differ about it
    return [Broad(*rest, days, months, any_weekday), Broad(*rest, any_day, months, weekdays)]


def in_utc(table: Timetable, year_from: float) -> list[tuple[Broad, str]]:
    """Expressions in UTC, one set for each offset that the zone has in the year from that instant, and which one."""
    start = datetime.fromtimestamp(year_from, UTC)
    offsets = {(start + timedelta(days=n)).astimezone(table.zone).utcoffset() for n in range(_YEAR_DAYS)}
    found: dict[Broad, str] = {}
    for offset in sorted(each for each in offsets if each is not None):
        for one in broad(table):
            for shifted in _shifted(one, int(offset.total_seconds()) // 60):
                said = f"while {table.zone.key} is {_offset(offset)}"
                found[shifted] = f"{found[shifted]}, and {said}" if shifted in found else said
    return list(found.items())


def cronjob(table: Timetable, job: Job) -> dict[str, str]:
    """A Kubernetes CronJob for each expression."""
    files: dict[str, str] = {}
    ones = broad(table)
    for number, one in enumerate(ones, start=1):
        name = _dns_name(f"drkit-{table.name}") + (f"-{number}" if len(ones) > 1 else "")
        files[f"{name}.yaml"] = f"""\
# {table.schedule.cron} {table.zone.key}, as `drkit schedule next` shows it. drkit itself decides what is due.
# Kubernetes leaves out a time that clocks jump over in spring; the next start then records it as missed, or catches up.
# The image has this project as its working directory, and may reach the environment and its state store.
apiVersion: batch/v1
kind: CronJob
metadata:
  name: {name}
spec:
  schedule: {json.dumps(str(one))}
  timeZone: {json.dumps(table.zone.key)}
  concurrencyPolicy: Forbid
  startingDeadlineSeconds: {int(table.schedule.start_within)}
  jobTemplate:
    spec:
      backoffLimit: 0
      template:
        spec:
          restartPolicy: Never
          containers:
            - name: drkit
              image: {json.dumps(job.image)}
              command: {json.dumps(job.words(table))}
"""
    return files


def systemd(table: Timetable, job: Job) -> dict[str, str]:
    """A timer and its service."""
    name = f"drkit-{job.environment}-{table.name}"
    events = "\n".join(f"OnCalendar={_on_calendar(one, table.zone.key)}" for one in broad(table))
    return {
        f"{name}.timer": f"""\
# {table.schedule.cron} {table.zone.key}, as `drkit schedule next` shows it. drkit itself decides what is due.
[Unit]
Description=When {table.name} is rehearsed in {job.environment}

[Timer]
{events}
AccuracySec=1s
Persistent=true

[Install]
WantedBy=timers.target
""",
        f"{name}.service": f"""\
[Unit]
Description=Rehearse {table.name} in {job.environment}, if it is due
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
WorkingDirectory={_escaped(job.folder)}
ExecStart={_escaped(shlex.join(job.words(table)))}
# A run that is asked to stop pauses first; its faults carry leases of their own.
TimeoutStartSec=infinity
TimeoutStopSec=120
""",
    }


def github(table: Timetable, job: Job, year_from: float) -> dict[str, str]:
    """A workflow. GitHub knows UTC only: it fires for summer and winter time, and drkit tells which one counts."""
    crons = "\n".join(f"    - cron: {json.dumps(str(one))}  # {said}" for one, said in in_utc(table, year_from))
    return {
        f"drkit-{table.name}.yml": f"""\
# {table.schedule.cron} {table.zone.key}, as `drkit schedule next` shows it. GitHub fires in UTC, and often late:
# for every offset that the zone has, and drkit starts only what is due, and at most {_minutes(table)} late.
# On the day on which clocks are put forward a time that they jump over may come an hour late.
name: {json.dumps(f"drkit {table.name}")}
on:
  schedule:
{crons}
permissions:
  contents: read
concurrency:
  group: {json.dumps(f"drkit-{job.environment}")}
  cancel-in-progress: false
jobs:
  rehearse:
    runs-on: ubuntu-latest
    timeout-minutes: 360
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: "3.11"
      - run: {json.dumps(f"pip install drkit=={job.version}")}
      - run: {json.dumps(shlex.join(job.words(table)))}
"""
    }


def _shifted(one: Broad, offset_minutes: int) -> Iterable[Broad]:
    """The same times in UTC. Over midnight days of a month and months cannot be shifted: then any will do."""
    hours_by: dict[tuple[int, int], set[int]] = {}
    for hour in one.hours:
        for minute in one.minutes:
            day, rest = divmod(hour * 60 + minute - offset_minutes, 24 * 60)
            hours_by.setdefault((day, rest % 60), set()).add(rest // 60)
    minutes_by: dict[tuple[int, frozenset[int]], set[int]] = {}
    for (day, minute), hours in hours_by.items():
        minutes_by.setdefault((day, frozenset(hours)), set()).add(minute)
    for (day, at_hours), minutes in sorted(minutes_by.items(), key=lambda each: (each[0][0], sorted(each[0][1]))):
        yield Broad(
            frozenset(minutes), at_hours,
            one.days if day == 0 else frozenset(_FIELDS[2]), one.months if day == 0 else frozenset(_FIELDS[3]),
            frozenset((weekday + day) % 7 for weekday in one.weekdays),
        )  # fmt: skip


def _on_calendar(one: Broad, zone: str) -> str:
    whole = frozenset(_FIELDS[4])
    weekdays = "" if one.weekdays >= whole else ",".join(DAY_NAMES[(day - 1) % 7].title() for day in _week(one)) + " "
    date = f"*-{_listed(one.months, _FIELDS[3], comma_only=True)}-{_listed(one.days, _FIELDS[2], comma_only=True)}"
    hours, minutes = (
        _listed(found, whole, comma_only=True) for found, whole in ((one.hours, _FIELDS[1]), (one.minutes, _FIELDS[0]))
    )
    return f"{weekdays}{date} {hours}:{minutes}:00 {zone}"


def _week(one: Broad) -> list[int]:
    return sorted(one.weekdays, key=lambda day: (day - 1) % 7)


def _listed(found: Iterable[int], whole: range, *, comma_only: bool = False) -> str:
    """`*`, or `1-5,7`; with `comma_only` every number by itself."""
    numbers = sorted(found)
    if set(numbers) >= set(whole):
        return "*"
    if comma_only:
        return ",".join(f"{number:02}" for number in numbers)
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][-1] == number - 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ",".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)


def _offset(offset: timedelta) -> str:
    minutes = int(offset.total_seconds()) // 60
    return f"UTC{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"


def _minutes(table: Timetable) -> str:
    return f"{table.schedule.start_within / 60:g} min"


def _dns_name(name: str) -> str:
    return re.sub(r"[^a-z0-9-]", "-", name)[: CRONJOB_NAME_MAX - 2].strip("-")


def _escaped(text: str) -> str:
    """For a unit file: a percent sign begins a specifier there, a dollar a variable."""
    return text.replace("%", "%%").replace("$", "$$")


def all_files(kind: str, tables: Sequence[Timetable], job: Job, year_from: float) -> dict[str, str]:
    """The files of `cronjob`, `systemd` or `github`, by name."""
    files: dict[str, str] = {}
    for table in tables:
        if kind == "github":
            files |= github(table, job, year_from)
        else:
            files |= cronjob(table, job) if kind == "cronjob" else systemd(table, job)
    return files


KINDS: Sequence[str] = ("cronjob", "systemd", "github")


__all__ = ["KINDS", "Broad", "Job", "all_files", "broad", "in_utc"]
