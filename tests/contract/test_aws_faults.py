"""Faults in AWS: lease first, seen from outside with a client of its own, healed by drkit and by the lease alone."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aws_world import CASES, Case, Dying, Killed, World, built
from cloud_parts import EAST, WEST, until

from drkit import testing
from drkit.catalog import Catalog
from drkit.chaos.awslease import Call, wanted
from drkit.chaos.faults._acl import first_of
from drkit.chaos.faults._policy import patterns, role_arn
from drkit.chaos.faults.aws_database_failover import failover
from drkit.chaos.faults.aws_iam_deny import Denials, iam_deny
from drkit.chaos.faults.aws_instance_stop import InstanceState, stop
from drkit.chaos.faults.aws_replication_pause import pause
from drkit.chaos.faults.aws_security_group_cut import cut
from drkit.chaos.faults.aws_subnet_isolate import isolate
from drkit.chaos.leases import faults, undone
from drkit.chaos.leftovers import healing
from drkit.context import Context
from drkit.errors import Refused, StepFailed, Unobservable
from drkit.model.environment import Environment, Site
from drkit.model.faults import Markers, Nothing, fault_key
from drkit.model.observation import State
from drkit.providers.aws import READS, Aws, AwsError
from drkit.sandbox.parts._schedules import CALLER

EACH = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
STOP, CUT, ISOLATE, PAUSE = (CASES[fault.name] for fault in (stop, cut, isolate, pause))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ExitStack() as stack:
        yield built(stack, tmp_path_factory.mktemp("cloud"))


async def injected(world: World, ctx: Context, case: Case, lease_s: float = 600.0) -> Any:
    """Inject it as the engine does; its parameters."""
    p = case.params(world, lease_s)
    await case.fault(ctx, p, await case.fault.observe(ctx, p))
    return p


async def healed(ctx: Context, case: Case, p: Any) -> None:
    """Heal it as the engine does."""
    assert case.fault.heal is not None
    await case.fault.heal(ctx, p, await case.fault.observe(ctx, p))


@EACH
async def test_a_fault_is_seen_from_outside_and_gone_after_its_heal(world: World, case: Case) -> None:
    told: list[Any] = []
    ctx = replace(world.context(step="inject"), tell=told.append)
    before = case.seen(world)
    p = await injected(world, ctx, case)
    assert case.broken(case.seen(world)) and not case.broken(before)
    assert case.fault.state(p, await case.fault.observe(ctx, p)) is State.HOLDS
    (left,) = (await faults(ctx, Nothing())).markers
    assert (left.fault, left.step, left.state) == (case.fault.name, "inject", "armed")
    assert left.params == p.model_dump(mode="json")
    assert left.expires_in_s is not None and 590 < left.expires_in_s <= 600 and left.why is None
    # From another machine: what is left says everything that is needed.
    known = case.fault.params.model_validate(left.params, strict=False)
    await healed(replace(ctx, step="heal"), case, known)
    assert case.seen(world) == before
    assert case.fault.state(p, await case.fault.observe(ctx, p)) is State.ABSENT
    assert (await faults(ctx, Nothing())).markers == () and world.schedules() == []
    assert [(f.id, f.state) for f in told][:2] == [("inject", "armed"), ("inject", "injected")]
    # The sandbox's IAM works nothing out: that is said, and not passed over.
    assert told[0].detail["role"].startswith("unchecked: iam:simulate_principal_policy")
    assert (told[-1].id, told[-1].state, told[-1].detail["by"]) == ("inject", "healed", "drkit")


async def test_the_same_step_adopts_what_it_injected_and_another_is_refused(world: World) -> None:
    ctx = world.context(step="inject")
    p = await injected(world, ctx, ISOLATE)
    await injected(world, ctx, ISOLATE)
    with pytest.raises(Refused, match="injected already, by inject of test"):
        await injected(world, world.context(run="another"), ISOLATE)
    await healed(ctx, ISOLATE, p)
    assert world.schedules() == []


async def test_a_rule_that_somebody_restored_keeps_no_other_rule_from_coming_back(world: World) -> None:
    ctx, before = world.context(step="inject"), CUT.seen(world)
    p = await injected(world, ctx, CUT)
    world.client("ec2").authorize_security_group_ingress(
        GroupId=world.names["group"], IpProtocol="tcp", FromPort=443, ToPort=443, CidrIp="0.0.0.0/0"
    )
    await healed(ctx, CUT, p)
    assert sorted(CUT.seen(world), key=str) == sorted(before, key=str) and len(before) == 2
    assert world.schedules() == []


async def test_a_rule_that_somebody_put_in_the_place_of_ours_is_left_alone(world: World) -> None:
    ctx, ec2, before = world.context(step="inject"), world.client("ec2"), ISOLATE.seen(world)
    p = await injected(world, ctx, ISOLATE)
    number = ISOLATE.seen(world)[0][0]
    theirs = {"NetworkAclId": world.names["acl"], "RuleNumber": number, "Egress": False}
    says = {"Protocol": "6", "RuleAction": "deny", "CidrBlock": "0.0.0.0/0", "PortRange": {"From": 22, "To": 22}}
    ec2.replace_network_acl_entry(**theirs, **says)
    assert ISOLATE.broken(ISOLATE.seen(world))  # by its number and verdict alone it could be ours
    await healed(ctx, ISOLATE, p)
    try:
        assert [one for one in ISOLATE.seen(world) if one not in before] == [(number, "deny", False)]
        assert world.schedules() == [] and (await faults(ctx, Nothing())).markers == ()
    finally:
        ec2.delete_network_acl_entry(**theirs)


async def test_a_configuration_that_somebody_changed_meanwhile_is_not_put_back_over_it(world: World) -> None:
    ctx, s3, before = world.context(step="inject"), world.client("s3"), PAUSE.seen(world)
    p = await injected(world, ctx, PAUSE)
    theirs = {**before, "Rules": PAUSE.seen(world)["Rules"][:1]}  # somebody took the other rule away
    s3.put_bucket_replication(Bucket=p.bucket, ReplicationConfiguration=theirs)
    with pytest.raises(StepFailed, match="somebody changed more there meanwhile"):
        await healed(ctx, PAUSE, p)
    assert PAUSE.seen(world) == theirs and len(world.schedules()) == 1
    mended = {**before, "Rules": before["Rules"][:1]}
    s3.put_bucket_replication(Bucket=p.bucket, ReplicationConfiguration=mended)
    await healed(ctx, PAUSE, p)  # nothing of ours is left: only the lease goes
    assert PAUSE.seen(world) == mended and world.schedules() == []
    s3.put_bucket_replication(Bucket=p.bucket, ReplicationConfiguration=before)


async def test_of_a_subnet_that_is_not_there_nothing_is_known(world: World) -> None:
    ctx = world.context()
    nowhere = isolate.params(site=WEST, subnet="subnet-0")
    with pytest.raises(Unobservable, match="No network ACL guards subnet-0"):
        await isolate.observe(ctx, nowhere)


@pytest.mark.parametrize("role", ["drkit-lease", "drill-runner"])
async def test_no_role_is_denied_anything_that_is_needed_to_undo_it(world: World, role: str) -> None:
    ctx = world.context()
    asked_by = role_arn("arn:aws:sts::123456789012:assumed-role/drill-runner/session")
    before = Denials(policies={}, asked_by=asked_by, at=datetime.now(UTC))
    with pytest.raises(Refused, match="needed to undo it"):
        await iam_deny(ctx, iam_deny.params(site=WEST, denied_role=role, actions=("iam:*",)), before)
    assert world.schedules() == []


def test_a_role_is_spared_with_and_without_a_path() -> None:
    assert patterns("arn:aws:iam::1:role/drill") == ["arn:aws:iam::1:role/drill", "arn:aws:iam::1:role/*/drill"]
    assert patterns(role_arn("arn:aws:iam::1:user/dana")) == ["arn:aws:iam::1:user/dana"]


@pytest.mark.parametrize(("writes", "arrives"), [(0, True), (1, False), (2, False), (2, True)])
async def test_wherever_drkit_is_killed_nothing_is_broken_without_its_whole_lease(
    world: World, writes: int, arrives: bool
) -> None:
    ctx, before = world.context(step="inject"), CUT.seen(world)
    p = CUT.params(world)
    seen = await cut.observe(ctx, p)
    dying = world.context(step="inject", fakes={Aws: Dying(ctx.environment, writes, arrives=arrives)})
    with pytest.raises(Killed):  # two schedules, and then the call that breaks
        await cut(dying, p, seen)
    broken = CUT.broken(CUT.seen(world))
    assert broken == (writes == 2 and arrives)
    assert len(world.schedules()) == min(writes + arrives, 2)
    if not broken:
        await cut(ctx, p, seen)  # resumed, with what was seen at first
    assert CUT.broken(CUT.seen(world)) and len(world.schedules()) == 2
    await healed(ctx, CUT, p)
    assert sorted(CUT.seen(world), key=str) == sorted(before, key=str) and world.schedules() == []


async def test_nothing_is_injected_under_a_lease_that_somebody_changed(world: World) -> None:
    ctx, before = world.context(step="inject"), CUT.seen(world)
    p = CUT.params(world)
    seen = await cut.observe(ctx, p)
    with pytest.raises(Killed):
        await cut(world.context(step="inject", fakes={Aws: Dying(ctx.environment, 2, arrives=False)}), p, seen)
    world.bring_forward(world.schedules()[0])
    with pytest.raises(Refused, match="its lease is not whole; nothing more is injected"):
        await cut(ctx, p, seen)
    assert CUT.seen(world) == before
    await healed(ctx, CUT, p)
    assert world.schedules() == [] and len(CUT.seen(world)) == len(before)


INJECTOR = """
import anyio, sys
sys.path.insert(0, {tests!r})
import aws_world as w
from drkit import testing

