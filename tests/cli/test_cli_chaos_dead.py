"""Who comes after a run that broke something and whose machine died: the fault is ended at once, the environment free.

The other machine is a namespace of processes of its own, so that nobody outside can tell whether its processes live.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_lab import Lab, status, until
from fault_hosts import Lab as Hosts
from test_cli_chaos import chaos, hanging, hosts, journal, scenario

__all__ = ["chaos", "hosts"]  # fixtures

APART = ("unshare", "--fork", "--pid", "--mount-proc", "--kill-child", "--")
needs_namespaces = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root: a namespace of processes"
)


class Elsewhere:
    """A machine of its own, and its run that broke something."""

    def __init__(self, chaos: Lab, hosts: Hosts, state: Path) -> None:
        words = [*APART, *chaos.command("chaos", "run", "hang", "--confirm", "lab")]
        self.process = subprocess.Popen(
            words, cwd=chaos.folder, env=chaos.environment | {"XDG_STATE_HOME": str(state)}, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        until(lambda: hanging(hosts) != [])
        (folder,) = (state / "drkit" / "runs").iterdir()
        self.run = folder.name

    def dies(self) -> None:
        """With everything on it, in an instant."""
        self.process.kill()
        self.process.wait()


@pytest.fixture
def elsewhere(chaos: Lab, hosts: Hosts, tmp_path: Path) -> Iterator[Elsewhere]:
    scenario(chaos, duration="10m")
    found = Elsewhere(chaos, hosts, tmp_path / "state-elsewhere")
    yield found
    found.dies()


def healed_by(hosts: Hosts, run: str) -> list[str]:
    """Who healed what this run broke, as hosts wrote it down."""
    states = [path.read_text().split() for name in hosts.ready for path in
              (hosts.root(name) / "var/lib/drkit/faults").glob("*/state")]  # fmt: skip
    return [by for state, by, owner in states if state == "healed" and run in owner]


@needs_namespaces
@pytest.mark.parametrize("dead", [True, False], ids=["dead", "alive"])
def test_the_refused_command_names_what_heals_it_and_frees_the_environment(
    chaos: Lab, hosts: Hosts, elsewhere: Elsewhere, dead: bool
) -> None:
    if dead:
        elsewhere.dies()
    refused = chaos.drkit("chaos", "run", "hang", "--confirm", "lab")
    assert refused.returncode == 7 and f"Drill {elsewhere.run} by" in refused.stderr, refused.stderr
    command = refused.stderr.partition("Fix:")[2].strip()
    assert command == f"drkit chaos stop --run {elsewhere.run} --env lab"
    stopped = chaos.process(*shlex.split(command)[1:])
    assert stopped.returncode == 0 and "lab is free." in stopped.stderr, stopped.stdout + stopped.stderr
    assert hanging(hosts) == [] and healed_by(hosts, elsewhere.run) == ["drkit"]
    assert chaos.drkit("chaos", "leftovers").returncode == 0
    scenario(chaos)
    again = chaos.process("chaos", "run", "hang", "--confirm", "lab")
    assert again.returncode == 0, again.stderr
    elsewhere.dies()


@needs_namespaces
def test_a_real_run_takes_the_environment_of_a_drill_whose_machine_died(
    chaos: Lab, hosts: Hosts, elsewhere: Elsewhere
) -> None:
    elsewhere.dies()
    begun = chaos.process("run", "walk", "--confirm", "lab", "--detach")
    assert begun.returncode == 0 and f"{elsewhere.run}, a drill, holds lab" in begun.stderr, begun.stderr
    until(lambda: hanging(hosts) == [])
    until(lambda: healed_by(hosts, elsewhere.run) == ["drkit"])
    real = begun.stdout.split()[0]
    assert status(chaos, real)["phase"] in ("running", "waiting")
    chaos.drkit("abort", real, "--reason", "over")
    until(lambda: status(chaos, real)["outcome"] == "aborted")


def test_a_killed_run_that_was_stopped_ends_when_it_is_resumed_and_breaks_nothing_more(
    chaos: Lab, hosts: Hosts, private_state_home: Path
) -> None:
    scenario(chaos, duration="10m")
    run = chaos.process("chaos", "run", "hang", "--confirm", "lab", "--detach").stdout.split()[0]
    until(lambda: hanging(hosts) != [])
    os.kill(
        json.loads((private_state_home / "drkit" / "runs" / run / "runner.json").read_text())["pid"], signal.SIGKILL
    )
    refused = chaos.drkit("chaos", "run", "hang", "--confirm", "lab")
    assert f"Fix:  drkit chaos stop --run {run} --env lab" in refused.stderr
    stopped = chaos.process("chaos", "stop", "--all")
    assert stopped.returncode == 0 and "lab is free." in stopped.stderr, stopped.stderr
    assert hanging(hosts) == []
    assert chaos.process("resume", run).returncode == 1
    assert status(chaos, run)["outcome"] == "aborted"
    sent = [command["step"] for row in journal(chaos, run) for command in row["commands"] if command["verb"] == "apply"]
    assert len([step for step in sent if step.startswith("hang")]) == 1 and hanging(hosts) == []


def test_a_heal_that_is_stuck_keeps_nobody_else_from_healing(chaos: Lab, hosts: Hosts, tmp_path: Path) -> None:
    scenario(chaos, duration="10m")
    run = chaos.process("chaos", "run", "hang", "--confirm", "lab", "--detach").stdout.split()[0]
    folders = [hosts.root(name) / "var/lib/drkit/faults" for name in hosts.ready]
    until(lambda: [path for folder in folders for path in folder.glob("*/state") if run in path.read_text()] != [])
    until(lambda: hanging(hosts) != [])
    (state,) = (path for folder in folders for path in folder.glob("*/state") if run in path.read_text())
    revert = state.with_name("revert")
    good = revert.read_text()
    revert.write_text("exit 3")
    first = chaos.process("chaos", "stop", "--all")
    assert first.returncode == 1 and "is locked" not in first.stderr, first.stderr
    revert.write_text(good)
    second = chaos.drkit("chaos", "stop", "--all", XDG_STATE_HOME=str(tmp_path / "state-elsewhere"))
    assert second.returncode == 0 and hanging(hosts) == [], second.stderr
    assert chaos.drkit("chaos", "leftovers").returncode == 0
