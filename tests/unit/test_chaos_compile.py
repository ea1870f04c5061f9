"""A scenario as steps: who waits for whom, what holds, what heals when, and what needs two persons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from plan_fakes import catalog, environment

from drkit.chaos.unattended import check_unattended
from drkit.drill.compile import compile_drill
from drkit.engine.gates import policy_answer
from drkit.errors import FileError, Refused
from drkit.model.inventory import Member
from drkit.model.plan import Plan, PlanStep
from drkit.plan.files import load_scenario

HEAD = """\
apiVersion: drkit/v1
kind: Scenario
metadata: {name: loss, owner: nobody}
hypothesis: "It is nobody's loss"
environment: lab
source: us-east-1
target: us-west-2
probes:
  web: {uses: k8s.replicas, with: {deployment: web, region: target}}
steady_state:
  - {expect: "probes.web.ready >= 1", hold: 2s, during: true}
"""


def compiled(folder: Path, method: str, tail: str = "", **more: Any) -> Plan:
    path = folder / "loss.yaml"
    path.write_text(HEAD + "method:\n" + method + tail)
    return compile_drill(load_scenario(path), None, environment(), catalog(), **more)


def cut(id: str, more: str = "") -> str:
    return f"  - {{id: {id}, inject: db.cut, with: {{cluster: {id}, region: source}}{more}}}\n"


def needs(plan: Plan) -> dict[str, list[str]]:
    return {step.id: list(step.needs) for step in plan.steps}


def one(plan: Plan, id: str) -> PlanStep:
    return plan.step(id)


def test_without_a_duration_faults_are_healed_last_first_and_then_all_is_seen_to_be_well(tmp_path: Path) -> None:
    assert needs(compiled(tmp_path, cut("a") + cut("b"))) == {
        "steady-1": [], "a": ["steady-1"], "b": ["a"],
        "heal-b": ["b"], "heal-a": ["heal-b"], "after-1": ["heal-b", "heal-a"],
    }  # fmt: skip


def test_a_fault_with_a_duration_is_held_so_long_and_leased_a_little_longer(tmp_path: Path) -> None:
    plan = compiled(tmp_path, cut("a", ", duration: 4m") + cut("b"))
    assert needs(plan)["heal-a"] == ["hold-a"] and needs(plan)["hold-a"] == ["a"]
    assert set(needs(plan)["heal-b"]) == {"b", "hold-a"}
    assert (one(plan, "hold-a").uses, one(plan, "hold-a").hold_s) == ("db.writer", 240)
    assert one(plan, "a").params["lease_s"] == 250
    assert one(plan, "b").params["lease_s"] == 1800


def test_a_fault_that_is_to_be_noticed_is_healed_when_it_is_and_if_it_is_not_that_is_the_answer(tmp_path: Path) -> None:
    plan = compiled(tmp_path, cut("a", ', duration: 9s, noticed: "probes.web.ready == 0"'))
    look = one(plan, "hold-a")
    assert (look.uses, look.verify, look.hold_s, look.timeout_s) == ("k8s.replicas", "probes.web.ready == 0", 0, 9)
    assert (look.part, look.optional) == ("after", True)
    assert needs(plan)["hold-a"] == ["a"] and needs(plan)["heal-a"] == ["hold-a"]
    assert "heal-a" in needs(plan)["after-1"]
    assert one(plan, "a").params["lease_s"] == 19


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (', noticed: "probes.web.ready == 0"', "noticed needs inject and duration"),
        (', duration: 9s, noticed: "probes.web.redy == 0"', "redy"),
    ],
)
def test_what_is_to_be_noticed_is_checked_with_the_file(tmp_path: Path, more: str, why: str) -> None:
    with pytest.raises(FileError, match=why):
        compiled(tmp_path, cut("a", more))


def test_a_start_counts_from_the_steady_state_and_holds_up_nobody_else(tmp_path: Path) -> None:
    plan = compiled(tmp_path, cut("a") + cut("b", ", start: 30s"))
    assert needs(plan)["wait-b"] == ["steady-1"] and needs(plan)["b"] == ["wait-b"]
    assert one(plan, "wait-b").hold_s == 30


def test_what_fails_before_or_while_breaking_ends_the_run_and_what_fails_after_is_the_answer(tmp_path: Path) -> None:
    plan = compiled(tmp_path, cut("a", ", duration: 1s"))
    assert {id: one(plan, id).on_failure for id in ("steady-1", "a", "hold-a")} == dict.fromkeys(
        ("steady-1", "a", "hold-a"), "abort"
    )
    assert one(plan, "after-1").optional and not one(plan, "steady-1").optional
    assert one(plan, "heal-a").retry is not None and not one(plan, "heal-a").skippable
    assert plan.steady == ("probes.web.ready >= 1",)


def test_a_target_is_hit_member_by_member(tmp_path: Path) -> None:
    members = [Member(name=name, group="g", fills="cluster") for name in ("x", "y")]
    method = "  - {id: a, inject: db.cut, on: t, with: {region: source, cluster: any}, duration: 5s}\n"
    tail = "targets:\n  t: {uses: k8s.replicas, where: {deployment: web}}\n"
    plan = compiled(tmp_path, method, tail, targets={"t": members})
    assert [s.params["cluster"] for s in plan.steps if s.part == "inject"] == ["x", "y"]
    assert {"hold-a-x", "heal-a-x", "hold-a-y", "heal-a-y"} <= set(needs(plan))


def test_what_cannot_be_healed_waits_for_two_persons_whom_no_policy_replaces(tmp_path: Path) -> None:
    plan = compiled(tmp_path, "  - {id: a, inject: db.lose, with: {cluster: c, region: source}}\n")
    consent = one(plan, "consent-a")
    assert needs(plan)["a"] == ["consent-a"] and consent.params["approvals"] == 2
    assert "gone for good" in str(consent.params["question"])
    assert "heal-a" not in needs(plan)
    role = str(consent.params["role"])
    assert policy_answer({"name": "p", role: "approve", "*": "approve"}, role) is None


@pytest.mark.parametrize("original", ["true", "'${ params.all }'"])
def test_what_is_no_copy_waits_for_two_persons_and_is_healed_all_the_same(tmp_path: Path, original: str) -> None:
    method = f"  - {{id: a, inject: db.cut, with: {{cluster: c, region: source, original: {original}}}}}\n"
    tail = "parameters:\n  all: {default: true}\n"
    plan = compiled(tmp_path, method, tail)
    consent = one(plan, "consent-a")
    assert needs(plan)["a"] == ["consent-a"] and consent.params["approvals"] == 2
    assert str(consent.params["question"]).startswith("db.cut breaks what is no copy (original)")
    assert "heal-a" in needs(plan)
    with pytest.raises(Refused, match=r"consent-a waits for two persons .*: it never starts unattended"):
        check_unattended(plan)
    copy = compiled(tmp_path, method.replace(original, "false"), tail)
    assert "consent-a" not in needs(copy)
    check_unattended(copy)


def test_a_rollback_of_never_leaves_faults_to_their_leases(tmp_path: Path) -> None:
    assert not [id for id in needs(compiled(tmp_path, cut("a"), "rollback: never\n")) if id.startswith("heal")]


def test_an_action_that_is_no_fault_and_a_scenario_for_elsewhere_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="not a fault"):
        compiled(tmp_path, "  - {id: a, inject: db.promote, with: {cluster: c, region: source}}\n")
    with pytest.raises(Refused, match="meant for lab"):
        path = tmp_path / "loss.yaml"
        path.write_text(HEAD + "method:\n" + cut("a"))
        compile_drill(load_scenario(path), None, environment(name="other"), catalog())


def test_what_is_left_out_of_a_method_leaves_the_others_where_they_were(tmp_path: Path) -> None:
    members = [Member(name=name, group="g", fills="cluster") for name in ("x", "y")]
    method = (
        "  - {id: a, inject: db.cut, on: two, with: {region: source, cluster: any}, duration: 1m}\n"
        + cut("b", ", start: 30s") + cut("c", ", duration: 1m")
    )  # fmt: skip
    tail = "targets:\n  two: {uses: k8s.replicas, where: {deployment: web}}\n"
    whole, kept = (
        compiled(tmp_path, method, tail, targets={"two": members}, only=only) for only in (None, ("a-y", "c"))
    )
    assert set(needs(kept)) == {
        "steady-1", "a-y", "hold-a-y", "wait-b", "c", "hold-c", "heal-c", "heal-a-y", "after-1",
    }  # fmt: skip
    assert (needs(kept)["a-y"], needs(kept)["c"]) == (["steady-1"], ["wait-b"])  # c comes when b would have come
    assert needs(whole)["c"] == ["b"] and needs(whole)["b"] == ["wait-b"]
    for id in ("a-y", "hold-c", "wait-b"):
        assert one(kept, id).params == one(whole, id).params
    none = compiled(tmp_path, method, tail, targets={"two": members}, only=())
    assert not none.injects and "after-1" not in needs(none)
