"""Nested runbooks and `for_each`: what a plan says of them, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from plan_fakes import catalog, environment, write

from drkit.errors import FileError
from drkit.model.plan import Plan
from drkit.plan.files import check, read_runbook
from drkit.plan.resolve import resolve

HEAD = """\
apiVersion: drkit/v1
kind: Runbook
metadata: {name: %s, owner: payments-oncall}
"""
RESTORE = (
    HEAD % "restore"
    + """\
parameters:
  name: {default: none}
  replicas: {default: 2}
probes:
  web: {uses: k8s.replicas, with: {deployment: checkout, region: target}}
steps:
  - {id: up, uses: k8s.scale, with: {deployment: "${ params.name }", to: "${ params.replicas }"}}
  - {id: ready, uses: k8s.replicas, with: {deployment: "${ params.name }"}, verify: "now.ready == steps.up.ready"}
"""
)


def plan(folder: Path, steps: str, *, more: str = "", nested: str = RESTORE, **others: str) -> Plan:
    write(folder, nested, "restore.yaml")
    for name, text in others.items():
        write(folder, text, f"{name}.yaml")
    path = write(folder, HEAD % "checkout" + more + "steps:\n" + steps)
    return resolve(read_runbook(path), environment(), catalog(), source="us-east-1", target="us-west-2")


def mistakes(folder: Path, steps: str, **more: Any) -> list[str]:
    with pytest.raises(FileError) as error:
        plan(folder, steps, **more)
    return [f"{Path(m.file).name}:{m.line}:{m.column} {m.message} ({m.hint})" for m in error.value.mistakes]


BEFORE = "  - {id: first, uses: k8s.scale, with: {deployment: d, to: 1}}\n"
AFTER = '  - {id: last, uses: k8s.scale, with: {deployment: d, to: "${ steps.back.ready.ready }"}}\n'


def test_a_plan_shows_every_step_of_a_nested_runbook_and_the_step_itself_behind_them(tmp_path: Path) -> None:
    found = plan(tmp_path, BEFORE + "  - {id: back, uses: runbook/restore, with: {name: orders}}\n" + AFTER)
    assert {step.id: step.needs for step in found.steps} == {
        "first": (), "back/up": ("first",), "back/ready": ("back/up",), "back": ("back/up", "back/ready"),
        "last": ("back",),
    }  # fmt: skip
    assert {step.id: step.number for step in found.steps} == {
        "first": 1, "back": 2, "back/up": 3, "back/ready": 4, "last": 5,
    }  # fmt: skip
    assert found.step("back/up").params == found.step("back/up").params | {"deployment": "orders", "to": 2}
    assert found.step("back/up").owner == "payments-oncall"
    assert found.step("last").params["to"] == "${ steps.back.ready.ready }"
    scope = found.scopes["back"]
    assert (scope.runbook, scope.parameters) == ("restore", {"name": "orders", "replicas": 2})
    assert scope.digest == read_runbook(tmp_path / "restore.yaml").digest
    assert set(scope.probes) == {"web"}


def test_runbooks_nest_at_any_depth(tmp_path: Path) -> None:
    outer = HEAD % "outer" + "steps:\n  - {id: db, uses: runbook/restore, with: {name: deep}}\n"
    found = plan(tmp_path, "  - {id: a, uses: runbook/outer}\n" + BEFORE, outer=outer)
    assert [step.id for step in found.steps] == ["a/db/up", "a/db/ready", "a/db", "a", "first"]
    assert found.step("a/db/up").params["deployment"] == "deep"
    assert (found.scopes["a/db"].outer, found.step("a/db/ready").scope) == ("a", "a/db")


def test_a_nested_runbooks_parameter_may_come_from_a_step(tmp_path: Path) -> None:
    found = plan(
        tmp_path, BEFORE + '  - {id: back, uses: runbook/restore, with: {replicas: "${ steps.first.ready }"}}\n'
    )
    assert found.scopes["back"].later == {"replicas": "${ steps.first.ready }"}
    assert found.step("back/up").params["to"] == "${ params.replicas }"


def test_each_entry_of_a_known_list_is_a_step_of_the_plan(tmp_path: Path) -> None:
    steps = """\
  - {id: up, for_each: "${ params.names }", uses: k8s.scale, at_once: 2,
     with: {deployment: "${ each }", to: "${ index }"}, verify: "now.ready == index"}
  - {id: last, uses: k8s.scale, with: {deployment: d, to: "${ size(steps.up) }"}}
