"""`drkit schedule` as people and init systems use it: real processes, real runs of a small runbook."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_lab import Lab, Result, due, end_runners, until

from drkit.context import Context
from drkit.engine.clock import SystemClock
from drkit.engine.identity import this_process
from drkit.engine.lease import LeaseProtocol
from drkit.model.credentials import Life
from drkit.model.plan import Plan
from drkit.providers.objects import FileObjects

SEED = int(os.environ.get("KILLS_SEED", "47"))
RUN = ("schedule", "run", "--confirm", "lab")
RUNBOOK = """
apiVersion: drkit/v1
kind: Runbook
metadata: {{name: beat, owner: nobody}}
probes: {{go: {{uses: process.exists, with: {{creates: "{folder}/drkit.toml"}}}}}}
decide: "probes.go.exists"
parameters: {{word: {{default: none, description: What is written}}}}
steps:
  - id: beat
    uses: process.run
    with:
      creates: "{folder}/made/beat"
      argv: [sh, -c, "echo ${{ params.word }} >>{folder}/beats; touch {folder}/made/beat"]
"""
SCENARIO = """
apiVersion: drkit/v1
kind: Scenario
metadata: {{name: {name}, owner: nobody}}
hypothesis: "It beats"
environment: lab
source: us-east-1
target: us-west-2
parameters: {{word: {{default: none}}}}
probes: {{made: {{uses: process.exists, with: {{creates: "{folder}/nothing"}}}}}}
steady_state: [{{expect: "!probes.made.exists"}}]
method: [{{id: recovery, run: runbook/beat, mode: drill}}]
schedule: {schedule}
"""


def scheduled(lab: Lab, name: str = "night", **schedule: Any) -> None:
    """A scenario with this schedule."""
    text = SCENARIO.format(folder=lab.folder, name=name, schedule=json.dumps(schedule))
    (lab.folder / "scenarios" / f"{name}.yaml").write_text(text)


@pytest.fixture
def beats(lab: Lab, private_state_home: Path) -> Iterator[Lab]:
    """The lab with a runbook that beats once."""
    (lab.folder / "scenarios").mkdir()
    (lab.folder / "runbooks" / "beat.yaml").write_text(RUNBOOK.format(folder=lab.folder))
    (lab.folder / "beats").write_text("")
    yield lab
    end_runners(private_state_home)


def heard(lab: Lab) -> list[str]:
    return (lab.folder / "beats").read_text().split()


def says(result: Result, code: int, *words: str) -> None:
    assert result.returncode == code, (result.returncode, result.stdout, result.stderr)
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr + result.stdout, (word, result.stdout, result.stderr)


def told(lab: Lab, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(lab.drkit("schedule", "next", "-o", "json", *words).stdout)
    return found


def test_what_is_due_is_carried_out_once_and_the_ledger_says_so(beats: Lab) -> None:
    scheduled(beats, cron=due(), choose={"parameters": {"word": ["tick", "tock"]}})
    says(beats.drkit("schedule", "next", "--exit-status"), 0, "night")
    first = beats.process(*RUN, "--once", "-o", "jsonl")
    says(first, 0)
    allowed, started = (json.loads(line) for line in first.stdout.splitlines() if "drkit.decision/1" in line)
    assert (allowed["outcome"], started["outcome"]) == ("allowed", "started")
    assert heard(beats) == [allowed["drawn"]["word"]]
    says(beats.drkit("schedule", "next", "--exit-status"), 3, "Nothing is due")
    second = beats.drkit(*RUN, "--once")
    says(second, 0)
    assert second.stdout == "" and len(heard(beats)) == 1
    (row,) = told(beats, "--at", started["at"])
    assert (row["outcome"], row["run"], row["drawn"]) == ("started", started["run"], allowed["drawn"])
    runs = json.loads(beats.drkit("runs", "-o", "json").stdout)
    assert [(run["run"], run["kind"]) for run in runs] == [(started["run"], "drill")]

    (beats.folder / "made" / "beat").unlink()
    says(beats.drkit("chaos", "replay", started["run"], "--confirm", "lab", "--foreground"), 0)
    assert heard(beats) == [allowed["drawn"]["word"]] * 2  # what was drawn is drawn no second time
    says(beats.drkit("chaos", "shrink", started["run"], "--confirm", "lab"), 3, "is a drill")


def test_a_drill_that_its_credentials_would_not_survive_is_refused(beats: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    async def lives(context: Context, plan: Plan | None) -> list[Life]:
        return [Life("keys", known=True, ends=0.0), Life("other", known=False)]

    monkeypatch.setattr("drkit.cli.credentials.lives", lives)
    scheduled(beats, cron=due())
    says(beats.drkit("drill", "run", "night", "--confirm", "lab"), 3, "E0318 keys: has expired", "drkit doctor")
    assert heard(beats) == [] and json.loads(beats.drkit("runs", "-o", "json").stdout) == []


def test_a_scheduler_in_the_foreground_is_one_of_its_kind_and_ends_cleanly(
    beats: Lab, private_state_home: Path
) -> None:
    scheduled(beats, cron=due())
    child = subprocess.Popen(
        beats.command(*RUN), cwd=beats.folder, env=beats.environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        until(lambda: bool(heard(beats)))
        says(beats.drkit(*RUN), 7, "another scheduler of lab runs", "drkit schedule next --env lab")
        until(lambda: told(beats, "--at", _occurrence(beats))[0]["outcome"] == "started")
    finally:
        child.send_signal(signal.SIGTERM)
        out, err = child.communicate(timeout=20)
    assert child.returncode == 143, err
    assert "Runs that it started go on" in err and "night  started" in out
    says(beats.drkit(*RUN, "--once"), 0)  # the place is free again
    assert heard(beats) == ["none"]


def _occurrence(lab: Lab) -> str:
    (record,) = (lab.folder / "store" / "schedule" / "lab" / "scenarios").glob("*.json")
    decision: str = json.loads(record.read_text())["decisions"][-1]["at"]
    return decision


def test_while_a_real_run_is_open_nothing_scheduled_starts(beats: Lab) -> None:
    scheduled(beats, cron=due(), skip_when=[])
    lease = LeaseProtocol(
        FileObjects(beats.folder / "store"), "lab", SystemClock(), who="dana", host="bastion", process=this_process(),
        term_s=20, drill_term_s=8, longest_call_s=15,
    )  # fmt: skip
    assert lease.attempt("k7qd", drill=False) is not None
    says(beats.drkit(*RUN, "--once"), 0, "refused", "a real run is open: Run k7qd by dana@bastion")
    lease.release()
    says(beats.drkit(*RUN, "--once"), 0)  # it was decided: not started later either
    assert heard(beats) == []
    (row,) = told(beats, "--at", _occurrence(beats))
    assert row["outcome"] == "refused" and row["why"][0].startswith("a real run is open")


def test_a_freeze_and_an_incident_hold_back_until_they_are_taken_back(beats: Lab) -> None:
    scheduled(beats, cron="0 3 * * *")
    says(beats.drkit("schedule", "freeze", "--reason", "year's end", "--until", "30h"), 0, "Change freeze in lab until")
    rows = told(beats, "--explain", "-n", "1")
    assert [row["outcome"] for row in rows] in (
        ["will not start", "will start"],
        ["will not start"] * 2 + ["will start"],
    )
    assert "declared by tester@" in rows[0]["why"][0] and "year's end" in rows[0]["why"][0]
    says(beats.drkit("schedule", "freeze", "--reason", "INC-7", "--incident"), 0)
    text = beats.drkit("schedule", "next")
    says(text, 0, "will not start", "an open incident until it is taken back", "INC-7")
    says(beats.drkit("schedule", "unfreeze"), 0)
    says(beats.drkit("schedule", "unfreeze", "--incident"), 0, "No open incident is declared in lab")
    assert [row["outcome"] for row in told(beats)] == ["will start"] * 3
    says(beats.drkit("chaos", "lever", "engage", "--reason", "INC-8"), 0)
    says(beats.drkit("schedule", "next"), 0, "will not start", "the chaos lever was engaged by tester", "INC-8")


def test_next_explains_what_the_calendar_keeps_back(beats: Lab) -> None:
    toml = beats.folder / "drkit.toml"
    toml.write_text(
        toml.read_text() + '\n[calendars.office]\ntimezone = "Europe/Berlin"\nblackout = ["2030-03-02 fair"]\n'
    )
    scheduled(beats, cron="30 2 * * 6", timezone="Europe/Berlin", calendar="office", window="sat 00:00-06:00")
    (row,) = told(beats, "--at", "2030-03-02T02:30+01:00")
    assert (row["outcome"], row["local"]) == ("will not start", "Sat 2030-03-02 02:30 CET")
    assert row["why"] == ["2030-03-02 is blacked out (2030-03-02 fair)"]
    (row,) = told(beats, "--at", "2030-03-03T02:30+01:00")
    assert row["why"][0].startswith('cron "30 2 * * 6" is not due at sun 2030-03-03 02:30')
    (row,) = told(beats, "--at", "2020-03-07T01:30Z")
    assert (row["outcome"], row["why"][0]) == ("undecided", "no scheduler has ever seen this scenario")


def test_rendered_files_start_what_is_due_in_this_environment(beats: Lab, tmp_path: Path) -> None:
    scheduled(beats, cron="30 2 * * 6", timezone="Europe/Berlin")
    out = tmp_path / "units"
    says(beats.drkit("schedule", "render", "--for", "systemd", "--out", str(out), "--drkit", "/opt/drkit"), 0, ".timer")
    service = (out / "drkit-lab-night.service").read_text()
    assert "ExecStart=/opt/drkit schedule run --once --no-input --env lab --confirm lab night" in service
    assert f"WorkingDirectory={beats.folder}" in service
    for kind, word in (("cronjob", "kind: CronJob"), ("github", "while Europe/Berlin is UTC+02:00")):
        says(beats.drkit("schedule", "render", "--for", kind, "night"), 0, word)


@pytest.mark.parametrize(
    ("words", "code", "says_"),
    [
        (["schedule", "run"], 2, ["must be confirmed", "--confirm lab"]),
        (["schedule", "run", "--confirm", "prod"], 2, ["prod", "nothing was confirmed"]),
        ([*RUN, "nigth"], 2, ['no scenario "nigth" is scheduled in lab', "did you mean night"]),
        (["schedule", "next", "--at", "tomorrow"], 2, ['"tomorrow" is not a time', "2026-12-01T03:00Z"]),
        (["schedule", "next", "--at", "2026-12-01T03:00"], 2, ["has no zone", "--at 2026-12-01T03:00Z"]),
        (["schedule", "render"], 2, ["--for"]),
        (["schedule", "render", "--for", "cron"], 2, ["cronjob"]),
        (["schedule", "freeze"], 2, ["--reason"]),
        (["schedule", "freeze", "--reason", "x", "--until", "2020-01-01T00:00Z"], 2, ["is over already"]),
        (["schedule", "next", "--env", "nowhere"], 2, ["nowhere"]),
    ],
    ids=lambda value: "-".join(value)[:40] if isinstance(value, list) else str(value),
)
def test_a_mistake_on_the_line_starts_nothing(beats: Lab, words: list[str], code: int, says_: list[str]) -> None:
    scheduled(beats, cron=due())
    says(beats.drkit(*words), code, *says_)
    assert not (beats.folder / "store" / "schedule").exists()


def test_what_cannot_be_started_is_failed_in_the_ledger_and_leaves_no_run(beats: Lab, private_state_home: Path) -> None:
    scheduled(beats, cron=due())
    (beats.folder / "runbooks" / "beat.yaml").unlink()
    says(beats.drkit(*RUN, "--once"), 1, "night  failed", 'there is no runbook "beat"')
    (row,) = told(beats, "--at", _occurrence(beats))
    assert (row["outcome"], row["why"][-1].startswith('there is no runbook "beat"')) == ("failed", True)
    assert list((private_state_home / "drkit" / "runs").iterdir()) == []
    says(beats.drkit(*RUN, "--once"), 0)  # it was decided


def test_production_is_never_scheduled_unasked(beats: Lab) -> None:
    toml = beats.folder / "drkit.toml"
    toml.write_text(toml.read_text().replace('"staging"', '"production"'))
    scheduled(beats, cron=due())
    says(beats.drkit(*RUN, "--once"), 3, "lab is production", "--allow-production")
    rendered = beats.drkit("schedule", "render", "--for", "systemd")
    says(rendered, 0)
    assert "--allow-production" not in rendered.stdout and heard(beats) == []


@pytest.mark.parametrize(
    ("schedule", "says_"),
    [
        ({"cron": "61 * * * *"}, ["night.yaml:13:", "bad minute"]),
        ({"cron": "0 3 * * *", "timezone": "Europe/Belin"}, ["night.yaml:13:", "did you mean Europe/Berlin"]),
        ({"cron": "0 3 * * *", "window": "25:00-26:00"}, ["night.yaml:13:", "there is no 25:00"]),
        ({"cron": "0 3 * * *", "calendar": "office"}, ["night.yaml:13:", 'there is no calendar "office"']),
        ({"cron": "0 3 * * *", "choose": {"parameters": {"wrd": ["x"]}}}, ["night.yaml:13:", "did you mean word"]),
    ],
    ids=["cron", "zone", "window", "calendar", "parameter"],
)
def test_a_mistake_in_a_file_starts_nothing_and_names_its_line(
    beats: Lab, schedule: dict[str, Any], says_: list[str]
) -> None:
    scheduled(beats, **schedule)
    says(beats.drkit(*RUN), 2, *says_)
    says(beats.drkit("validate", "scenarios"), 2, *says_)
    assert not (beats.folder / "store" / "schedule").exists()


def test_nothing_scheduled_here_is_said_and_other_tools_files_are_left_alone(beats: Lab) -> None:
    (beats.folder / "scenarios" / "other.yaml").write_text("title: an experiment of another tool\n")
    says(beats.drkit("schedule", "next"), 2, "no scenario in", "has a schedule for lab", "drkit help schedule")
    says(beats.drkit("help", "schedule"), 0, "catch_up")


def killed_anywhere(lab: Lab, moments: list[float]) -> None:
    """The scheduler is killed after each of these times, and then left alone: the occurrence started once."""
    for seconds in moments:
        child = subprocess.Popen(
            lab.command(*RUN), cwd=lab.folder, env=lab.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(seconds)
        child.kill()
        child.wait()
    says(lab.process(*RUN, "--once", timeout_s=90), 0)
    until(lambda: bool(heard(lab)))
    assert heard(lab) == ["none"], moments
    (row,) = told(lab, "--at", _occurrence(lab))
    assert row["outcome"] == "started", row
    runs = json.loads(lab.drkit("runs", "-o", "json").stdout)
    assert [run["run"] for run in runs] == [row["run"]]


def test_a_scheduler_killed_while_it_decides_and_starts_starts_one_run(beats: Lab) -> None:
    scheduled(beats, cron=due(90), start_within="30m")
    chance = random.Random(SEED)
    killed_anywhere(beats, [chance.uniform(0.6, 2.2) for _ in range(3)])


@pytest.mark.soak
@pytest.mark.parametrize("trial", range(20))
def test_a_scheduler_killed_at_random_moments_starts_one_run(beats: Lab, trial: int) -> None:
    scheduled(beats, cron=due(90), start_within="30m")
    chance = random.Random(SEED + trial)
    killed_anywhere(beats, [chance.uniform(0.3, 2.5) for _ in range(chance.randint(1, 5))])
