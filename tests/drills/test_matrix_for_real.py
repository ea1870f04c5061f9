"""Cells of the drill matrix struck in real drills, through the command line: none is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from worlds import place

from drkit.drill.matrix import Fault

SHORT = {
    "runbooks/short.yaml": """
apiVersion: drkit/v1
kind: Runbook
metadata: {name: short, owner: nobody}
steps:
  - id: keys
    uses: aws.kms.grant
    with: {alias: alias/reliabletech-data, grantee: "arn:aws:iam::123456789012:role/reliabletech-app"}
""",
    "scenarios/short.yaml": """
apiVersion: drkit/v1
kind: Scenario
metadata: {name: short, owner: nobody}
hypothesis: The key can be granted
environment: sandbox
source: us-east-1
target: us-west-2
probes:
  users: {uses: measure.users}
steady_state:
  - {expect: "probes.users.success_rate >= 0.99", hold: 3s, timeout: 60s}
method:
  - {id: recovery, run: runbook/short, mode: drill}
""",
}


def struck(*words: str, runbook: str = "reliabletech", files: dict[str, str] | None = None, code: int = 0) -> Any:
    """What the command says of a matrix in the sandbox."""
    with place() as made:
        for name in ("runbooks", "scenarios") if files else ():
            (made.project / name).unlink()
            (made.project / name).mkdir()
        for name, text in (files or {}).items():
            (made.project / name).write_text(text)
        told = made.seat().expect(
            code, "drill", "matrix", runbook, "--env", "sandbox", *words, "-o", "json", timeout_s=4 * 3600
        )  # fmt: skip
        return json.loads(told.stdout)


def as_promised(told: Any) -> None:
    assert told["totals"]["wrong"] == 0, told["cells"]
    for cell in told["cells"]:
        stopped = cell["ending"] == "safe stop"
        assert stopped == (cell["next"] is not None) and cell["recovered"] == (True if stopped else None), cell


def test_a_permission_that_is_lost_after_the_effect_stops_the_run_and_its_next_command_recovers_it() -> None:
    told = struck("--only", "keys:after:denied", "--scenario", "short", runbook="short", files=SHORT)
    as_promised(told)
    (cell,) = told["cells"]
    assert cell["ending"] == "safe stop" and "not authorized" in cell["why"], cell


@pytest.mark.soak
def test_of_a_sample_with_every_fault_nothing_is_wrong_and_almost_all_is_resumed() -> None:
    told = struck("--sample", "24", "--seed", "1")
    as_promised(told)
    assert set(told["by_fault"]) == set(Fault)
    assert told["resumed_share"] is not None and told["resumed_share"] >= 0.9, told["cells"]