"""
    found = plan(tmp_path, BEFORE + steps, more="parameters: {names: {default: [orders, users, carts]}}\n")
    assert {step.id: step.needs for step in found.steps} == {
        "first": (), "up/orders": ("first",), "up/users": ("first",), "up/carts": ("first", "up/orders"),
        "up": ("up/orders", "up/users", "up/carts"), "last": ("up",),
    }  # fmt: skip
    assert [found.step(f"up/{name}").params["to"] for name in ("orders", "users", "carts")] == [0, 1, 2]
    assert (found.scopes["up/users"].each, found.scopes["up/users"].index) == ("users", 1)


def test_entries_without_a_usable_name_are_called_by_their_place(tmp_path: Path) -> None:
    def ids(items: str) -> list[str]:
        step = f"  - {{id: up, for_each: {items}, uses: k8s.scale, with: {{deployment: d, to: 1}}}}\n"
        return [step.id for step in plan(tmp_path, step).steps][:-1]

    assert ids("[a b, c]") == ids("[a, a]") == ["up/0", "up/1"]
    assert ids("[{name: web, x: 1}, {name: db}]") == ["up/web", "up/db"]
    assert ids("[7, 8]") == ["up/7", "up/8"]
    assert ids("[]") == []


def test_a_list_only_a_step_will_know_stays_a_pattern_for_any_entry(tmp_path: Path) -> None:
    steps = """\
  - {id: all, for_each: "${ steps.first.pods }", uses: runbook/restore, with: {name: "${ each }"}}
