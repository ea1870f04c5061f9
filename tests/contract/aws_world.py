"""A made-up account in the sandbox's cloud, and every fault in AWS with what a plain client sees of its target."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cloud_parts import EAST, WEST, Cloud

from drkit import testing
from drkit.catalog import Action
from drkit.chaos.faults.aws_bucket_deny import bucket_deny
from drkit.chaos.faults.aws_health_check_invert import invert
from drkit.chaos.faults.aws_iam_deny import iam_deny
from drkit.chaos.faults.aws_instance_stop import stop
from drkit.chaos.faults.aws_key_disable import disable
from drkit.chaos.faults.aws_replication_pause import pause
from drkit.chaos.faults.aws_security_group_cut import cut
from drkit.chaos.faults.aws_subnet_isolate import isolate
from drkit.chaos.faults.aws_zone_isolate import isolate as isolate_zone
from drkit.context import Context, Provider
from drkit.model.environment import Environment, Site
from drkit.providers.aws import READS, Aws

SERVICES = ("ec2", "scheduler", "sts", "rds", "route53", "s3", "iam", "kms")


def environment(urls: dict[str, str]) -> Environment:
    sites = tuple(Site(name=region, kind="region", aws_endpoint=url) for region, url in urls.items())
    return Environment(name="test", kind="staging", account="x", sites=sites, state_store="file:///nowhere")


class Kept(Aws):
    """AWS as all runs of a test file reach it: its clients, which take long to make, outlive a run."""

    async def aclose(self) -> None:
        """They are closed with the process."""


class Killed(BaseException):
    """drkit is gone."""


class Dying(Aws):
    """AWS as a process reaches it that is killed at one of its writes."""

    def __init__(self, environment: Environment, writes: int, *, arrives: bool) -> None:
        super().__init__(environment)
        self.writes, self.arrives = writes, arrives

    async def call(self, site: str, service: str, operation: str, *given: Any, **more: Any) -> dict[str, Any]:
        if operation.startswith(READS):
            return await super().call(site, service, operation, *given, **more)
        self.writes -= 1
        if self.writes >= 0 or self.arrives:
            answer = await super().call(site, service, operation, *given, **more)
        if self.writes < 0:
            raise Killed
        return answer


@dataclass
class World:
    """The account, and contexts of runs in it."""

    cloud: Cloud
    names: dict[str, str] = field(default_factory=dict)
    """What was made, by what it is."""
    aws: Kept | None = None

    @property
    def urls(self) -> dict[str, str]:
        return {region: self.cloud.url(region) for region in (EAST, WEST)}

    def context(self, *, fakes: Mapping[type[Provider], Provider] | None = None, **given: Any) -> Context:
        known = environment(self.urls)
        self.aws = self.aws or Kept(known)
        return testing.context(known, source=EAST, target=WEST, fakes=fakes or {Aws: self.aws}, **given)

    def client(self, service: str) -> Any:
        return self.cloud.client(service, WEST)

    def schedules(self) -> list[str]:
        return [one["Name"] for one in self.client("scheduler").list_schedules()["Schedules"]]

    def bring_forward(self, name: str, **retry: int) -> float:
        """Make a schedule due within the second after the next; its instant. `retry`: how long AWS is to try."""
        known = self.client("scheduler").get_schedule(Name=name)
        at = math.ceil(time.time()) + 1
        if retry:
            known["Target"]["RetryPolicy"] = retry
        asked = {key: known[key] for key in ("Name", "Description", "FlexibleTimeWindow", "Target", "State")}
        expression = datetime.fromtimestamp(at, UTC).strftime("at(%Y-%m-%dT%H:%M:%S)")
        self.client("scheduler").update_schedule(**asked, ScheduleExpression=expression)
        return at


@dataclass(frozen=True)
class Case:
    """A fault, what it is pointed at, and what a plain client sees there."""

    fault: Action[Any, Any]
    target: Callable[[World], dict[str, Any]]
    seen: Callable[[World], Any]
    broken: Callable[[Any], bool]
    inverse: tuple[str, ...]
    """Operations that its lease carries out, as the gateway writes them down."""

    def params(self, world: World, lease_s: float = 600.0) -> Any:
        return self.fault.params.model_validate({"site": WEST, "lease_s": lease_s, **self.target(world)})


def instance_state(world: World) -> Any:
    found = world.client("ec2").describe_instances(InstanceIds=[world.names["instance"]])
    return found["Reservations"][0]["Instances"][0]["State"]["Name"]


def key_state(world: World) -> Any:
    return world.client("kms").describe_key(KeyId=world.names["key"])["KeyMetadata"]["KeyState"]


def let_in(world: World) -> Any:
    (group,) = world.client("ec2").describe_security_groups(GroupIds=[world.names["group"]])["SecurityGroups"]
    return group["IpPermissions"]


def guarding(world: World, subnet: str) -> list[tuple[int, str, bool]]:
    asked = [{"Name": "association.subnet-id", "Values": [world.names[subnet]]}]
    (acl,) = world.client("ec2").describe_network_acls(Filters=asked)["NetworkAcls"]
    return sorted((e["RuleNumber"], e["RuleAction"], e["Egress"]) for e in acl["Entries"])


def shut(entries: list[tuple[int, str, bool]]) -> bool:
    """The first four rules deny, each way twice."""
    first = entries[:4]
    return all(one[1] == "deny" and one[0] < 100 for one in first) and [one[2] for one in first] == [False, True] * 2


def inverted(world: World) -> Any:
    found = world.client("route53").get_health_check(HealthCheckId=world.names["health_check"])
    return found["HealthCheck"]["HealthCheckConfig"].get("Inverted", False)


def replication(world: World) -> Any:
    answer = world.client("s3").get_bucket_replication(Bucket=world.names["bucket"])
    return answer["ReplicationConfiguration"]


def role_policies(world: World) -> Any:
    iam = world.client("iam")
    names = iam.list_role_policies(RoleName="app")["PolicyNames"]
    return [iam.get_role_policy(RoleName="app", PolicyName=name)["PolicyDocument"] for name in names]


def bucket_statements(world: World) -> Any:
    return json.loads(world.client("s3").get_bucket_policy(Bucket="orders-copy")["Policy"])["Statement"]


def denies_for_ten_minutes(statement: Any) -> bool:
    """By its words; who is denied what, the sandbox's cloud does not know."""
    ends = datetime.fromisoformat(statement["Condition"]["DateLessThan"]["aws:CurrentTime"])
    return statement["Effect"] == "Deny" and 0 < (ends - datetime.now(UTC)).total_seconds() <= 602


