"""Chaos by the real command on real hosts: shown before, held, stopped, healed by whoever comes; what is refused."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cli_lab import Lab, Result, status, until
from fault_hosts import Lab as Hosts
from fault_hosts import lab as hosts_lab

SLEEPER = '{"argv": ["sh", "-c", "while :; do sleep 0.05; done"]}'

SCENARIO = """
apiVersion: drkit/v1
kind: Scenario
metadata: {{name: hang, owner: nobody}}
hypothesis: "A hanging app is nobody's loss"
environment: lab
probes:
  calm: {{uses: process.exists, with: {{creates: "{folder}/calm"}}}}
  alarm: {{uses: process.exists, with: {{creates: "{folder}/alarm"}}}}
  seen: {{uses: process.exists, with: {{creates: "{folder}/seen"}}}}
targets:
  apps: {{uses: host.inventory, where: {{role: {role}}}, max: "{max}", pick: "{pick}", never: [{never}]}}
steady_state:
  - {{expect: "probes.calm.exists", timeout: 2s}}
method:
  - {{id: hang, inject: host.process-pause, on: apps, with: {{service: app}}, duration: {duration}{more}}}
stop_when: ["probes.alarm.exists"]
"""

#: A fault that costs nothing, and one that is seen and stops the run.
TWO = """
apiVersion: drkit/v1
kind: Scenario
metadata: {{name: two, owner: nobody}}
hypothesis: "A hanging app is nobody's loss"
environment: lab
probes:
  calm: {{uses: process.exists, with: {{creates: "{folder}/calm"}}}}
  second: {{uses: host.processes, with: {{host: app-2, service: app}}}}
targets:
  one: {{uses: host.inventory, where: {{role: app}}, never: [app-2]}}
  other: {{uses: host.inventory, where: {{role: app}}, never: [app-1]}}
steady_state:
  - {{expect: "probes.calm.exists", timeout: 2s}}
method:
  - {{id: brief, inject: host.process-pause, on: one, with: {{service: app}}, duration: 100ms}}
  - {{id: hang, inject: host.process-pause, on: other, with: {{service: app}}, duration: 60s}}
