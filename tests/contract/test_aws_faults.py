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
from cloud_parts import EAST, WEST, Cloud, until

from drkit import testing
from drkit.catalog import Action
from drkit.chaos.faults.aws_database_failover import failover
from drkit.chaos.faults.aws_instance_stop import InstanceState, stop
from drkit.chaos.faults.aws_security_group_cut import cut
from drkit.chaos.faults.aws_subnet_isolate import isolate
from drkit.chaos.leases import faults
from drkit.context import Context
from drkit.errors import Refused, StepFailed
from drkit.model.environment import Environment, Site
from drkit.model.faults import Markers, Nothing
from drkit.model.observation import State
from drkit.sandbox.parts._schedules import CALLER


def environment(urls: dict[str, str]) -> Environment:
    sites = tuple(Site(name=region, kind="region", aws_endpoint=url) for region, url in urls.items())
    return Environment(name="test", kind="staging", account="x", sites=sites, state_store="file:///nowhere")


@dataclass
class World:
    """A network with an instance, and contexts of runs in it."""

    cloud: Cloud
    instance: str
    group: str
    subnet: str

    def context(self, **given: Any) -> Context:
        urls = {region: self.cloud.url(region) for region in (EAST, WEST)}
        return testing.context(environment(urls), source=EAST, target=WEST, **given)

    def target(self, fault: Action[Any, Any]) -> dict[str, str]:
        names = {stop.name: ("instance", self.instance), cut.name: ("group", self.group)}
        name, value = names.get(fault.name, ("subnet", self.subnet))
        return {"site": WEST, name: value}

    def seen(self, fault: Action[Any, Any]) -> Any:
        """What a plain client sees at the fault's target."""
        ec2 = self.cloud.client("ec2", WEST)
        if fault is stop:
            found = ec2.describe_instances(InstanceIds=[self.instance])
            return found["Reservations"][0]["Instances"][0]["State"]["Name"]
        if fault is cut:
            return ec2.describe_security_groups(GroupIds=[self.group])["SecurityGroups"][0]["IpPermissions"]
        asked = [{"Name": "association.subnet-id", "Values": [self.subnet]}]
        entries = ec2.describe_network_acls(Filters=asked)["NetworkAcls"][0]["Entries"]
        return sorted((e["RuleNumber"], e["RuleAction"], e["Egress"]) for e in entries)

    def schedules(self) -> list[str]:
        return [one["Name"] for one in self.cloud.client("scheduler", WEST).list_schedules()["Schedules"]]


BROKEN: dict[str, Any] = {
    "aws.instance-stop": lambda seen: seen == "stopped",
    "aws.security-group-cut": lambda seen: seen == [],
    "aws.subnet-isolate": lambda seen: [e[:2] for e in seen if e[0] < 3] == [(1, "deny")] * 2 + [(2, "deny")] * 2,
}
EACH = pytest.mark.parametrize("fault", [stop, cut, isolate], ids=lambda fault: fault.name)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ExitStack() as stack:
        cloud = Cloud(stack, tmp_path_factory.mktemp("cloud"), ("ec2", "scheduler", "sts", "rds"))
        ec2 = cloud.client("ec2", WEST)
        vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.9.1.0/24")["Subnet"]["SubnetId"]
        acl = ec2.create_network_acl(VpcId=vpc)["NetworkAcl"]["NetworkAclId"]
        asked = [{"Name": "association.subnet-id", "Values": [subnet]}]
        (old,) = ec2.describe_network_acls(Filters=asked)["NetworkAcls"][0]["Associations"]
        ec2.replace_network_acl_association(AssociationId=old["NetworkAclAssociationId"], NetworkAclId=acl)
        group = ec2.create_security_group(GroupName="web", Description="web", VpcId=vpc)["GroupId"]
        for port, net in ((443, "0.0.0.0/0"), (5432, "10.9.0.0/16")):
            ec2.authorize_security_group_ingress(
                GroupId=group, IpProtocol="tcp", FromPort=port, ToPort=port, CidrIp=net
            )
        image = ec2.describe_images()["Images"][0]["ImageId"]
        made = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, SubnetId=subnet)["Instances"][0]
        yield World(cloud, made["InstanceId"], group, subnet)


async def injected(world: World, ctx: Context, fault: Action[Any, Any], lease_s: float = 600.0) -> Any:
    """Inject it as the engine does; its parameters."""
    p = fault.params.model_validate({**world.target(fault), "lease_s": lease_s})
    await fault(ctx, p, await fault.observe(ctx, p))
    return p


