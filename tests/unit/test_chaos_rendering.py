"""Files for CronJob, systemd and GitHub: valid, and true at least whenever the schedule is."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cronsim import CronSim
from schedule_fakes import table

from drkit.chaos.calendar import Timetable, occurrences
from drkit.chaos.rendering import Job, all_files, broad, in_utc
from drkit.plan import yaml

JAN = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
YEAR = 365 * 86400.0
BEFORE = datetime(2025, 12, 31, tzinfo=UTC)
JOB = Job(
    "lab", (sys.executable, "schedule", "run", "--once", "--env", "lab"), "/work dir", "registry/drkit:1", "0.1.0"
)
CRONS = (
    "30 2 * * 1-5", "*/20 22-23 * * 0", "15 0 1,15 * *", "0 5 31 * 1", "0 3 L * *", "5 1 LW 3 *", "0 4 * * 2#1",
    "0 4 * * 5L", "10 23 */2 * 1", "0 3 1-31 * 1", "0 12 * 6-8 7",
)  # fmt: skip
ZONES = ("America/Los_Angeles", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kolkata", "UTC")


def named(texts: list[str], start: datetime, end: datetime) -> set[datetime]:
    """What cron expressions name, by a clock that nobody changes."""

    def of(text: str) -> Iterator[datetime]:
        found = CronSim(text, start)
        while (at := next(found)) < end:
            yield at

    return {at for text in texts for at in of(text)}


def document(text: str) -> Any:
    return yaml.parse(text.encode(), "rendered.yaml").data


def changes(it: Timetable) -> set[datetime]:
    """Days on which clocks are put forward or back."""
    days = [datetime.fromtimestamp(JAN, UTC) + timedelta(days=n) for n in range(365)]
    return {day for day in days if _offset(it, day) != _offset(it, day + timedelta(days=1))}


def _offset(it: Timetable, at: datetime) -> timedelta | None:
    return at.astimezone(it.zone).utcoffset()


@pytest.mark.parametrize("cron", CRONS)
def test_what_github_fires_in_utc_covers_every_occurrence_of_a_year(cron: str) -> None:
    for zone in ZONES:
        it = table(cron=cron, timezone=zone)
        due = {datetime.fromtimestamp(at, UTC) for at in occurrences(it, JAN, JAN + YEAR)}
        fired = named([str(one) for one, _ in in_utc(it, JAN)], BEFORE, max(due) + timedelta(1))
        # A time that clocks jump over happens at the jump, which no cron line can say: it comes late, and says so.
        jumped = {at for at in due - fired if at.replace(hour=0, minute=0) in changes(it)}
        assert due - fired == jumped and len(jumped) <= 1, zone


def test_a_local_time_is_two_lines_in_utc_that_say_when_each_counts() -> None:
    it = table(cron="30 2 * * 1-5", timezone="Europe/Berlin")
    assert [(str(one), said) for one, said in in_utc(it, JAN)] == [
        ("30 1 * * 1-5", "while Europe/Berlin is UTC+01:00"),
        ("30 0 * * 1-5", "while Europe/Berlin is UTC+02:00"),
    ]
    assert [str(one) for one, _ in in_utc(table(cron="0 3 * * 1", timezone="Asia/Kolkata"), JAN)] == ["30 21 * * 0"]
    assert [str(one) for one, _ in in_utc(table(cron="0 3 1 2 *", timezone="Asia/Kolkata"), JAN)] == ["30 21 * * *"]


@pytest.mark.parametrize("cron", CRONS)
def test_kubernetes_fires_at_least_when_it_is_due_and_reads_what_every_cron_reads(cron: str) -> None:
    it = table(cron=cron)
    lines = [str(one) for one in broad(it)]
    due = {datetime.fromtimestamp(at, UTC) for at in occurrences(it, JAN, JAN + YEAR)}
    assert due <= named(lines, BEFORE, max(due) + timedelta(1))
    for line in lines:
        assert set(line) <= set("0123456789*,- ") and "7" not in line.split()[4]
        assert "*" in (line.split()[2], line.split()[4])  # both limited: dialects differ about it


def test_a_cronjob_is_one_object_that_runs_what_is_due_and_never_twice() -> None:
    files = all_files("cronjob", [table("a_b.c", "30 2 * * 1-5", timezone="Europe/Berlin", start_within=600)], JOB, JAN)
    assert list(files) == ["drkit-a-b-c.yaml"]
    found = document(files["drkit-a-b-c.yaml"])
    spec = found["spec"]
    assert (found["apiVersion"], found["kind"], found["metadata"]["name"]) == ("batch/v1", "CronJob", "drkit-a-b-c")
    assert (spec["schedule"], spec["timeZone"], spec["concurrencyPolicy"]) == (
        "30 2 * * 1-5",
        "Europe/Berlin",
        "Forbid",
    )
    assert (spec["startingDeadlineSeconds"], spec["jobTemplate"]["spec"]["backoffLimit"]) == (600, 0)
    pod = spec["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    assert pod["containers"][0]["command"] == [*JOB.command, "a_b.c"]
    both = all_files("cronjob", [table(cron="0 5 31 * 1")], JOB, JAN)
    assert [document(text)["spec"]["schedule"] for text in both.values()] == ["0 5 31 * *", "0 5 * * 1"]


def test_a_workflow_is_yaml_that_says_that_github_knows_utc_only() -> None:
    files = all_files("github", [table(cron="30 2 * * 1-5", timezone="Europe/Berlin")], JOB, JAN)
    text = files["drkit-night.yml"]
    found = document(text)
    assert found["on"]["schedule"] == [{"cron": "30 1 * * 1-5"}, {"cron": "30 0 * * 1-5"}]
    assert found["jobs"]["rehearse"]["steps"][-1]["run"].endswith("schedule run --once --env lab night")
    assert found["concurrency"]["cancel-in-progress"] is False
    assert "UTC" in text.splitlines()[0] and "while Europe/Berlin is UTC+01:00" in text


needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


@needs_systemd
@pytest.mark.parametrize("cron", CRONS)
def test_systemd_fires_at_least_when_it_is_due(cron: str) -> None:
    it = table(cron=cron, timezone="Asia/Kolkata")
    timer = all_files("systemd", [it], JOB, JAN)["drkit-lab-night.timer"]
    lines = [line.removeprefix("OnCalendar=") for line in timer.splitlines() if line.startswith("OnCalendar=")]
    due = [
        datetime.fromtimestamp(at, UTC) for _, at in zip(range(3), occurrences(it, JAN, JAN + 9 * YEAR), strict=False)
    ]
    fired: set[datetime] = set()
    for line in lines:
        told = subprocess.run(
            ["systemd-analyze", "calendar", "--iterations=200", f"--base-time=@{JAN:.0f}", line],
            capture_output=True, text=True, env={"TZ": "UTC", "PATH": "/usr/bin:/bin"}, timeout=20,
        )  # fmt: skip
        assert told.returncode == 0, told.stderr
        stamps = re.findall(r": \w{3} (\S+ \S+) UTC$", told.stdout, re.MULTILINE)
        fired |= {datetime.fromisoformat(each).replace(tzinfo=UTC) for each in stamps}
    assert set(due) <= fired


@needs_systemd
def test_units_are_what_systemd_accepts(tmp_path: Path) -> None:
    files = all_files("systemd", [table(cron="30 2 * * 1-5", timezone="Europe/Berlin")], JOB, JAN)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    timer = tmp_path / "drkit-lab-night.timer"
    told = subprocess.run(["systemd-analyze", "verify", str(timer)], capture_output=True, text=True, timeout=30)
    complaints = [line for line in told.stderr.splitlines() if "drkit-lab" in line]
    assert (told.returncode, complaints) == (0, []), told.stderr