stop_when: ["probes.second.stopped > 0"]
"""


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    files = {"files": {"etc/services/app.json": SLEEPER}, "boot": ["svc start app"]}
    with hosts_lab(tmp_path_factory.mktemp("lab"), {"app-1": files, "app-2": files}) as found:
        yield found


@pytest.fixture
def chaos(lab: Lab, hosts: Hosts) -> Lab:
    """The project with two hosts in it, a role for them, and a scenario."""
    for name in hosts.ready:  # its leases are counted from 1: they are no successors of another test's
        (hosts.root(name) / "var/lib/drkit/fence").unlink(missing_ok=True)
    toml = lab.folder / "drkit.toml"
    toml.write_text(toml.read_text() + hosts.toml("us-east-1"))
    (lab.folder / "scenarios").mkdir()
    (lab.folder / "calm").touch()
    scenario(lab)
    return lab


def scenario(lab: Lab, **changes: str) -> None:
    words = {"role": "app", "max": "50%", "pick": "1", "never": "", "duration": "1s", "more": ""} | changes
    (lab.folder / "scenarios" / "hang.yaml").write_text(SCENARIO.format(folder=lab.folder, **words))


def held_until_seen(chaos: Lab) -> Path:
    """Make the scenario hold its fault until the file that is returned is there."""
    scenario(chaos, duration="10m", more=", noticed: probes.seen.exists")
    return chaos.folder / "seen"


def run(chaos: Lab, *words: str) -> Result:
    return chaos.process("chaos", "run", "hang", "--confirm", "lab", *words)


def hanging(hosts: Hosts) -> list[str]:
    """Hosts whose app the kernel does not schedule."""
    found = []
    for name in hosts.ready:
        pid = json.loads(hosts.inside(name, "bin/svc", "status", "app"))["pid"]
        if "State:\tT" in Path(f"/proc/{pid}/status").read_text():
            found.append(name)
    return found


def journal(chaos: Lab, of: str = "last") -> list[dict[str, Any]]:
    lines = chaos.drkit("events", of, "-o", "jsonl").stdout.splitlines()
    return [json.loads(line) for line in lines[1:]]


def wanted(row: dict[str, Any]) -> list[tuple[str, str | None]]:
    """What a row of the journal caused: verb and step."""
    return [(each["verb"], each["step"]) for each in row["commands"]]


def test_a_dry_run_shows_targets_commands_and_reverts_and_breaks_nothing(chaos: Lab, hosts: Hosts) -> None:
    told = json.loads(chaos.drkit("chaos", "run", "hang", "--dry-run", "-o", "json").stdout)
    (one,) = told["breaks"]
    assert one["at"] in hosts.ready and one["fault"] == "host.process-pause"
    assert "kill -STOP" in one["inject"] and "kill -CONT" in one["revert"] and one["lease"]
    assert (one["simulated"], one["unfenced"]) == (None, False)
    again = json.loads(chaos.drkit("chaos", "run", "hang", "--dry-run", "-o", "json").stdout)
    assert (told["hash"], told["breaks"]) == (again["hash"], again["breaks"])
    assert hanging(hosts) == [] and chaos.drkit("runs", "-o", "json").stdout.count("run") == 0


def test_a_fault_is_held_and_healed_and_the_hypothesis_judged(chaos: Lab, hosts: Hosts) -> None:
    done = run(chaos)
    assert done.returncode == 0, done.stderr
    states = [row["fact"]["state"] for row in journal(chaos) if row["fact"]["kind"] == "fault.changed"]
    assert states == ["armed", "injected", "healed"]
    assert hanging(hosts) == []
    assert chaos.drkit("chaos", "leftovers").returncode == 0


def test_a_breach_heals_at_once_and_shrink_finds_which_fault_it_was(chaos: Lab, hosts: Hosts) -> None:
    (chaos.folder / "scenarios" / "two.yaml").write_text(TWO.format(folder=chaos.folder))
    assert chaos.drkit("chaos", "run", "two", "--confirm", "lab").returncode == 1
    rows = journal(chaos)
    failed = status(chaos)["run"]
    aborts = [row for row in rows if row["fact"].get("verb") == "abort"]
    assert len(aborts) == 1, [row["fact"] for row in rows if row["fact"]["kind"] not in ("run.opened", "lease.changed")]
    (stopped,) = aborts
    assert stopped["fact"]["by"]["how"] == "stop_when" and "probes.second.stopped" in stopped["fact"]["reason"]
    # What heals waits for nothing but its fault's own end of being injected: neither for its hold nor for a timer.
    cause = next(row for row in rows if ("prepare", "heal-hang-app-2") in wanted(row))
    assert cause is stopped or cause["fact"]["step"] == "hang-app-2"
    done = [row["fact"]["step"] for row in rows if row["fact"]["kind"] == "step.done"]
    assert "heal-hang-app-2" in done and "hold-hang-app-2" not in done
    assert hanging(hosts) == []

    shrunk = chaos.drkit("chaos", "shrink", failed, "--confirm", "lab", "-o", "json")
    assert shrunk.returncode == 0, shrunk.stderr
    told = json.loads(shrunk.stdout)
    assert told["broken"] == ["stop_when: probes.second.stopped > 0"]
    assert told["faults"] == ["brief-app-1", "hang-app-2"]
    assert [(each["faults"], each["outcome"]) for each in told["attempts"]] == [
        (["brief-app-1", "hang-app-2"], "fails"), (["brief-app-1"], "holds"), (["hang-app-2"], "fails"),
    ]  # fmt: skip
    assert (told["smallest"], told["minimal"], told["stopped"]) == (["hang-app-2"], True, None)
    runs = [each["run"] for each in told["attempts"]]
    assert [status(chaos, run)["outcome"] for run in runs] == ["aborted", "done", "aborted"]
    assert hanging(hosts) == [] and chaos.drkit("chaos", "leftovers").returncode == 0

    words = told["replay"].split()[1:]
    assert words == ["chaos", "replay", runs[-1], "--env", "lab"]
    again = json.loads(chaos.drkit(*words, "--dry-run", "-o", "json").stdout)
    assert [one["step"] for one in again["breaks"]] == ["hang-app-2"]
    held = chaos.drkit("chaos", "shrink", runs[1], "--confirm", "lab")
    assert held.returncode == 3 and "did not fail" in held.stderr and f"drkit report {runs[1]}" in held.stderr


def test_a_hypothesis_that_does_not_hold_afterwards_is_false(
    chaos: Lab, hosts: Hosts, private_state_home: Path
) -> None:  # fmt: skip
    seen = held_until_seen(chaos)
    going = chaos.process("chaos", "run", "hang", "--confirm", "lab", "--detach").stdout.split()[0]
    until(lambda: hanging(hosts) != [])
    (chaos.folder / "calm").unlink()
    seen.touch()
    until((private_state_home / "drkit" / "runs" / going / "exit.json").exists)  # the runner judges last
    assert chaos.drkit("status", going, "--exit-status").returncode == 4
    assert hanging(hosts) == []


def test_the_lever_heals_what_is_held_and_refuses_what_is_new(chaos: Lab, hosts: Hosts) -> None:
    scenario(chaos, duration="60s")
    going = chaos.process("chaos", "run", "hang", "--confirm", "lab", "--detach").stdout.split()[0]
    until(lambda: hanging(hosts) != [])
    left = chaos.drkit("chaos", "leftovers", "-o", "json")
    assert left.returncode == 1 and json.loads(left.stdout)["markers"][0]["run"] == going
    assert chaos.drkit("chaos", "lever", "engage", "--reason", "incident 7").returncode == 0
    until(lambda: hanging(hosts) == [])
    until(lambda: status(chaos, going)["outcome"] == "aborted")
    refused = run(chaos)
    assert refused.returncode == 3 and "incident 7" in refused.stderr and "lever release" in refused.stderr
    assert chaos.drkit("chaos", "lever", "release", "--reason", "over").returncode == 0
    assert json.loads(chaos.drkit("chaos", "lever", "status", "-o", "json").stdout)["engaged"] is False


def test_stop_heals_from_markers_alone_from_a_machine_that_knows_no_run(
    chaos: Lab, hosts: Hosts, tmp_path: Path
) -> None:
    scenario(chaos, duration="60s")
    going = chaos.process("chaos", "run", "hang", "--confirm", "lab", "--detach").stdout.split()[0]
    until(lambda: hanging(hosts) != [])
    elsewhere = {"XDG_STATE_HOME": str(tmp_path / "state-elsewhere")}
    assert json.loads(chaos.drkit("runs", "-o", "json", **elsewhere).stdout or "[]") in ([], {"runs": []})
    assert chaos.drkit("chaos", "leftovers", **elsewhere).returncode == 1
    assert chaos.drkit("chaos", "stop", "--all", **elsewhere).returncode == 0
    assert hanging(hosts) == []
    assert chaos.drkit("chaos", "leftovers", **elsewhere).returncode == 0
    chaos.drkit("abort", going, "--reason", "over")


def turned_away(row: dict[str, Any]) -> bool:
    """By the fact that a drill's lease is lost, or by the order to end."""
    fact = row["fact"]
    return fact.get("state") == "lost" or (fact["kind"], fact.get("verb")) == ("operator.ordered", "abort")