@EACH
async def test_a_fault_is_seen_from_outside_and_gone_after_its_heal(world: World, fault: Action[Any, Any]) -> None:
    told: list[Any] = []
    ctx = replace(world.context(step="inject"), tell=told.append)
    before = world.seen(fault)
    p = await injected(world, ctx, fault)
    assert BROKEN[fault.name](world.seen(fault)) and not BROKEN[fault.name](before)
    assert fault.state(p, await fault.observe(ctx, p)) is State.HOLDS
    (left,) = (await faults(ctx, Nothing())).markers
    assert (left.fault, left.params, left.step, left.state) == (fault.name, p.model_dump(), "inject", "armed")
    assert left.expires_in_s is not None and 590 < left.expires_in_s <= 600
    await injected(world, ctx, fault)  # the same step adopts it
    with pytest.raises(Refused, match="injected already, by inject of test"):
        await injected(world, world.context(run="another"), fault)
    assert fault.heal is not None
    # From another machine: what is left says everything that is needed.
    await fault.heal(replace(ctx, step="heal"), fault.params.model_validate(left.params), await fault.observe(ctx, p))
    assert world.seen(fault) == before
    assert fault.state(p, await fault.observe(ctx, p)) is State.ABSENT
    assert (await faults(ctx, Nothing())).markers == () and world.schedules() == []
    assert [(f.id, f.state) for f in told][:2] == [("inject", "armed"), ("inject", "injected")]
    assert (told[-1].id, told[-1].state, told[-1].detail["by"]) == ("inject", "healed", "drkit")
    await ctx.providers.aclose()


async def test_a_rule_that_somebody_restored_keeps_no_other_rule_from_coming_back(world: World) -> None:
    ctx, before = world.context(step="inject"), world.seen(cut)
    p = await injected(world, ctx, cut)
    world.cloud.client("ec2", WEST).authorize_security_group_ingress(
        GroupId=world.group, IpProtocol="tcp", FromPort=443, ToPort=443, CidrIp="0.0.0.0/0"
    )
    assert cut.heal is not None
    await cut.heal(ctx, p, await cut.observe(ctx, p))
    assert sorted(world.seen(cut), key=str) == sorted(before, key=str) and len(before) == 2
    assert world.schedules() == []
    await ctx.providers.aclose()