"""
    probe = "  - {id: first, uses: db.writer, with: {cluster: c, region: source}}\n"
    with pytest.raises(FileError, match="pods"):
        plan(tmp_path, probe + steps)
    known = steps.replace("steps.first.pods", "[steps.first.writable ? 'a' : 'b']")
    found = plan(tmp_path, probe + known)
    assert [step.id for step in found.steps] == ["first", "all"]
    join = found.step("all").join
    assert join is not None and [step.id for step in join.body] == ["all/*/up", "all/*/ready", "all/*"]
    assert found.scopes["all/*"].later == {"name": "${ each }"}


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("{id: back, uses: runbook/restor}", '5:22 there is no runbook "restor" beside this one (did'),
        ("{id: back, uses: runbook/restore, with: {nam: x}}", 'has no parameter "nam" (did you mean name?)'),
        ("{id: back, uses: runbook/restore, with: {replicas: x}}", "parameter replicas of runbook/restore"),
        ("{id: back, uses: runbook/restore, timeout: 3s}", "runbook/restore is a runbook: timeout belongs"),
        ("{id: back, uses: runbook/checkout}", "these runbooks carry each other out: checkout -> checkout"),
        ("{id: back, uses: runbook/round}", "these runbooks carry each other out: checkout -> round -> checkout"),
        ("{id: up, uses: k8s.scale, at_once: 2, with: {deployment: d, to: 1}}", "at_once limits for_each"),
        ("{id: up, uses: k8s.scale, for_each: 3, with: {deployment: d, to: 1}}", "for_each must be a list"),
        ('{id: up, uses: k8s.scale, for_each: "${ mode }", with: {deployment: d, to: 1}}', "a list is needed"),
        ('{id: up, uses: k8s.scale, with: {deployment: "${ each }", to: 1}}', 'unknown name "each"'),
        ("{id: f, uses: db.fence, for_each: [], with: {cluster: c, region: source}}", "nothing would be fenced"),
        ("{id: p, uses: db.promote, for_each: [c], with: {cluster: c, region: target}}", "p/c promotes, and no fence"),
        ("{id: back, uses: runbook/promoting}", "back/promote promotes, and no fence"),
        ("{id: back, uses: runbook/fencing, optional: true}", "fence is a fence: it is never optional"),
        ("{id: back, uses: runbook/fencing, when: 'true'}", "back/fence is a fence: it is never optional, conditional"),
        ("{id: back, uses: runbook/broken}", "broken.yaml:5:"),
    ],
)  # fmt: skip
def test_what_is_refused_and_where(tmp_path: Path, step: str, said: str) -> None:
    promoting = HEAD % "promoting" + (
        "steps:\n  - {id: promote, uses: db.promote, with: {cluster: c, region: target}}\n"
    )  # fmt: skip
    fencing = HEAD % "fencing" + "steps:\n  - {id: fence, uses: db.fence, with: {cluster: c, region: source}}\n"
    loop = HEAD % "round" + "steps:\n  - {id: back, uses: runbook/checkout}\n"
    broken = HEAD % "broken" + "steps:\n  - {id: up, uses: k8s.scale, with: {deployment: d}}\n"
    found = mistakes(
        tmp_path, f"  - {step}\n", promoting=promoting, round=loop, fencing=fencing, broken=broken
    )  # fmt: skip
    assert any(said in line for line in found), found


def test_a_fence_in_the_outer_runbook_guards_a_promotion_in_a_nested_one(tmp_path: Path) -> None:
    nested = HEAD % "restore" + "steps:\n  - {id: promote, uses: db.promote, with: {cluster: c, region: target}}\n"
    fence = '  - {id: fence, uses: db.fence, for_each: [c, d], with: {cluster: "${ each }", region: source}}\n'
    found = plan(tmp_path, fence + "  - {id: back, uses: runbook/restore}\n", nested=nested)
    assert found.step("back/promote").needs == ("fence",)
    assert found.step("fence/d").fences
    conditional = "  - {id: side, uses: runbook/other, when: \"mode == 'graceful'\"}\n"
    other = HEAD % "other" + "steps:\n  - {id: x, uses: k8s.scale, with: {deployment: d, to: 1}}\n"
    said = mistakes(
        tmp_path, fence + conditional + "  - {id: back, uses: runbook/restore}\n", nested=nested, other=other
    )
    assert "no fence is certain to be done" in said[0]


def test_a_condition_stands_before_everything_the_nested_runbook_does(tmp_path: Path) -> None:
    found = plan(tmp_path, BEFORE + "  - {id: back, uses: runbook/restore, when: \"mode == 'graceful'\"}\n")
    assert {step.id: step.needs for step in found.steps if step.id != "first"} == {
        "back/_when": ("first",), "back/up": ("back/_when",), "back/ready": ("back/up",),
        "back": ("back/up", "back/ready"),
    }  # fmt: skip


def test_what_decides_about_a_nested_runbook_says_which_however_deep_it_is(tmp_path: Path) -> None:
    outer = HEAD % "outer" + "steps:\n  - {id: db, uses: runbook/restore, when: \"mode == 'graceful'\"}\n"
    found = plan(tmp_path, "  - {id: a, uses: runbook/outer, for_each: [x]}\n", outer=outer)
    assert found.step("a/x/db/_when").title == "is a/x/db needed?"


def test_files_are_checked_by_themselves_with_what_they_carry_out(tmp_path: Path) -> None:
    write(tmp_path, RESTORE.replace('deployment: "${ params.name }", to', "deploy: 1, to"), "restore.yaml")
    path = write(tmp_path, HEAD % "checkout" + "steps:\n  - {id: back, uses: runbook/restore}\n")
    with pytest.raises(FileError, match=r"restore\.yaml:"):
        check(path, None, catalog())
