"""Scenario files: what their parts mean is checked with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from plan_fakes import catalog, environment, write

from drkit.errors import FileError
from drkit.plan import files

GOOD = """\
apiVersion: drkit/v1
kind: Scenario
metadata: {name: loss, owner: payments-oncall}
hypothesis: "Losing the writer costs nobody an order"
environment: lab
parameters:
  replicas: {default: 3}
given:
  - {id: big, uses: k8s.scale, with: {deployment: web, to: "${ params.replicas }"}}
probes:
  web: {uses: k8s.replicas, with: {deployment: web, region: target}}
targets:
  web: {uses: k8s.replicas, where: {deployment: web}, max: 30%}
steady_state:
  - {expect: "probes.web.ready >= 1", hold: 2m}
method:
  - {id: cut, inject: db.cut, with: {cluster: orders, region: source}, on: web, duration: 4m}
  - {id: drill, run: runbook/checkout, mode: drill, start: 30s}
approvals:
  incident-commander: approve
stop_when: ["probes.web.ready == 0"]
objectives: {rto: 15m, rpo: 30s, detect: 60s}
"""


def mistakes(folder: Path, *changes: tuple[str, str], **more: Any) -> list[str]:
    text = GOOD
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "runbooks").mkdir(exist_ok=True)
    (folder / "scenarios").mkdir(exist_ok=True)
    (folder / "runbooks" / "checkout.yaml").write_text("x")
    try:
        files.check(write(folder / "scenarios", text), environment(), catalog(), **more)
    except FileError as error:
        return [f"{m.line}:{m.column} {m.message}" + (f" | {m.hint}" if m.hint else "") for m in error.mistakes]
    return []


def test_a_good_scenario(tmp_path: Path) -> None:
    assert mistakes(tmp_path) == []
    loaded = files.load_scenario(tmp_path / "scenarios" / "checkout.yaml")
    assert loaded.scenario.method[0].duration == 240
    assert loaded.scenario.objectives.detect == 60


def test_mistakes_of_meaning_are_all_reported(tmp_path: Path) -> None:
    assert mistakes(
        tmp_path,
        ("uses: k8s.scale", "uses: k8s.replicas"),
        ("probes.web.ready >= 1", "probes.wbe.ready >= 1"),
        ("on: web", "on: wbe"),
        ("inject: db.cut", "inject: db.promote"),
        ("runbook/checkout", "runbook/chekout"),
        ("probes.web.ready == 0", "probes.web.redy == 0"),
    ) == [
        "9:21 k8s.replicas changes nothing: a setting needs an action",
        '15:22 probes has no "wbe" | did you mean web?',
        "17:23 db.promote is an action, not a fault: nothing would heal it | drkit actions",
        '17:80 there is no target "wbe" | did you mean web?',
        '18:22 there is no runbook "chekout" | did you mean checkout?',
        '21:25 the answer of k8s.replicas has no "redy" | did you mean ready?',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("db.cut", "db.cutt"), '17:23 there is no action, probe or gate "db.cutt" | did you mean db.cut?'),
        (("inject: db.cut,", ""), "17:5 cut needs exactly one of inject and run"),
        (("run: runbook/checkout", "run: checkout"), '18:22 run "checkout" names no runbook | write runbook/checkout'),
        (("id: drill", "id: cut"), '18:10 "cut" is the id of the step in line 17 already'),
        (("cluster: orders", "cluster: 3"), '17:47 cluster must be text, not 3 | write "3"'),
        (("hold: 2m", "hold: 2"), "15:45 hold 2 has no unit | write 90s, 5m or 1h"),
        (("hypothesis:", "hypotesis:"), '4:1 unknown key "hypotesis" | did you mean hypothesis?'),
        (("r: approve", "r: aprove"), "20:23 incident-commander \"aprove\" is not one of 'approve' or 'reject'"
                                      " | did you mean approve?"),
    ],
)  # fmt: skip
def test_single_mistakes(tmp_path: Path, change: tuple[str, str], expected: str) -> None:
    assert expected in mistakes(tmp_path, change)