INJECTOR = """
import asyncio, sys
sys.path.insert(0, {tests!r})
import test_aws_faults as t
from drkit import testing

async def main():
    ctx = testing.context(t.environment({urls!r}), source=t.EAST, target=t.WEST, run="killed")
    fault = {{f.name: f for f in (t.stop, t.cut, t.isolate)}}[{name!r}]
    p = fault.params.model_validate({params!r})
    await fault(ctx, p, await fault.observe(ctx, p))
    print("injected", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@EACH
def test_a_fault_heals_by_its_lease_when_drkit_is_killed(world: World, fault: Action[Any, Any]) -> None:
    before, since = world.seen(fault), world.cloud.calls_so_far()
    urls = {region: world.cloud.url(region) for region in (EAST, WEST)}
    params = {**world.target(fault), "lease_s": 3.0}
    text = INJECTOR.format(tests=str(Path(__file__).parent), urls=urls, name=fault.name, params=params)
    child = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "injected\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert BROKEN[fault.name](world.seen(fault))
    schedule = world.cloud.client("scheduler", WEST).get_schedule(Name=world.schedules()[0])
    at = datetime.strptime(schedule["ScheduleExpression"], "at(%Y-%m-%dT%H:%M:%S)").replace(tzinfo=UTC).timestamp()
    until(lambda: world.seen(fault) == before, 6.0)
    late_s = time.time() - at
    print(f"{fault.name}: {late_s:.3f} s after its lease's end")
    assert 0 <= late_s < 1.5
    until(lambda: not world.schedules(), 1.0)
    made = [c["operation"] for c in world.cloud.admin(f"/calls?since={since}")["calls"] if c["caller"] == CALLER]
    inverse = {"aws.instance-stop": ["StartInstances"], "aws.security-group-cut": ["AuthorizeSecurityGroupIngress"] * 2}
    assert made == inverse.get(fault.name, ["DeleteNetworkAclEntry"] * 4)


@EACH
async def test_without_a_lease_nothing_is_injected(world: World, fault: Action[Any, Any]) -> None:
    before, ctx = world.seen(fault), world.context()
    p = fault.params.model_validate(world.target(fault))
    seen = await fault.observe(ctx, p)
    world.cloud.set(WEST, "503", service="sts")
    try:
        with pytest.raises(Refused, match="lease cannot be armed") as refused:
            await fault(ctx, p, seen)
    finally:
        world.cloud.set(WEST)
    assert "Nothing was injected." in refused.value.message
    assert world.seen(fault) == before and world.schedules() == []
    await ctx.providers.aclose()


class Over:
    """Our own lease of the environment, which ran out."""

    def remaining_s(self) -> float:
        return 0.0


async def test_whoever_holds_the_environment_no_longer_injects_nothing(world: World) -> None:
    ctx = replace(world.context(), lease=Over())
    with pytest.raises(Refused, match="lease of the environment is over"):
        await injected(world, ctx, stop, lease_s=1.0)
    assert world.seen(stop) == "running"
    until(lambda: not world.schedules())
    await ctx.providers.aclose()


async def test_what_is_so_already_is_no_fault_of_ours_to_undo(world: World) -> None:
    ctx, ec2 = world.context(), world.cloud.client("ec2", WEST)
    ec2.stop_instances(InstanceIds=[world.instance])
    try:
        with pytest.raises(Refused, match="so already"):
            await injected(world, ctx, stop)
        assert world.schedules() == []
    finally:
        ec2.start_instances(InstanceIds=[world.instance])
    await ctx.providers.aclose()


async def test_a_subnet_whose_acl_guards_another_is_not_cut_off(world: World) -> None:
    ctx, ec2 = world.context(), world.cloud.client("ec2", WEST)
    p = isolate.params.model_validate(world.target(isolate))
    shared = (await isolate.observe(ctx, p)).model_copy(update={"others": ("subnet-other",)})
    with pytest.raises(Refused, match="guards subnet-other too"):
        await isolate(ctx, p, shared)
    assert world.schedules() == [] and not BROKEN[isolate.name](world.seen(isolate))
    assert ec2.describe_subnets(SubnetIds=[world.subnet])["Subnets"]
    await ctx.providers.aclose()


async def test_an_injection_that_is_denied_is_taken_back_with_its_lease(world: World) -> None:
    ctx = world.context()
    p = stop.params.model_validate({"site": WEST, "instance": "i-0123456789abcdef0"})
    before = stop.observe.answer(state="running")
    with pytest.raises(StepFailed) as failed:
        await stop(ctx, p, before)
    assert failed.value.world == "untouched" and world.schedules() == []
    await ctx.providers.aclose()


async def test_what_is_refused_half_way_is_taken_back(world: World) -> None:
    ctx, ec2, before = world.context(), world.cloud.client("ec2", WEST), world.seen(isolate)
    p = isolate.params.model_validate(world.target(isolate))
    seen = await isolate.observe(ctx, p)
    rule = {"NetworkAclId": seen.acl, "RuleNumber": 2, "Egress": True}
    ec2.create_network_acl_entry(**rule, Protocol="-1", RuleAction="allow", CidrBlock="10.0.0.0/8")  # made meanwhile
    with pytest.raises(StepFailed, match="taken back"):
        await isolate(ctx, p, seen)
    assert world.seen(isolate) == before and world.schedules() == []
    await ctx.providers.aclose()


async def test_nothing_is_injected_where_leftovers_would_not_look() -> None:
    sites = tuple(Site(name=region, kind="region") for region in (EAST, WEST))
    nowhere = Environment(name="test", kind="staging", account="x", sites=sites, state_store="file:///nowhere")
    ctx = testing.context(nowhere, source=EAST, target=WEST)
    with pytest.raises(Refused, match="leftovers would not be found"):
        await stop(ctx, stop.params.model_validate({"site": WEST, "instance": "i-1"}), InstanceState(state="running"))
    assert await faults(ctx, Nothing()) == Markers()


async def test_a_failover_moves_the_writer_and_is_seen_to(world: World) -> None:
    ctx, rds = world.context(), world.cloud.client("rds", WEST)
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
    await ctx.providers.aclose()


async def test_a_region_that_does_not_answer_is_silent(world: World) -> None:
    ctx = world.context()
    world.cloud.set(EAST, "refuse")
    try:
        found = await faults(ctx, Nothing())
    finally:
        world.cloud.set(EAST)
    assert found.markers == () and len(found.silent) == 1 and EAST in found.silent[0]
    await ctx.providers.aclose()