async def injected(ctx, name, params):
    fault = w.CASES[name].fault
    p = fault.params.model_validate(params)
    await fault(ctx, p, await fault.observe(ctx, p))

async def main():
    ctx = testing.context(w.environment({urls!r}), source=w.EAST, target=w.WEST, run="killed")
    async with anyio.create_task_group() as group:
        for name, params in {params!r}.items():
            group.start_soon(injected, ctx, name, params)
    print("injected", flush=True)
    await anyio.sleep(60)

anyio.run(main)
"""


def test_faults_heal_by_their_leases_when_drkit_is_killed(world: World) -> None:
    before = {name: case.seen(world) for name, case in CASES.items()}
    since = world.cloud.calls_so_far()
    params = {name: case.params(world).model_dump() for name, case in CASES.items()}
    text = INJECTOR.format(tests=str(Path(__file__).parent), urls=world.urls, params=params)
    child = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "injected\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert all(case.broken(case.seen(world)) for case in CASES.values())
    due = {name: world.bring_forward(name) for name in world.schedules()}
    first, last = min(due.values()), max(due.values())
    for name, case in CASES.items():
        until(lambda case=case, name=name: case.seen(world) == before[name])  # type: ignore[misc]
    assert time.time() >= first
    print(f"all healed {time.time() - last:.3f} s after the last lease's end")
    # What is over and done is no leftover, and in nobody's way; whoever comes next takes it away.
    made = [c["operation"] for c in world.cloud.admin(f"/calls?since={since}")["calls"] if c["caller"] == CALLER]
    assert sorted(made) == sorted(op.format(**world.names) for case in CASES.values() for op in case.inverse)
    assert sorted(world.schedules()) == sorted(due)


async def test_what_is_over_and_done_is_no_leftover_and_goes_with_the_next_injection(world: World) -> None:
    ctx = world.context(run="next")
    left = world.schedules()
    assert left != [], "what the test before has left"
    await healed(ctx, ISOLATE, await injected(world, ctx, ISOLATE))
    assert {*left} - {*world.schedules()} == {name for name in left if isolate.name.replace(".", "-") in name}


async def test_spent_leases_are_told_of_as_such_and_swept_without_touching_what_they_healed(world: World) -> None:
    told: list[Any] = []
    ctx = replace(world.context(run="sweep", step="heal"), tell=told.append)
    found = await faults(ctx, Nothing())
    assert found.markers == () and {one.fault for one in found.spent} == {*CASES} - {ISOLATE.fault.name}
    assert {(one.state, one.expires_in_s, one.why) for one in found.spent} == {("spent", None, None)}
    sweep = healing(ctx.environment, found.spent, Catalog())
    assert {step.params["site"] for step in sweep.steps} == {WEST} and len(sweep.steps) == len(found.spent)
    before = {name: case.seen(world) for name, case in CASES.items()}
    assert world.aws is not None
    world.aws.calls.clear()
    for one in found.spent:
        known = CASES[one.fault]
        await healed(ctx, known, known.fault.params.model_validate(one.params, strict=False))
    assert {call for _, _, call in world.aws.calls if not call.startswith(READS)} == {"delete_schedule"}
    assert world.schedules() == []
    assert {name: case.seen(world) for name, case in CASES.items()} == before
    assert {(one.state, one.detail["by"]) for one in told} == {("healed", "lease")} and len(told) == len(found.spent)
    assert await faults(ctx, Nothing()) == Markers()


async def test_a_lease_that_aws_gave_up_is_overdue_and_healed_by_hand(world: World) -> None:
    ctx, before = world.context(step="inject"), ISOLATE.seen(world)
    p = await injected(world, ctx, ISOLATE)
    world.cloud.set(WEST, "503", service="ec2")
    try:
        for name in world.schedules():
            world.bring_forward(name, MaximumRetryAttempts=0, MaximumEventAgeInSeconds=60)
        log = next(world.cloud.folder.glob("aws-*.log"))
        until(lambda: log.read_text().count("given up") == len(ISOLATE.inverse))
        (dark,) = (await faults(ctx, Nothing())).markers  # EC2 does not answer: it may be there still
        assert dark.state == "overdue" and dark.why is not None and "cannot be told" in dark.why
    finally:
        world.cloud.set(WEST)
    (left,) = (await faults(ctx, Nothing())).markers
    assert (left.state, left.expires_in_s) == ("overdue", None)
    assert left.why is not None and "ec2:DeleteNetworkAclEntry was due" in left.why and "is not done" in left.why
    with pytest.raises(Refused, match="injected already"):
        await injected(world, world.context(run="another"), ISOLATE)
    await healed(ctx, ISOLATE, p)
    assert ISOLATE.seen(world) == before
    assert world.schedules() == [] and (await faults(ctx, Nothing())).markers == ()


def test_after_a_day_aws_has_given_up() -> None:
    open = wanted("k", datetime.now(UTC), [Call("ec2", "StartInstances", {})] * 2, {})
    assert "AWS begins up to a minute late" in undone(open, 30.0)
    assert undone(open, 90_000.0).startswith(
        "ec2:StartInstances was due 25:00:00 ago and is not done: AWS has given up"
    )


@pytest.mark.parametrize("case", [STOP, CUT, ISOLATE], ids=lambda case: case.fault.name)
async def test_without_a_lease_nothing_is_injected(world: World, case: Case) -> None:
    before, ctx = case.seen(world), world.context()
    p = case.params(world)
    seen = await case.fault.observe(ctx, p)
    world.cloud.set(WEST, "503", service="sts")
    try:
        with pytest.raises(Refused, match="lease cannot be armed") as refused:
            await case.fault(ctx, p, seen)
    finally:
        world.cloud.set(WEST)
    assert "Nothing was injected." in refused.value.message
    assert case.seen(world) == before and world.schedules() == []


class Over:
    """Our own lease of the environment, which ran out."""

    def remaining_s(self) -> float:
        return 0.0


async def test_whoever_holds_the_environment_no_longer_injects_nothing(world: World) -> None:
    ctx = replace(world.context(), lease=Over())
    with pytest.raises(Refused, match="lease of the environment is over"):
        await injected(world, ctx, STOP)
    assert STOP.seen(world) == "running" and world.schedules() == []


@dataclass
class Frozen:
    """A clock of a process that is stopped for twenty minutes once it has looked so often."""

    looks: int

    def monotonic(self) -> float:
        self.looks -= 1
        return 0.0 if self.looks >= 0 else 1200.0

    wall = monotonic

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing waits here")


async def test_whoever_was_frozen_until_its_lease_was_over_sends_nothing(world: World) -> None:
    before, since = ISOLATE.seen(world), world.cloud.calls_so_far()
    ctx = replace(world.context(), clock=Frozen(1))
    with pytest.raises(Refused, match="its lease is over; nothing was injected"):
        await injected(world, ctx, ISOLATE)
    sent = [call["operation"] for call in world.cloud.admin(f"/calls?since={since}")["calls"]]
    assert not {"CreateNetworkAclEntry", "DeleteNetworkAclEntry"} & set(sent)
    assert ISOLATE.seen(world) == before and world.schedules() == []


@pytest.mark.parametrize("looks", [2, 5], ids=["between two calls", "after the last call"])
async def test_what_was_late_is_taken_back(world: World, looks: int) -> None:
    before, since = ISOLATE.seen(world), world.cloud.calls_so_far()
    ctx = replace(world.context(), clock=Frozen(looks))
    with pytest.raises(StepFailed, match=r"its lease (is|was) over.* It was taken back") as late:
        await injected(world, ctx, ISOLATE)
    sent = [call["operation"] for call in world.cloud.admin(f"/calls?since={since}")["calls"]]
    assert late.value.world == "untouched" and sent.count("CreateNetworkAclEntry") == looks - 1
    assert ISOLATE.seen(world) == before and world.schedules() == []


async def test_what_is_so_already_is_no_fault_of_ours_to_undo(world: World) -> None:
    ctx, ec2 = world.context(), world.client("ec2")
    ec2.stop_instances(InstanceIds=[world.names["instance"]])
    try:
        with pytest.raises(Refused, match="so already"):
            await injected(world, ctx, STOP)
        assert world.schedules() == []
    finally:
        ec2.start_instances(InstanceIds=[world.names["instance"]])


async def test_an_injection_that_is_denied_is_taken_back_with_its_lease(world: World) -> None:
    ctx = world.context()
    p = stop.params.model_validate({"site": WEST, "instance": "i-0123456789abcdef0"})
    before = stop.observe.answer(state="running")
    with pytest.raises(StepFailed) as failed:
        await stop(ctx, p, before)
    assert failed.value.world == "untouched" and world.schedules() == []


class Refusing(Aws):
    """AWS as it is to somebody who may make so many rules, and no more."""

    def __init__(self, environment: Environment, rules: int) -> None:
        super().__init__(environment)
        self.rules = rules

    async def call(self, site: str, service: str, operation: str, *given: Any, **more: Any) -> dict[str, Any]:
        self.rules -= operation == "create_network_acl_entry"
        if self.rules < 0 and operation == "create_network_acl_entry":
            raise AwsError("no more rules", aws_code="NetworkAclEntryLimitExceeded", status=400)
        return await super().call(site, service, operation, *given, **more)


@pytest.mark.parametrize("rules", [0, 2])
async def test_what_is_refused_half_way_is_taken_back(world: World, rules: int) -> None:
    ctx, before = world.context(), ISOLATE.seen(world)
    p = ISOLATE.params(world)
    few = world.context(fakes={Aws: Refusing(ctx.environment, rules)})
    with pytest.raises(StepFailed, match="taken back") as failed:
        await isolate(few, p, await isolate.observe(ctx, p))
    assert failed.value.world == "untouched"
    assert ISOLATE.seen(world) == before and world.schedules() == []


async def test_a_rule_that_took_the_place_of_ours_meanwhile_is_seen_before_anything_is_sent(
    world: World,
) -> None:
    ctx, ec2, before = world.context(), world.client("ec2"), ISOLATE.seen(world)
    p = ISOLATE.params(world)
    seen = await isolate.observe(ctx, p)
    second = first_of(fault_key(isolate.name, p)) + 1
    rule = {"NetworkAclId": world.names["acl"], "RuleNumber": second, "Egress": True}
    ec2.create_network_acl_entry(**rule, Protocol="-1", RuleAction="allow", CidrBlock="10.0.0.0/8")
    with pytest.raises(Refused, match=f"has a rule {second} of its own"):
        await isolate(ctx, p, seen)
    assert [one for one in ISOLATE.seen(world) if one not in before] == [(second, "allow", True)]
    assert world.schedules() == []
    ec2.delete_network_acl_entry(**rule)


async def test_nothing_is_injected_where_leftovers_would_not_look() -> None:
    sites = tuple(Site(name=region, kind="region") for region in (EAST, WEST))
    nowhere = Environment(name="test", kind="staging", account="x", sites=sites, state_store="file:///nowhere")
    ctx = testing.context(nowhere, source=EAST, target=WEST)
    with pytest.raises(Refused, match="leftovers would not be found"):
        await stop(ctx, stop.params.model_validate({"site": WEST, "instance": "i-1"}), InstanceState(state="running"))
    assert await faults(ctx, Nothing()) == Markers()


async def test_a_failover_moves_the_writer_and_is_seen_to(world: World) -> None:
    ctx, rds = world.context(), world.client("rds")
    made = {"Engine": "aurora-postgresql"}
    rds.create_db_cluster(DBClusterIdentifier="shop", MasterUsername="shop", MasterUserPassword="-" * 12, **made)
    for name in ("shop-1", "shop-2"):
        kind = {"DBInstanceClass": "db.r6g.large", **made}
        rds.create_db_instance(DBInstanceIdentifier=name, DBClusterIdentifier="shop", **kind)
    p = failover.params.model_validate({"site": WEST, "cluster": "shop", "to": "shop-2"})
    before = await failover.observe(ctx, p)
    assert failover.state(p, before) is State.ABSENT
    await failover(ctx, p, before)
    members = rds.describe_db_clusters(DBClusterIdentifier="shop")["DBClusters"][0]["DBClusterMembers"]
    assert {one["DBInstanceIdentifier"]: one["IsClusterWriter"] for one in members} == {"shop-1": False, "shop-2": True}
    assert failover.state(p, await failover.observe(ctx, p)) is State.HOLDS
    assert failover.fault and failover.heal is None and failover.lease is None and failover.irreversible


async def test_a_region_that_does_not_answer_is_silent(world: World) -> None:
    ctx = world.context()
    world.cloud.set(EAST, "refuse")
    try:
        found = await faults(ctx, Nothing())
    finally:
        world.cloud.set(EAST)
    assert found.markers == () and len(found.silent) == 1 and EAST in found.silent[0]