def test_a_real_run_takes_the_lease_of_a_drill_and_its_faults_are_healed(chaos: Lab, hosts: Hosts) -> None:
    scenario(chaos, duration="120s")
    going = chaos.process("chaos", "run", "hang", "--confirm", "lab", "--detach").stdout.split()[0]
    until(lambda: hanging(hosts) != [])
    begun = chaos.process("run", "walk", "--confirm", "lab", "--detach")
    assert begun.returncode == 0 and going in begun.stderr, begun.stderr
    until(lambda: hanging(hosts) == [])
    # Whoever heals orders it to end; it may notice before that its lease is lost. Either way it breaks nothing more.
    until(lambda: any(map(turned_away, journal(chaos, going))))
    real, rows = begun.stdout.split()[0], journal(chaos, going)
    (drill, mine) = (
        next(row["fact"]["token"] for row in journal(chaos, run) if row["fact"].get("state") == "held")
        for run in (going, real)
    )  # fmt: skip
    assert mine > drill
    away = next(number for number, row in enumerate(rows) if turned_away(row))
    later = [each for row in rows[away:] for each in row["commands"] if each["verb"] in ("prepare", "apply")]
    assert {each["step"] for each in later} <= {"heal-hang-app-2"}, later
    lever = json.loads(chaos.drkit("chaos", "lever", "status", "-o", "json").stdout)
    assert lever["engaged"] and going in lever["lever"]
    chaos.drkit("abort", real, "--reason", "over")


