"""A region's network from pilot light to service: the stack that gives private subnets a way out, and open groups."""

from __future__ import annotations

from typing import Any

from drkit.catalog import action, probe
from drkit.context import Context
from drkit.errors import StepFailed
from drkit.model.observation import Observation, State
from drkit.model.params import Params, SiteName, Use
from drkit.providers.aws import Aws, AwsError


class Network(Params):
    """A region's network, by the names its parts are tagged with."""

    site: SiteName = "target"
    """Region of the network."""
    prefix: str
    """What the `Name` tags of its parts start with: PREFIX-vpc, PREFIX-public-a, PREFIX-private, PREFIX-app."""
    app_port: int = 8080
    """Port on which the load balancer reaches the application."""
    zones_min: int = 2
    """Availability zones in which there must be public and private subnets."""


class NetworkState(Observation):
    """What there is of a network. Names of things that are not there are null."""

    vpc: str | None
    public_zones: int
    private_zones: int
    public_way_out: bool
    """The public route table leads to an internet gateway."""
    private_way_out: str | None
    """NAT gateway that the private route table leads to, if that gateway is available."""
    app_open: bool
    """The application's group lets the load balancer's group in."""
    app_group: str | None
    balancer_group: str | None
    private_table: str | None
    public_subnets: list[str]
    private_subnets: list[str]


@probe("aws.network.state", plane="control")
async def state(ctx: Context, p: Network) -> NetworkState:
    """Look at VPC, subnets, routes, NAT and security groups; what is looked at is what EC2 has, not what was asked."""
    ec2 = _Ec2(ctx, p)
    vpc = await ec2.named("describe_vpcs", "Vpcs", f"{p.prefix}-vpc")
    if vpc is None:
        return _nothing()
    inside = [{"Name": "vpc-id", "Values": [vpc["VpcId"]]}]
    subnets = (await ec2.call("describe_subnets", Filters=inside))["Subnets"]
    tables = (await ec2.call("describe_route_tables", Filters=inside))["RouteTables"]
    groups = {_name(g): g for g in (await ec2.call("describe_security_groups", Filters=inside))["SecurityGroups"]}
    public = [s for s in subnets if _name(s).startswith(f"{p.prefix}-public")]
    private = [s for s in subnets if _name(s).startswith(f"{p.prefix}-private")]
    private_table = next((t for t in tables if _name(t) == f"{p.prefix}-private"), None)
    app, balancer = groups.get(f"{p.prefix}-app"), groups.get(f"{p.prefix}-alb")
    return NetworkState(
        vpc=vpc["VpcId"],
        public_subnets=sorted(s["SubnetId"] for s in public),
        private_subnets=sorted(s["SubnetId"] for s in private),
        public_zones=len({s["AvailabilityZone"] for s in public}),
        private_zones=len({s["AvailabilityZone"] for s in private}),
        public_way_out=any(
            _default(t).get("GatewayId", "").startswith("igw-") for t in tables if _name(t) == f"{p.prefix}-public"
        ),
        private_table=private_table["RouteTableId"] if private_table else None,
        private_way_out=await ec2.available_nat(_default(private_table).get("NatGatewayId") if private_table else None),
        app_group=app["GroupId"] if app else None,
        balancer_group=balancer["GroupId"] if balancer else None,
        app_open=bool(app and balancer and _lets_in(app, balancer["GroupId"], p.app_port)),
        answered_by=vpc.get("OwnerId"),
    )


class Open(Network):
    """Give private subnets a way out, from a reviewed template, and let the load balancer reach the application."""

    stack: str
    """Name of the stack to make."""
    bucket: str
    """Bucket in the same region that holds the template."""
    template: str
    """Key of the template; its parameters are PublicSubnet and PrivateRouteTable."""


@action("aws.network.open", observe=state, repeat="safe", plane="control", timeout_s=300, poll_s=0.3)
async def open_network(ctx: Context, p: Open, before: NetworkState) -> None:
    """Make what is missing: the stack with the NAT gateway and its route, and the rule of the application's group."""
    now = await state(ctx, p)
    lacking = _lacking(p, now)
    if lacking:
        raise StepFailed(f"{p.prefix} in {p.site} lacks what this builds on: {', '.join(lacking)}.", world="untouched")
    if now.private_way_out is None:
        await _make_stack(ctx, p, now)
    if not now.app_open:
        rule = {
            "IpProtocol": "tcp",
            "FromPort": p.app_port,
            "ToPort": p.app_port,
            "UserIdGroupPairs": [{"GroupId": now.balancer_group}],
        }
        await _Ec2(ctx, p).call("authorize_security_group_ingress", GroupId=now.app_group, IpPermissions=[rule])


