"""Faults that nothing here can make real: what they ask of AWS has its shape, and they read its answers rightly."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aws_world import World
from botocore import xform_name
from cloud_parts import WEST, Cloud
from recorded_aws import Answers, Recorded, checked

from drkit.chaos.awslease import PREFIX, schedules
from drkit.chaos.faults.aws_database_reboot import reboot
from drkit.chaos.faults.aws_experiment import experiment
from drkit.chaos.faults.aws_lambda_exhaust import exhaust
from drkit.chaos.leases import faults
from drkit.context import Context
from drkit.errors import NotSupported, Refused
from drkit.model.faults import Markers, Nothing
from drkit.model.observation import State
from drkit.providers.aws import Aws
from drkit.sandbox.portrait import SIMULATED


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(Cloud(stack, tmp_path_factory.mktemp("cloud"), ("scheduler", "sts")))


def recorded(world: World, answers: Answers) -> tuple[Context, Recorded]:
    ctx = world.context(step="inject")
    aws = Recorded(ctx.environment, answers)
    return world.context(step="inject", fakes={Aws: aws}), aws


def test_what_the_sandbox_cannot_make_real_says_so() -> None:
    for fault in (reboot, experiment, exhaust):
        assert SIMULATED[fault.name].startswith("checked against recorded shapes only")


async def test_all_concurrency_is_reserved_by_one_function_and_given_back(world: World) -> None:
    share: dict[str, int | None] = {"spare": 20}

    def put(asked: dict[str, Any]) -> dict[str, Any]:
        share[asked["FunctionName"]] = asked["ReservedConcurrentExecutions"]
        return {"ReservedConcurrentExecutions": asked["ReservedConcurrentExecutions"]}

    def account(asked: dict[str, Any]) -> dict[str, Any]:
        unreserved = 1000 - sum(number or 0 for number in share.values())
        return {"AccountLimit": {"ConcurrentExecutions": 1000, "UnreservedConcurrentExecutions": unreserved}}

    def mine(asked: dict[str, Any]) -> dict[str, Any]:
        number = share.get(asked["FunctionName"])
        return {} if number is None else {"ReservedConcurrentExecutions": number}

    ctx, _ = recorded(world, {
        ("lambda", "get_account_settings"): account, ("lambda", "get_function_concurrency"): mine,
        ("lambda", "put_function_concurrency"): put,
        ("lambda", "delete_function_concurrency"): lambda asked: share.update({asked["FunctionName"]: None}) or {},
    })  # fmt: skip
    for function, before in (("spare", 20), ("idle", None)):
        p = exhaust.params(site=WEST, function=function, lease_s=600.0)
        await exhaust(ctx, p, await exhaust.observe(ctx, p))
        assert share[function] == 900 - (share["spare"] or 0 if function == "idle" else 0)
        assert exhaust.state(p, await exhaust.observe(ctx, p)) is State.HOLDS
        armed, _ = await schedules(ctx, WEST, PREFIX)
        for one in armed:  # EventBridge Scheduler would make this very call
            checked(one.call.service, xform_name(one.call.operation), one.call.input)
        assert exhaust.heal is not None
        await exhaust.heal(ctx, p, await exhaust.observe(ctx, p))
        assert share.get(function) == before and world.schedules() == []
        assert exhaust.state(p, await exhaust.observe(ctx, p)) is State.ABSENT
    full = exhaust.observe.answer(unreserved=100, reserved=None)
    with pytest.raises(Refused, match="only 100 are unreserved"):
        await exhaust(ctx, exhaust.params(site=WEST, function="spare"), full)
    assert (await faults(ctx, Nothing())).markers == ()
    await ctx.providers.aclose()


async def test_a_restart_is_asked_for_once_and_known_by_its_event(world: World) -> None:
    events: list[dict[str, Any]] = []
    told = {"SourceIdentifier": "shop-1", "SourceType": "db-instance", "EventCategories": ["availability"]}

    def restart(asked: dict[str, Any]) -> dict[str, Any]:
        events.append({**told, "Message": "DB instance restarted", "Date": datetime.now(UTC)})
        return {"DBInstance": {"DBInstanceIdentifier": "shop-1", "DBInstanceStatus": "rebooting"}}

    ctx, aws = recorded(world, {
        ("rds", "describe_db_instances"): lambda asked: {"DBInstances": [{"DBInstanceStatus": "available"}]},
        ("rds", "describe_events"): lambda asked: {"Events": events},
        ("rds", "reboot_db_instance"): restart,
    })  # fmt: skip
    p = reboot.params(site=WEST, instance="shop-1", force_failover=True)
    events.append({**told, "Message": "DB instance shutdown", "Date": datetime.now(UTC)})
    before = await reboot.observe(ctx, p)
    assert reboot.state(p, before) is State.ABSENT and before.restarted_at is None
    await reboot(ctx, p, before)
    assert reboot.state(p, await reboot.observe(ctx, p)) is State.HOLDS
    asked = [params for operation, params in aws.sent if operation == "reboot_db_instance"]
    assert asked == [{"DBInstanceIdentifier": "shop-1", "ForceFailover": True}]
    assert reboot.irreversible and reboot.lease is None and reboot.heal is None


ALARM = {"source": "aws:cloudwatch:alarm", "value": "arn:aws:cloudwatch:us-west-2:1:alarm:users"}
PAUSE = {"actionId": "aws:network:disrupt-connectivity", "parameters": {"duration": "PT10M", "scope": "all"}}


class Fis:
    """FIS with one template, as its API answers."""

    def __init__(self, *, stop: dict[str, str] = ALARM, action: dict[str, Any] = PAUSE) -> None:
        self.template = {"id": "EXT1", "actions": {"cut": action}, "stopConditions": [stop]}
        self.begun: list[dict[str, Any]] = []

    def answers(self) -> Answers:
        return {
            ("fis", "get_experiment_template"): lambda asked: {"experimentTemplate": self.template},
            ("fis", "list_experiments"): lambda asked: {"experiments": self.begun},
            ("fis", "start_experiment"): self.start,
            ("fis", "stop_experiment"): self.stop,
        }

    def start(self, asked: dict[str, Any]) -> dict[str, Any]:
        made = {
            "id": "EXP1", "experimentTemplateId": asked["experimentTemplateId"], "tags": asked["tags"],
            "state": {"status": "running"}, "creationTime": datetime.now(UTC),
        }  # fmt: skip
        self.begun.append(made)
        return {"experiment": {key: made[key] for key in ("id", "experimentTemplateId", "tags", "state")}}

    def stop(self, asked: dict[str, Any]) -> dict[str, Any]:
        (one,) = (one for one in self.begun if one["id"] == asked["id"])
        one["state"] = {"status": "stopped"}
        return {"experiment": {"id": one["id"], "state": one["state"]}}


async def test_an_experiment_is_its_own_marker_and_is_stopped_from_any_machine(world: World) -> None:
    fis, told = Fis(), list[Any]()
    ctx, aws = recorded(world, fis.answers())
    ctx = replace(ctx, tell=told.append)
    p = experiment.params(site=WEST, template="EXT1")
    before = await experiment.observe(ctx, p)
    assert (before.lasts_s, experiment.state(p, before)) == (600.0, State.ABSENT)
    await experiment(ctx, p, before)
    assert experiment.state(p, await experiment.observe(ctx, p)) is State.HOLDS
    found = (await faults(ctx, Nothing())).markers
    left = next(one for one in found if one.where == f"region {WEST}")
    assert (left.fault, left.params, left.step, left.state) == (experiment.name, p.model_dump(), "inject", "injected")
    assert left.expires_in_s is not None and 590 < left.expires_in_s <= 601
    with pytest.raises(Refused, match="runs already"):
        await experiment(ctx, p, await experiment.observe(ctx, p))
    fis.begun[0]["creationTime"] -= timedelta(minutes=11)
    (late, *_) = (await faults(ctx, Nothing())).markers
    assert late.state == "overdue" and late.why == "FIS should have ended it, and calls it running"
    assert experiment.heal is not None
    known = experiment.params.model_validate(left.params)
    await experiment.heal(replace(ctx, step="heal"), known, await experiment.observe(ctx, p))
    assert experiment.state(p, await experiment.observe(ctx, p)) is State.ABSENT
    assert (await faults(ctx, Nothing())).markers == ()
    assert [(f.id, f.state) for f in told] == [("inject", "armed"), ("inject", "injected"), ("inject", "healed")]
    assert json.dumps(aws.sent[0][1]) == '{"id": "EXT1"}'


@pytest.mark.parametrize(
    ("fis", "why"),
    [
        (Fis(stop={"source": "none"}), "no alarm stops it"),
        (Fis(action={"actionId": "aws:ec2:stop-instances"}), "no end of their own: cut"),
    ],
)
async def test_an_experiment_that_would_not_end_is_not_started(world: World, fis: Fis, why: str) -> None:
    ctx, aws = recorded(world, fis.answers())
    p = experiment.params(site=WEST, template="EXT1")
    with pytest.raises(Refused, match=why):
        await experiment(ctx, p, await experiment.observe(ctx, p))
    assert "start_experiment" not in [operation for operation, _ in aws.sent]


async def test_a_region_without_fis_has_no_experiments(world: World) -> None:
    def none(asked: dict[str, Any]) -> dict[str, Any]:
        raise NotSupported("fis:list_experiments is not supported by this endpoint.")

    ctx, _ = recorded(world, {("fis", "list_experiments"): none})
    assert await faults(ctx, Nothing()) == Markers()