@pytest.mark.parametrize(
    ("changes", "code", "said", "hint"),
    [
        ({"never": "app"}, 3, "matches nothing", "change targets.apps.where"),
        ({"role": "nobody"}, 3, "matches nothing", "change targets.apps.where"),
        ({"max": "10%"}, 3, "would hit 1 of 2, and max is 10% (0)", "raise targets.apps.max"),
        ({"pick": "2", "max": "1"}, 3, "would hit 2 of 2, and max is 1", "pick: 1"),
        ({"pick": "2", "max": "2"}, 3, "nothing of app in us-east-1 would be left", "narrow targets.apps.where"),
        ({"pick": "many"}, 2, "neither a number nor a share", "write 2 or 30%"),
    ],
)
def test_targets_that_do_not_fit_are_refused_before_anything(
    chaos: Lab, hosts: Hosts, changes: dict[str, str], code: int, said: str, hint: str
) -> None:
    scenario(chaos, **changes)
    refused = chaos.drkit("chaos", "run", "hang", "--confirm", "lab")
    assert refused.returncode == code and said in refused.stderr and hint in refused.stderr, refused.stderr
    assert "Nothing was changed." in refused.stderr
    assert hanging(hosts) == [] and json.loads(chaos.drkit("runs", "-o", "json").stdout) == []


def test_production_is_never_broken_unasked(chaos: Lab, hosts: Hosts) -> None:
    toml = chaos.folder / "drkit.toml"
    toml.write_text(toml.read_text().replace('kind = "staging"', 'kind = "production"'))
    for words, code, said in (
        (("--confirm", "lab"), 3, "add --allow-production"),
        (("--allow-production",), 2, "add --confirm lab"),
        (("--allow-production", "--confirm", "prod"), 2, "nothing was confirmed"),
    ):
        refused = chaos.drkit("chaos", "run", "hang", *words)
        assert refused.returncode == code and said in refused.stderr, refused.stderr
        assert "Nothing was changed." in refused.stderr
    assert hanging(hosts) == [] and json.loads(chaos.drkit("runs", "-o", "json").stdout) == []


def test_a_probe_that_cannot_run_lets_nothing_be_broken(chaos: Lab, hosts: Hosts) -> None:
    path = chaos.folder / "scenarios" / "hang.yaml"
    silent = 'calm: {uses: http.health, with: {url: "http://127.0.0.1:9/"}}'
    text = path.read_text().replace(f'calm: {{uses: process.exists, with: {{creates: "{chaos.folder}/calm"}}}}', silent)
    path.write_text(text.replace("probes.calm.exists", "probes.calm.ok"))
    done = run(chaos)
    assert done.returncode == 1 and "steady-1  not so within 2 s" in done.stdout, done.stdout + done.stderr
    assert "cannot be connected to" in done.stdout and f"Next: drkit status {status(chaos)['run']}" in done.stderr
    assert not [row for row in journal(chaos) if row["fact"].get("step", "").startswith("hang")]
    assert hanging(hosts) == []


def test_a_fault_whose_lease_cannot_be_armed_is_not_injected(chaos: Lab, hosts: Hosts) -> None:
    broken = [hosts.root(name) / "bin" / "setsid" for name in hosts.ready]
    for path in broken:
        path.write_text("#!/bin/sh\nexit 1\n")
        path.chmod(0o755)
    try:
        done = run(chaos)
        assert done.returncode == 1 and "lease could not be armed" in done.stdout + done.stderr
        facts = [row["fact"] for row in journal(chaos)]
        changes = [each for each in facts if each["kind"] == "fault.changed"]
        assert [(each["id"].rpartition("-app")[0], each["state"]) for each in changes] == [("hang", "never-injected")]
        (told,) = json.loads(chaos.drkit("report", "last", "-o", "json").stdout)["faults"]
        assert {told[name] for name in ("injected_at", "reverted_at", "reverted_by", "verified_clean")} == {None}
        assert not [each for each in facts if each["kind"] == "step.done" and each["step"].startswith("hang")]
        assert "drkit chaos leftovers --env lab" in done.stderr
        assert hanging(hosts) == []
        assert chaos.drkit("chaos", "leftovers").returncode == 0
    finally:
        for path in broken:
            path.unlink()


