"""Do the credentials live as long as the run: what is said of each, and when a failover is refused for it."""

from __future__ import annotations

import pytest

from drkit.catalog import Catalog
from drkit.cli.credentials import judged, longest_s, uses_aws
from drkit.cli.planning import Planned, Wanted
from drkit.cli.seen import GoodDrill
from drkit.errors import PreflightFailed
from drkit.model.credentials import Life, Renewal
from drkit.model.environment import Environment
from drkit.model.plan import Plan, PlanStep
from drkit.model.runbook import Retry

NOW, DRILL_S, LIMIT_S = 1_000_000.0, 120.0, 3600.0


@pytest.mark.parametrize(
    ("left_s", "renews", "verdict"),
    [
        (60.0, "never", "FAIL"),
        (60.0, "by whoever writes it", "WARN"),
        (60.0, "by itself", "OK"),
        (600.0, "never", "WARN"),
        (7200.0, "never", "OK"),
        (-1.0, "never", "FAIL"),
        (-1.0, "by whoever writes it", "FAIL"),
        (-1.0, "by itself", "WARN"),
    ],
)
def test_what_is_left_is_compared_with_the_last_drill_and_with_the_limits(
    left_s: float, renews: Renewal, verdict: str
) -> None:
    life = Life("keys", known=True, ends=NOW + left_s, renews=renews)
    assert judged(life, NOW, likely_s=DRILL_S, longest_s=LIMIT_S)[0] == verdict


def test_unknown_is_said_as_unknown_and_only_a_known_absence_of_an_end_is_endless() -> None:
    verdict, told = judged(Life("keys", known=False), NOW, likely_s=None, longest_s=None)
    assert (verdict, told) == ("?", "keys: life unknown, not refreshable")
    assert judged(Life("keys", known=True), NOW, likely_s=None, longest_s=None) == ("OK", "keys: does not expire")


def test_without_a_drill_only_the_limits_can_be_compared_with() -> None:
    life = Life("keys", known=True, ends=NOW + 60.0)
    assert judged(life, NOW, likely_s=None, longest_s=LIMIT_S)[0] == "WARN"
    assert judged(life, NOW, likely_s=None, longest_s=None)[0] == "OK"


def step(id: str, *needs: str, **more: object) -> PlanStep:
    return PlanStep.model_validate(
        {"id": id, "number": 1, "uses": "x.y", "kind": "action", "needs": needs, "timeout_s": 60.0, **more}
    )


def plan(*steps: PlanStep) -> Plan:
    return Plan(
        schema="drkit.plan/1", runbook="r", runbook_digest="sha256:0", environment="e", environment_kind="staging",
        account="none", source="east", target="west", steps=steps, catalog="sha256:0", drkit="0",
    )  # fmt: skip


def test_the_limit_of_a_run_is_its_slowest_chain_with_gates_and_retries() -> None:
    gate = step("g", "a", uses="gate.approve", kind="gate", params={"role": "ic", "timeout": "10m"})
    again = step("b", "g", retry=Retry(times=2))
    beside = step("c", timeout_s=700.0)
    assert longest_s(plan(step("a"), gate, again, beside)) == 60.0 + 600.0 + 3 * 60.0
    assert longest_s(plan()) == 0.0


def environment(store: str) -> Environment:
    return Environment(name="e", kind="staging", account="none", sites=(), state_store=store)


def test_credentials_matter_where_something_needs_them() -> None:
    assert not uses_aws(environment("file:///x"), plan(step("a")))
    assert uses_aws(environment("s3://b/x"), None)
    assert uses_aws(environment("file:///x"), plan(step("a", uses="aws.ssm.set")))


def planned(*lives: Life) -> Planned:
    drill = GoodDrill("d", "r", 0.0, {}, DRILL_S)
    return Planned(plan(step("a")), environment("file:///x"), Catalog([]), Wanted("west"), rehearsed=drill, lives=lives)


def test_a_failover_that_its_credentials_would_not_survive_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: NOW)
    short = Life("keys of the environment", known=True, ends=NOW + 60.0)
    with pytest.raises(PreflightFailed, match="keys of the environment: 1:00 left, not refreshable") as refusal:
        planned(short, Life("other", known=False)).check_outlived()
    assert refusal.value.hint == "drkit doctor --region west --env e"
    planned(Life("renewed", known=True, ends=NOW + 60.0, renews="by whoever writes it")).check_outlived()
