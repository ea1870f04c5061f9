"""`drkit chaos shrink` on real hosts: killed at seeded moments and gone on with; two faults that fail only together."""

from __future__ import annotations

import json
import os
import random
import shlex
import subprocess
import time
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest
from chaos_kills import OVER
from cli_lab import PATIENCE_S, Lab, status, until
from fault_hosts import Lab as Hosts
from test_cli_chaos import TWO, chaos, hanging, hosts

from drkit.engine.runs import RunFolder

__all__ = ["chaos", "hosts"]  # fixtures

SEED = int(os.environ.get("KILLS_SEED", "47"))
KILLS = int(os.environ.get("KILLS", "8"))
#: A kill comes at random within so long after a try was seen to begin.
WITHIN_S = 3.0
LEASE_S = 8
#: Loads that cost nothing on either host; the run fails while both of the two that are guilty last.
TOGETHER = """
apiVersion: drkit/v1
kind: Scenario
metadata: {{name: together, owner: nobody}}
hypothesis: "No load is anybody's loss"
environment: lab
probes:
  calm: {{uses: process.exists, with: {{creates: "{folder}/calm"}}}}
  one: {{uses: host.processes, with: {{host: app-1, service: app}}}}
  other: {{uses: host.processes, with: {{host: app-2, service: app}}}}
steady_state:
  - {{expect: "probes.calm.exists", timeout: 2s}}
method:
  - {{id: a, inject: host.cpu-load, with: {{host: app-1, cores: 1, nice: 19}}}}
  - {{id: b, inject: host.process-pause, with: {{host: app-1, service: app}}}}
  - {{id: c, inject: host.cpu-load, with: {{host: app-2, cores: 1, nice: 19}}}}
  - {{id: d, inject: host.cpu-load, with: {{host: app-1, cores: 1, nice: 18}}}}
  - {{id: e, inject: host.process-pause, with: {{host: app-2, service: app}}, duration: 8s}}
stop_when: ["probes.one.stopped > 0 && probes.other.stopped > 0"]
"""


def runs(chaos: Lab) -> list[RunFolder]:
    """Those that were asked for, the oldest first."""
    found = Path(chaos.environment["XDG_STATE_HOME"]) / "drkit" / "runs"
    return [
        RunFolder(path.parent) for path in sorted(found.glob("*/request.json"), key=lambda path: path.stat().st_mtime)
    ]


def tries(chaos: Lab, of: str) -> list[tuple[str, ...]]:
    """The sets of faults that searches for this run tried to the end."""
    found = []
    for folder in runs(chaos):
        options: dict[str, Any] = folder.request().options
        if options.get("search", {}).get("of") == of and (folder.ended() or {}).get("outcome") is not None:
            found.append(tuple(options["only"]))
    return found


def marks(hosts: Hosts) -> list[tuple[str, ...]]:
    """What hosts remember: state, who ended it, owner."""
    states = [path for name in hosts.ready for path in (hosts.root(name) / "var/lib/drkit/faults").glob("*/state")]
    return [tuple(path.read_text().split()) for path in states]


def killed(chaos: Lab, of: str, chance: random.Random) -> RunFolder:
    """Kill a search, and the run that it had just begun, at a moment of that run; the run's folder."""
    before = {folder.id for folder in runs(chaos)}
    search = subprocess.Popen(
        chaos.command("chaos", "shrink", of, "--confirm", "lab"), cwd=chaos.folder, env=chaos.environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    nth = chance.randint(1, 2)
    try:
        until(lambda: sum(folder.id not in before and folder.journal.exists() for folder in runs(chaos)) >= nth)
        time.sleep(chance.uniform(0, WITHIN_S))  # the moment is what is drawn
    finally:
        search.kill()
        search.wait()
    last = runs(chaos)[-1]
    runner = last.runner()
    if runner is not None and not runner.dead:
        os.kill(runner.pid, SIGKILL)
    return last


def failed(chaos: Lab, scenario: str) -> str:
    """A run of this scenario that broke what it expects; its id."""
    done = chaos.process("chaos", "run", scenario, "--confirm", "lab")
    assert done.returncode == 1, done.stdout + done.stderr
    run: str = status(chaos)["run"]
    return run


def search_killed(chaos: Lab, hosts: Hosts, kills: int) -> None:
    leased = TWO.replace("{{service: app}}", f"{{{{service: app, lease_s: {LEASE_S}}}}}")
    (chaos.folder / "scenarios" / "two.yaml").write_text(leased.format(folder=chaos.folder))
    run, chance = failed(chaos, "two"), random.Random(SEED)
    for _ in range(kills):
        cut = killed(chaos, run, chance)
        until(lambda: all(state in OVER for state, *_ in marks(hosts)))  # nobody is left to do it but their leases
        assert hanging(hosts) == [] and chaos.drkit("chaos", "leftovers").returncode == 0
        again = chaos.drkit("chaos", "shrink", run, "--confirm", "lab", "--max-runs", "1")
        if again.returncode == 7:  # the run that was cut off still holds the environment, and it is said how to end it
            hint = again.stderr.partition("Fix:")[2].strip()
            assert hint == f"drkit chaos stop --run {cut.id} --env lab", again.stderr
            assert chaos.process(*shlex.split(hint)[1:]).returncode == 0
    ended = tries(chaos, run)
    found = chaos.process("chaos", "shrink", run, "--confirm", "lab", "-o", "json", timeout_s=3 * PATIENCE_S)
    assert found.returncode == 0, found.stderr
    told = json.loads(found.stdout)
    assert (told["smallest"], told["minimal"]) == (["hang-app-2"], True)
    if ended:
        assert "Going on with the search of" in found.stderr
    assert len(tries(chaos, run)) == len(set(tries(chaos, run)))  # what had ended was not tried again
    assert hanging(hosts) == [] and chaos.drkit("chaos", "leftovers").returncode == 0


def test_what_a_killed_search_broke_heals_itself_and_it_is_gone_on_with(chaos: Lab, hosts: Hosts) -> None:
    search_killed(chaos, hosts, 1)


@pytest.mark.soak
def test_a_search_that_is_killed_over_and_over_comes_to_its_end(chaos: Lab, hosts: Hosts) -> None:
    search_killed(chaos, hosts, KILLS)


@pytest.mark.soak
def test_of_five_faults_the_two_that_fail_only_together_are_found(chaos: Lab, hosts: Hosts) -> None:
    (chaos.folder / "scenarios" / "together.yaml").write_text(TOGETHER.format(folder=chaos.folder))
    found = chaos.process(
        "chaos", "shrink", failed(chaos, "together"), "--confirm", "lab", "-o", "json", timeout_s=10 * PATIENCE_S
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    told = json.loads(found.stdout)
    assert (told["faults"], told["smallest"], told["minimal"]) == ([*"abcde"], ["b", "e"], True)
    alone = {tuple(each["faults"]): each["outcome"] for each in told["attempts"]}
    assert (alone[("b",)], alone[("e",)]) == ("holds", "holds")
    assert hanging(hosts) == [] and chaos.drkit("chaos", "leftovers").returncode == 0