def _lacking(p: Network, now: NetworkState) -> list[str]:
    """What must be there before a way out can be made."""
    there = {
        "a VPC": now.vpc is not None,
        f"public subnets in {p.zones_min} zones": now.public_zones >= p.zones_min,
        f"private subnets in {p.zones_min} zones": now.private_zones >= p.zones_min,
        "a route from public subnets to an internet gateway": now.public_way_out,
        "a route table of the private subnets": now.private_table is not None,
        "security groups of application and load balancer": bool(now.app_group and now.balancer_group),
    }
    return [what for what, is_there in there.items() if not is_there]


async def _make_stack(ctx: Context, p: Open, now: NetworkState) -> None:
    aws = ctx.use(Aws)
    template = (await aws.call(p.site, "s3", "get_object", {"Bucket": p.bucket, "Key": p.template}))["Body"].decode()
    values = {"PublicSubnet": now.public_subnets[0], "PrivateRouteTable": str(now.private_table)}
    request = {
        "StackName": p.stack,
        "TemplateBody": template,
        "Parameters": [{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()],
        "ClientRequestToken": ctx.token,
        "Tags": [{"Key": "drkit:token", "Value": ctx.token}],
    }
    try:
        await aws.call(p.site, "cloudformation", "create_stack", request)
    except AwsError as error:
        if error.aws_code not in ("AlreadyExistsException", "ValidationError"):
            raise
        if "already exists" not in error.message.lower() and error.aws_code != "AlreadyExistsException":
            raise  # an earlier attempt's stack is looked at, not made again


@open_network.check
def opened(p: Open, now: NetworkState) -> State:
    """Subnets in enough zones, both kinds with a way out that is up, and an application that can be reached."""
    if now.vpc is None or min(now.public_zones, now.private_zones) < p.zones_min or not now.public_way_out:
        return State.ABSENT
    return State.HOLDS if now.private_way_out and now.app_open else State.ABSENT


@open_network.undo
def left_open(p: Open, before: NetworkState, after: NetworkState | None) -> Use | None:
    """Left in place: it changes nothing for users, and failback's list names it."""
    return None


class _Ec2:
    """EC2 calls for one network."""

    def __init__(self, ctx: Context, p: Network) -> None:
        self._aws = ctx.use(Aws)
        self._site = p.site

    async def call(self, operation: str, **params: Any) -> dict[str, Any]:
        return await self._aws.call(self._site, "ec2", operation, params)

    async def named(self, operation: str, key: str, name: str) -> dict[str, Any] | None:
        found = (await self.call(operation, Filters=[{"Name": "tag:Name", "Values": [name]}]))[key]
        return found[0] if len(found) == 1 else None

    async def available_nat(self, nat: str | None) -> str | None:
        if nat is None:
            return None
        found = (await self.call("describe_nat_gateways", NatGatewayIds=[nat]))["NatGateways"]
        return nat if any(each["State"] == "available" for each in found) else None


def _name(thing: dict[str, Any]) -> str:
    return next((tag["Value"] for tag in thing.get("Tags", []) if tag["Key"] == "Name"), "")


def _default(table: dict[str, Any]) -> dict[str, Any]:
    found = (route for route in table.get("Routes", []) if route.get("DestinationCidrBlock") == "0.0.0.0/0")
    return next(found, {})


def _lets_in(group: dict[str, Any], other: str, port: int) -> bool:
    return any(
        rule.get("FromPort", 0) <= port <= rule.get("ToPort", 65535)
        and any(pair.get("GroupId") == other for pair in rule.get("UserIdGroupPairs", []))
        for rule in group.get("IpPermissions", [])
    )


def _nothing() -> NetworkState:
    return NetworkState(
        vpc=None, public_subnets=[], private_subnets=[], public_zones=0, private_zones=0, public_way_out=False,
        private_table=None, private_way_out=None, app_group=None, balancer_group=None, app_open=False,
    )  # fmt: skip