def test_a_revert_that_fails_fails_the_run_and_says_what_is_left(chaos: Lab, hosts: Hosts) -> None:
    seen = held_until_seen(chaos)
    going = chaos.process("chaos", "run", "hang", "--confirm", "lab", "--detach").stdout.split()[0]
    until(lambda: hanging(hosts) != [])
    (host,) = hanging(hosts)
    folder = hosts.root(host) / "var/lib/drkit/faults"
    until(lambda: any(path.read_text().startswith("injected") for path in folder.glob("*/state")))
    (state,) = (path for path in folder.glob("*/state") if path.read_text().startswith("injected"))
    revert = state.with_name("revert")
    good = revert.read_text()
    revert.write_text("echo no such luck; exit 3")
    seen.touch()
    until(lambda: status(chaos, going)["phase"] in ("paused", "finished"))
    told = chaos.drkit("status", going)
    assert f"host.process-pause on {host} is not healed: reverting failed: no such luck" in told.stdout
    assert f"Next: drkit retry {going} heal-hang-{host}" in told.stderr
    assert chaos.drkit("status", going, "--exit-status").returncode == 1
    left = chaos.drkit("chaos", "leftovers")
    assert f"host {host}" in left.stdout and "Next: drkit chaos stop --all --env lab" in left.stderr
    revert.write_text(good)
    assert chaos.drkit("chaos", "stop", "--all").returncode == 0
    assert hanging(hosts) == [] and chaos.drkit("chaos", "leftovers").returncode == 0


def test_a_scheduled_scenario_picks_among_what_opts_in_and_heals(
    chaos: Lab, hosts: Hosts, private_state_home: Path
) -> None:
    toml = chaos.folder / "drkit.toml"
    calendar = '\n[calendars.c]\nseed = "7"\nopt_in = ["app"]\nopt_out = ["fragile"]\n'
    toml.write_text(toml.read_text().replace('roles = ["app"]', 'roles = ["app", "fragile"]', 1) + calendar)
    scenario(chaos, pick="2")
    at = datetime.fromtimestamp(time.time() - 60, UTC)
    file = chaos.folder / "scenarios" / "hang.yaml"
    schedule = f'schedule: {{cron: "{at.minute} {at.hour} * * *", calendar: c, tags: [app], start_within: 30m}}'
    file.write_text(file.read_text() + schedule)
    once = chaos.process("schedule", "run", "--once", "--confirm", "lab", "-o", "jsonl")
    assert once.returncode == 0, once.stderr
    allowed, started = (json.loads(line) for line in once.stdout.splitlines() if "drkit.decision/1" in line)
    told = status(chaos)
    assert (told["run"], started["outcome"], told["outcome"]) == (allowed["run"], "started", "done")
    request = json.loads((private_state_home / "drkit" / "runs" / allowed["run"] / "request.json").read_text())
    picked = [step["params"]["host"] for step in request["plan"]["steps"] if step["part"] == "inject"]
    assert picked == ["app-2"] and hanging(hosts) == []  # the other one opts out
    assert chaos.drkit("chaos", "leftovers").returncode == 0
    repeated = json.loads(chaos.drkit("chaos", "replay", allowed["run"], "--dry-run", "-o", "json").stdout)
    assert [one["at"] for one in repeated["breaks"]] == picked
    assert repeated["steps"] == request["plan"]["steps"]
    again = chaos.process("schedule", "run", "--once", "--confirm", "lab", "-o", "jsonl")
    assert (again.returncode, again.stdout) == (0, "")


def test_a_run_is_repeated_as_it_was_or_refused_with_what_differs(chaos: Lab, hosts: Hosts) -> None:
    assert run(chaos).returncode == 0
    first = chaos.drkit("runs", "-o", "json").stdout
    told = json.loads(chaos.drkit("chaos", "run", "hang", "--dry-run", "-o", "json").stdout)
    before = [row["fact"]["step"] for row in journal(chaos) if row["fact"]["kind"] == "step.done"]
    same = json.loads(chaos.drkit("chaos", "replay", "last", "--dry-run", "-o", "json").stdout)
    assert same["hash"] == told["hash"]
    done = chaos.process("chaos", "replay", "last", "--confirm", "lab")
    assert done.returncode == 0, done.stderr
    assert chaos.drkit("runs", "-o", "json").stdout != first
    assert [row["fact"]["step"] for row in journal(chaos) if row["fact"]["kind"] == "step.done"] == before
    scenario(chaos, duration="2s")
    refused = chaos.process("chaos", "replay", "last", "--confirm", "lab")
    assert refused.returncode == 3 and "scenario_digest" in refused.stderr, refused.stderr
    scenario(chaos, never=told["breaks"][0]["at"])
    assert "under never" in chaos.drkit("chaos", "replay", "last", "--dry-run").stderr
    assert hanging(hosts) == []
