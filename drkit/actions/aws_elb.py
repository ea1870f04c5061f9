"""The load balancer opened: the group's instances behind it, the listener forwarding, the web ACL in front of it."""

from __future__ import annotations

from typing import Any

from drkit.catalog import action, probe
from drkit.context import Context
from drkit.errors import Unobservable
from drkit.model.observation import Observation, State
from drkit.model.params import Params, SiteName, Use
from drkit.providers.aws import Aws, AwsError


class Balancer(Params):
    """A load balancer with the target group and the web ACL of the same name."""

    site: SiteName = "target"
    """Region of the load balancer."""
    name: str
    """Name of load balancer, target group and web ACL."""
    group: str
    """Auto scaling group whose instances serve, now and as they come."""


class BalancerState(Observation):
    """What stands between users and instances."""

    balancer_state: str | None = None
    tls: bool = False
    """The listener speaks HTTPS with a certificate."""
    forwards: bool = False
    """The listener forwards to the target group and does not answer by itself."""
    attached: bool = False
    """The group registers its instances with the target group by itself."""
    instances: list[str] = []
    """Instances of the group that are in service."""
    healthy: list[str] = []
    """Registered ones that the target group counts as healthy."""
    web_acl: str | None = None
    """Web ACL that protects the load balancer."""
    listener: str | None = None
    target_group: str | None = None
    balancer: str | None


@probe("aws.elb.state", plane="control")
async def state(ctx: Context, p: Balancer) -> BalancerState:
    """Look at load balancer, listener, target health and web ACL."""
    aws = ctx.use(Aws)
    try:
        found = (await aws.call(p.site, "elbv2", "describe_load_balancers", {"Names": [p.name]}))["LoadBalancers"]
    except AwsError as error:
        if "NotFound" not in error.aws_code:
            raise
        return BalancerState(balancer=None)
    balancer = found[0]["LoadBalancerArn"]
    group = await _target_group(aws, p)
    scaling = await _scaling_group(aws, p)
    listener = await _https_listener(aws, p, balancer)
    return BalancerState(
        balancer=balancer,
        balancer_state=found[0]["State"]["Code"],
        target_group=group,
        listener=listener["ListenerArn"] if listener else None,
        tls=bool(listener and listener.get("Certificates")),
        forwards=bool(listener and group and _forwards(listener, group)),
        attached=group in scaling.get("TargetGroupARNs", []),
        instances=sorted(i["InstanceId"] for i in scaling["Instances"] if i["LifecycleState"] == "InService"),
        healthy=await _healthy(aws, p, group) if group else [],
        web_acl=await _web_acl(aws, p, balancer),
        answered_by=balancer,
    )


async def _target_group(aws: Aws, p: Balancer) -> str | None:
    try:
        found = (await aws.call(p.site, "elbv2", "describe_target_groups", {"Names": [p.name]}))["TargetGroups"]
    except AwsError as error:
        if "NotFound" not in error.aws_code:
            raise
        return None
    return str(found[0]["TargetGroupArn"])


async def _https_listener(aws: Aws, p: Balancer, balancer: str) -> dict[str, Any] | None:
    found = (await aws.call(p.site, "elbv2", "describe_listeners", {"LoadBalancerArn": balancer}))["Listeners"]
    return next((each for each in found if each["Protocol"] == "HTTPS"), None)


def _forwards(listener: dict[str, Any], group: str) -> bool:
    actions = listener["DefaultActions"]
    return any(each["Type"] == "forward" and _goes_to(each, group) for each in actions)


def _goes_to(each: dict[str, Any], group: str) -> bool:
    weighted = [target["TargetGroupArn"] for target in each.get("ForwardConfig", {}).get("TargetGroups", [])]
    return group == each.get("TargetGroupArn") or group in weighted


async def _scaling_group(aws: Aws, p: Balancer) -> dict[str, Any]:
    request = {"AutoScalingGroupNames": [p.group]}
    groups = (await aws.call(p.site, "autoscaling", "describe_auto_scaling_groups", request))["AutoScalingGroups"]
    return groups[0] if groups else {"Instances": []}


async def _healthy(aws: Aws, p: Balancer, group: str) -> list[str]:
    found = await aws.call(p.site, "elbv2", "describe_target_health", {"TargetGroupArn": group})
    health = found["TargetHealthDescriptions"]
    # `unused` is a registered target of a listener that does not forward yet.
    return sorted(each["Target"]["Id"] for each in health if each["TargetHealth"]["State"] == "healthy")


async def _web_acl(aws: Aws, p: Balancer, balancer: str) -> str | None:
    try:
        found = await aws.call(p.site, "wafv2", "get_web_acl_for_resource", {"ResourceArn": balancer})
    except AwsError as error:
        if "NonexistentItem" not in error.aws_code:
            raise
        return None
    acl: str | None = found.get("WebACL", {}).get("ARN")
    return acl


@action("aws.elb.open", observe=state, repeat="safe", plane="control", timeout_s=120, poll_s=0.3)
async def open_balancer(ctx: Context, p: Balancer, before: BalancerState) -> None:
    """Protect the load balancer, put the group behind it, then let the listener forward; in that order."""
    aws = ctx.use(Aws)
    now = await state(ctx, p)
    if now.balancer is None or now.target_group is None or now.listener is None:
        raise Unobservable(f"{p.name} has no load balancer, target group or HTTPS listener in {p.site}.")
    if now.web_acl is None:
        acls = (await aws.call(p.site, "wafv2", "list_web_acls", {"Scope": "REGIONAL"}))["WebACLs"]
        found = [acl["ARN"] for acl in acls if acl["Name"] == p.name]
        if not found:
            raise Unobservable(f"There is no web ACL {p.name} in {p.site}.")
        request = {"WebACLArn": found[0], "ResourceArn": now.balancer}
        await aws.call(p.site, "wafv2", "associate_web_acl", request)
    if not now.attached:
        attach = {"AutoScalingGroupName": p.group, "TargetGroupARNs": [now.target_group]}
        await aws.call(p.site, "autoscaling", "attach_load_balancer_target_groups", attach)
    if not now.forwards:
        forward = [{"Type": "forward", "TargetGroupArn": now.target_group}]
        await aws.call(p.site, "elbv2", "modify_listener", {"ListenerArn": now.listener, "DefaultActions": forward})


@open_balancer.check
def opened(p: Balancer, now: BalancerState) -> State:
    """Active, protected, HTTPS, forwarding, and every instance that is in service is healthy behind it."""
    if now.balancer is None or now.listener is None or not now.tls:
        return State.UNKNOWN
    complete = now.attached and set(now.instances) <= set(now.healthy)
    good = now.balancer_state == "active" and now.forwards and now.web_acl is not None and complete
    return State.HOLDS if good else State.ABSENT


@open_balancer.undo
def left_open(p: Balancer, before: BalancerState, after: BalancerState | None) -> Use | None:
    """Left: without traffic it serves nobody; what users reach is decided by the routing controls."""
    return None
