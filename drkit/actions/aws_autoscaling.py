"""Auto Scaling: the web tier at its production size, counted in instances that are in service."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge

from drkit.catalog import action, probe
from drkit.context import Context
from drkit.errors import StepFailed, Unobservable
from drkit.model.observation import Observation, State
from drkit.model.paper import Paper, lines
from drkit.model.params import Params, SiteName, Use
from drkit.providers.aws import Aws


class Group(Params):
    """An auto scaling group."""

    site: SiteName = "target"
    """Region of the group."""
    group: str
    """Its name."""


class GroupState(Observation):
    """What the group wants and what it has. All zero and `exists` false: there is no such group."""

    exists: bool
    desired: int = 0
    maximum: int = 0
    in_service: int = 0
    healthy: int = 0
    suspended: list[str] = []
    images: list[str] = []
    """Images that the instances in service were started from."""


@probe("aws.autoscaling.state", plane="control")
async def state(ctx: Context, p: Group) -> GroupState:
    """Count instances that are in service and healthy, and look what they run."""
    aws = ctx.use(Aws)
    request = {"AutoScalingGroupNames": [p.group]}
    found = (await aws.call(p.site, "autoscaling", "describe_auto_scaling_groups", request))["AutoScalingGroups"]
    if not found:
        return GroupState(exists=False)
    group = found[0]
    serving = [each for each in group["Instances"] if each["LifecycleState"] == "InService"]
    ids = [each["InstanceId"] for each in serving]
    images: set[str] = set()
    if ids:
        reservations = (await aws.call(p.site, "ec2", "describe_instances", {"InstanceIds": ids}))["Reservations"]
        running = [i for r in reservations for i in r["Instances"] if i["State"]["Name"] == "running"]
        images = {instance["ImageId"] for instance in running}
        alive = {instance["InstanceId"] for instance in running}
        serving = [each for each in serving if each["InstanceId"] in alive]
    return GroupState(
        exists=True,
        desired=group["DesiredCapacity"],
        maximum=group["MaxSize"],
        in_service=len(serving),
        healthy=sum(each["HealthStatus"] == "Healthy" for each in serving),
        suspended=sorted(process["ProcessName"] for process in group["SuspendedProcesses"]),
        images=sorted(images),
        answered_by=group["AutoScalingGroupARN"],
    )


class Scale(Group):
    """Scale a group and wait until that many instances are in service and healthy."""

    to: Annotated[int, Ge(0)]
    """Number of instances."""
    image: str = ""
    """Image that every instance must have been started from; empty: any."""


@action("aws.autoscaling.scale", observe=state, repeat="safe", plane="control", timeout_s=300, poll_s=0.3)
async def scale(ctx: Context, p: Scale, before: GroupState) -> None:
    """Set the desired capacity."""
    if not before.exists:
        raise Unobservable(f"There is no auto scaling group {p.group} in {p.site}.")
    if before.maximum < p.to:
        raise StepFailed(f"{p.group} may not grow beyond {before.maximum}; {p.to} are needed.", world="untouched")
    request = {"AutoScalingGroupName": p.group, "DesiredCapacity": p.to, "HonorCooldown": False}
    await ctx.use(Aws).call(p.site, "autoscaling", "set_desired_capacity", request)


@scale.check
def scaled(p: Scale, now: GroupState) -> State:
    """Desired and actual agree with what was meant, and nothing else was started."""
    if not now.exists or "Launch" in now.suspended or now.maximum < p.to:
        return State.UNKNOWN
    if p.image and now.images and now.images != [p.image]:
        return State.UNKNOWN  # scaling again would start more of the wrong ones
    if now.desired != p.to:
        return State.ABSENT
    return State.HOLDS if now.in_service == now.healthy == p.to else State.IN_PROGRESS


@scale.undo
def scale_back(p: Scale, before: GroupState, after: GroupState | None) -> Use | None:
    """The size it had."""
    return scale.use(p.but(to=before.desired, image="")) if before.exists else None


_SHOWN = "AutoScalingGroups[].[DesiredCapacity,MaxSize,Instances[].[InstanceId,LifecycleState,HealthStatus][]]"


@state.by_hand
def look_at_group(p: Group, paper: Paper) -> str:
    """Wanted, allowed, and every instance with its state."""
    return lines(
        "# wanted and largest size, then every instance: InService and Healthy are the ones that count",
        paper.aws(p.site, "autoscaling describe-auto-scaling-groups", auto_scaling_group_names=[p.group], query=_SHOWN),
    )


@scale.by_hand
def scale_by_hand(p: Scale, paper: Paper) -> str:
    """Set the desired capacity."""
    call = "autoscaling set-desired-capacity"
    return paper.aws(p.site, call, auto_scaling_group_name=p.group, desired_capacity=p.to, honor_cooldown=False)