CASES = {
    case.fault.name: case
    for case in (
        Case(
            stop, lambda w: {"instance": w.names["instance"]}, instance_state, lambda s: bool(s == "stopped"),
            ("StartInstances",),
        ),
        Case(
            disable, lambda w: {"key": w.names["key"]}, key_state, lambda s: bool(s == "Disabled"), ("EnableKey",),
        ),
        Case(
            cut, lambda w: {"group": w.names["group"]}, let_in, lambda s: bool(s == []),
            ("AuthorizeSecurityGroupIngress",) * 2,
        ),
        Case(
            isolate, lambda w: {"subnet": w.names["subnet"]}, lambda w: guarding(w, "subnet"), shut,
            ("DeleteNetworkAclEntry",) * 4,
        ),
        Case(
            isolate_zone, lambda w: {"zone": "us-west-2b", "vpc": w.names["vpc"]},
            lambda w: [guarding(w, name) for name in ("b1", "b2")], lambda seen: all(shut(one) for one in seen),
            ("DeleteNetworkAclEntry",) * 8,
        ),
        Case(
            invert, lambda w: {"health_check": w.names["health_check"]}, inverted, lambda s: s is True,
            ("POST /2013-04-01/healthcheck/{health_check}",),
        ),
        Case(
            pause, lambda w: {"bucket": w.names["bucket"], "rule": "all"}, replication,
            lambda seen: [rule["Status"] for rule in seen["Rules"]] == ["Disabled", "Enabled"],
            ("PUT /{bucket}?replication",),
        ),
        Case(
            iam_deny, lambda w: {"denied_role": "app", "actions": ("rds:*",)}, role_policies,
            lambda found: len(found) == 2 and any(denies_for_ten_minutes(one["Statement"][0]) for one in found[1:]),
            ("DeleteRolePolicy",),
        ),
        Case(
            bucket_deny, lambda w: {"bucket": "orders-copy", "actions": ("s3:GetObject",)}, bucket_statements,
            lambda found: len(found) == 2 and denies_for_ten_minutes(found[1]), ("PUT /orders-copy?policy",),
        ),
    )
}  # fmt: skip


