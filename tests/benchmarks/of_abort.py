"""How soon what was broken works again after `stop_when` comes true, by the real command on a real host.

The breach is a file that appears at a random moment; the end is what the kernel says of the processes that hung.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from fault_hosts import Lab, lab
from table import Row, run

TRIALS = 12
WITHIN_S = 60.0

PROJECT = """
environment = "lab"
[environments.lab]
kind = "staging"
account = "nobody"
state_store = "file://{folder}/store"
sites = [{{name = "us-east-1", kind = "region"}}, {{name = "us-west-2", kind = "region"}}]

[[environments.lab.hosts]]
name = "app-1"
site = "us-east-1"
address = {{host = "{host}", port = {port}}}
user = "drkit"
key = {{ref = "{key}"}}
known_host = "{known}"
machine_id = "{machine}"
"""
SCENARIO = """
apiVersion: drkit/v1
kind: Scenario
metadata: {{name: hang, owner: nobody}}
hypothesis: "It does not matter"
probes:
  alarm: {{uses: process.exists, with: {{creates: "{folder}/alarm"}}}}
method:
  - {{id: hang, inject: host.process-pause, with: {{host: app-1, service: app}}, duration: 2m}}
stop_when: ["probes.alarm.exists"]
"""


def rows() -> list[Row]:
    """Median and worst, from breach to reverted as seen from outside."""
    with tempfile.TemporaryDirectory(prefix="dr-bench-", dir="/var/tmp") as name:
        folder = Path(name)
        service = {"files": {"etc/services/app.json": '{"argv": ["sleep", "infinity"]}'}, "boot": ["svc start app"]}
        with lab(folder, {"app-1": service}) as hosts:
            _project(folder, hosts)
            chance = random.Random(1)
            took_s = [_trial(folder, hosts, chance.uniform(0, 1)) for _ in range(TRIALS)]
    note = f"median of {TRIALS}, longest {max(took_s):.2f} s; stop_when is looked at every 0.5 s"
    return [("abort: from breach to reverted", statistics.median(took_s), note)]


def _project(folder: Path, hosts: Lab) -> None:
    (host,) = hosts.environment.hosts
    text = PROJECT.format(
        folder=folder, host=host.address.host, port=host.address.port, key=host.key.ref, known=host.known_host,
        machine=host.machine_id,
    )  # fmt: skip
    (folder / "drkit.toml").write_text(text)
    (folder / "hang.yaml").write_text(SCENARIO.format(folder=folder))


def _trial(folder: Path, hosts: Lab, after_s: float) -> float:
    drkit = [sys.executable, "-m", "drkit.cli", "-C", str(folder)]
    with mock.patch.dict(os.environ, {"XDG_STATE_HOME": str(folder / "state")}):
        run([*drkit, "chaos", "run", str(folder / "hang.yaml"), "--confirm", "lab", "--detach"])
        _until(lambda: _hangs(hosts))
        time.sleep(after_s)
        began = time.monotonic()
        (folder / "alarm").touch()
        _until(lambda: not _hangs(hosts))
        took = time.monotonic() - began
        (folder / "alarm").unlink()
        _until(lambda: not _goes_on(folder))
    return took


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not holds():
        if time.monotonic() > deadline:
            sys.exit("the benchmark's drill did not come so far in time")
        time.sleep(0.005)


def _hangs(hosts: Lab) -> bool:
    told = json.loads((hosts.root("app-1") / "var/run/app.json").read_text())
    return ") T " in Path(f"/proc/{told['pid']}/stat").read_text()


def _goes_on(folder: Path) -> bool:
    journals = (folder / "state" / "drkit" / "runs").glob("*/journal.db")
    return any(not (journal.parent / "exit.json").exists() for journal in journals)
