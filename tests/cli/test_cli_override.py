"""The override of a fence as people type it: two Unix users, no drill's policy, and red in the report.

The kernel says who asks, so the second person really is another user of this machine: that takes root.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cli_lab import Lab, Result, end_runners, status, until

GROUP, LEE, STRANGER = 61000, 61002, 61003
PROJECT = """
environment = "lab"

[environments.lab]
kind = "staging"
account = "nobody (..0000)"
state_store = "file://{folder}/store"
people = [
  {{name = "dana", uid = 0, roles = ["incident-commander"]}},
  {{name = "lee", uid = {lee}, roles = ["database-owner"]}},
]
sites = [
  {{name = "us-east-1", kind = "region"}}, {{name = "us-west-2", kind = "region"}},
  {{name = "onprem", kind = "on-prem"}},
]
witness = {{name = "witness", site = "onprem", url = "http://127.0.0.1:1", term_s = 0.2, margin_s = 0.1}}

[[environments.lab.databases]]
name = "orders"
site = "us-east-1"
address = {{host = "127.0.0.1", port = 1}}
dbname = "shop"
user = "nobody"
password = {{ref = "secret://file/{folder}/password"}}
system_identifier = "1"
"""
RUNBOOK = """
apiVersion: drkit/v1
kind: Runbook
metadata: {{name: walk, owner: nobody}}
steps:
  - {{id: fence, uses: postgres.fence, with: {{database: orders, site: source}}}}
  - {{id: after, uses: process.run, with: {{creates: "{folder}/made/after", argv: [touch, "{folder}/made/after"]}}}}
"""
SCENARIO = """
apiVersion: drkit/v1
kind: Scenario
metadata: {{name: rehearsal, owner: nobody}}
hypothesis: "Nobody but two persons passes a fence that was not observed"
source: us-east-1
target: us-west-2
probes:
  made: {{uses: process.exists, with: {{creates: "{folder}/made/after"}}}}
steady_state:
  - {{expect: "!probes.made.exists"}}
method:
  - {{id: recovery, run: runbook/walk, mode: drill}}
approvals: {{incident-commander: approve, database-owner: approve}}
"""


@pytest.fixture
def shared() -> Iterator[Lab]:
    """A project, and a state folder that was given to a group; other users may pass through to both."""
    if os.geteuid() != 0:
        pytest.skip("a second Unix user takes root")
    folder = Path(tempfile.mkdtemp(prefix="drkit-test-"))
    folder.chmod(0o755)
    for name in ("runbooks", "scenarios", "made", "store", "state"):
        (folder / name).mkdir()
    os.chown(folder / "state", 0, GROUP)
    (folder / "state").chmod(0o2770)
    (folder / "password").write_text("nobody asks\n")
    (folder / "drkit.toml").write_text(PROJECT.format(folder=folder, lee=LEE))
    (folder / "runbooks" / "walk.yaml").write_text(RUNBOOK.format(folder=folder))
    (folder / "scenarios" / "rehearsal.yaml").write_text(SCENARIO.format(folder=folder))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DRKIT_")}
    yield Lab(folder, clean | {"XDG_STATE_HOME": str(folder / "state"), "COLUMNS": "160"})
    end_runners(folder / "state")
    shutil.rmtree(folder)


@contextmanager
def another_user(uid: int, gid: int = GROUP) -> Iterator[None]:
    """We are somebody else of this machine, until the end of the block."""
    groups = os.getgroups()
    os.setgroups([])
    os.setresgid(gid, gid, 0)
    os.setresuid(uid, uid, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)
        os.setgroups(groups)


def says(result: Result, code: int, *words: str) -> None:
    assert result.returncode == code, (result.returncode, result.stdout, result.stderr)
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr + result.stdout, (word, result.stdout, result.stderr)


def test_two_unix_users_pass_a_fence_that_no_policy_and_no_single_person_passes(shared: Lab) -> None:
    lab = shared
    says(lab.drkit("drill", "run", "rehearsal", "--confirm", "lab"), 1, "may still be writing", "drkit override-fence")
    run = status(lab)["run"]
    order = ("override-fence", run, "fence", "--reason", "the witness burnt down", "--accept-data-loss")

    says(lab.drkit("skip", run, "fence", "--reason", "x"), 3, "never skipped")
    with another_user(STRANGER):
        says(lab.drkit(*order, "30s"), 3, "two persons of drkit.toml")
    with another_user(STRANGER, gid=STRANGER):
        says(lab.drkit(*order, "30s"), 2, "not shared with you")
    says(lab.drkit(*order, "30s"), 0, "accepted")
    until(lambda: status(lab)["phase"] == "waiting")
    says(lab.drkit("status", run), 0, "30.0 s of writes lost, as dana stated", "loss_s 30")
    says(lab.drkit(*order, "30s"), 3, "already overridden")
    says(lab.drkit("approve", run, "fence", "--reason", "again"), 3, "another person")
    assert not (lab.folder / "made" / "after").exists()
    with another_user(LEE):
        says(lab.drkit(*order, "5s"), 3, "must state the same")
        says(lab.drkit("approve", run, "fence", "--reason", "I saw the smoke"), 0, "accepted", '"loss_s": 30.0')
    until(lambda: status(lab)["outcome"] == "done")
    until(lambda: (lab.folder / "reports" / run / "report.json").exists())

    events = [json.loads(line) for line in lab.drkit("events", run).stdout.splitlines()][1:]
    asked, agreed = (event for event in events if event["fact"]["kind"] in ("operator.ordered", "gate.answered"))
    assert asked["at"] < agreed["at"]
    dana, lee = asked["fact"]["by"], agreed["fact"]["by"]
    assert (dana["name"], dana["uid"], lee["name"], lee["uid"]) == ("dana", 0, "lee", LEE)
    assert (dana["how"], lee["how"]) == ("unix socket peer", "unix socket peer")
    assert (asked["fact"]["args"], agreed["fact"]["reason"]) == ({"loss_s": 30.0}, "I saw the smoke")

    report = lab.folder / "reports" / run
    told = json.loads((report / "report.json").read_text())
    (override,) = told["fence_overrides"]
    assert (override["step"], override["by"], override["stated_loss_seconds"]) == ("fence", ["dana", "lee"], 30.0)
    page = (report / "report.html").read_text()
    assert '<section class="alarm"><b>Fence overridden.</b>' in page and "Passed, not fenced: fence" in page
    says(lab.drkit("report", run, "--format", "md"), 0, "FENCE OVERRIDDEN", "dana and lee")