def built(stack: ExitStack, folder: Path) -> World:
    """The account with all that the cases are pointed at."""
    world = World(Cloud(stack, folder, SERVICES))
    ec2 = world.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    world.names["vpc"] = vpc
    world.names["subnet"], world.names["acl"] = subnet(ec2, vpc, "10.9.1.0/24", "us-west-2a")
    group = ec2.create_security_group(GroupName="web", Description="web", VpcId=vpc)["GroupId"]
    for port, net in ((443, "0.0.0.0/0"), (5432, "10.9.0.0/16")):
        ec2.authorize_security_group_ingress(GroupId=group, IpProtocol="tcp", FromPort=port, ToPort=port, CidrIp=net)
    world.names["group"] = group
    image = ec2.describe_images()["Images"][0]["ImageId"]
    made = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, SubnetId=world.names["subnet"])["Instances"][0]
    world.names["instance"] = made["InstanceId"]
    for name, net in (("b1", "10.9.2.0/24"), ("b2", "10.9.3.0/24")):
        world.names[name], _ = subnet(ec2, vpc, net, "us-west-2b")
    for name, net in (
        ("c1", "10.9.4.0/24"),
        ("c2", "10.9.6.0/24"),
        ("d1", "10.9.5.0/24"),
    ):  # all behind the network's own ACL
        made = ec2.create_subnet(VpcId=vpc, CidrBlock=net, AvailabilityZone=f"us-west-2{name[0]}")
        world.names[name] = made["Subnet"]["SubnetId"]
    world.names["key"] = world.client("kms").create_key()["KeyMetadata"]["KeyId"]
    check = {"IPAddress": "10.9.1.4", "Port": 80, "Type": "HTTP", "ResourcePath": "/healthz"}
    made = world.client("route53").create_health_check(CallerReference="test", HealthCheckConfig=check)
    world.names["health_check"] = made["HealthCheck"]["Id"]
    copied(world, world.client("s3"))
    allow = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::orders-copy/*"}
    text = json.dumps({"Version": "2012-10-17", "Statement": [{"Sid": "Own", "Principal": "*", **allow}]})
    world.client("s3").put_bucket_policy(Bucket="orders-copy", Policy=text)
    iam = world.client("iam")
    iam.create_role(RoleName="app", AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": []}))
    own = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
    iam.put_role_policy(RoleName="app", PolicyName="a-own", PolicyDocument=own)
    return world


def copied(world: World, s3: Any) -> None:
    """A bucket with two rules of replication."""
    versioned = {"VersioningConfiguration": {"Status": "Enabled"}}
    for name in ("orders-west", "orders-copy"):
        s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": WEST})
        s3.put_bucket_versioning(Bucket=name, **versioned)
    to = {"Destination": {"Bucket": "arn:aws:s3:::orders-copy"}, "DeleteMarkerReplication": {"Status": "Disabled"}}
    rules = [
        {"ID": name, "Priority": n, "Status": "Enabled", "Filter": {"Prefix": prefix}, **to}
        for n, (name, prefix) in enumerate((("all", ""), ("logs", "logs/")), start=1)
    ]
    whole = {"Role": "arn:aws:iam::123456789012:role/copies", "Rules": rules}
    s3.put_bucket_replication(Bucket="orders-west", ReplicationConfiguration=whole)
    world.names["bucket"] = "orders-west"


def subnet(ec2: Any, vpc: str, net: str, zone: str) -> tuple[str, str]:
    """A subnet with a network ACL of its own: their ids."""
    made = ec2.create_subnet(VpcId=vpc, CidrBlock=net, AvailabilityZone=zone)["Subnet"]["SubnetId"]
    acl = ec2.create_network_acl(VpcId=vpc)["NetworkAcl"]["NetworkAclId"]
    asked = [{"Name": "association.subnet-id", "Values": [made]}]
    (old,) = ec2.describe_network_acls(Filters=asked)["NetworkAcls"][0]["Associations"]
    ec2.replace_network_acl_association(AssociationId=old["NetworkAclAssociationId"], NetworkAclId=acl)
    return made, acl
