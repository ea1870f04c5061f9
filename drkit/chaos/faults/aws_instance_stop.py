"""aws.instance-stop: an instance is stopped, and started again."""

from __future__ import annotations

from drkit.catalog import probe
from drkit.chaos.awslease import Call
from drkit.chaos.onaws import AwsFault, Change, OnAws, Seen, aws_fault
from drkit.context import Context
from drkit.errors import Unobservable
from drkit.model.observation import State
from drkit.model.paper import Paper
from drkit.model.values import Json
from drkit.providers.aws import Aws, AwsError


class Instance(OnAws):
    """An instance."""

    instance: str
    """Its id, `i-…`."""


class InstanceState(Seen):
    """What EC2 says of an instance."""

    state: str
    """`running`, `stopped`, or what is between them."""


@probe("aws.instance", plane="control")
async def instance(ctx: Context, p: Instance) -> InstanceState:
    """Whether an instance runs."""
    try:
        found = await ctx.use(Aws).call(p.site, "ec2", "describe_instances", {"InstanceIds": [p.instance]})
    except AwsError as error:
        raise Unobservable(error.message) from error
    return InstanceState(state=found["Reservations"][0]["Instances"][0]["State"]["Name"])


class Stop(Instance, AwsFault):
    """Which instance is to be stopped."""


@aws_fault("aws.instance-stop", observe=instance)
def stop(p: Stop, before: InstanceState) -> Change:
    """Stop an instance; what it had in memory and on its own disks is lost, volumes and addresses are kept."""
    it: dict[str, Json] = {"InstanceIds": [p.instance]}
    return Change((Call("ec2", "StopInstances", it),), (Call("ec2", "StartInstances", it),))


@stop.check
def stopped(p: Stop, now: InstanceState) -> State:
    """It is stopped; healed only when it runs."""
    known = {"stopped": State.HOLDS, "running": State.ABSENT}
    return known.get(now.state, State.IN_PROGRESS if now.state in ("stopping", "pending") else State.UNKNOWN)


@stop.by_hand
def stop_by_hand(p: Stop, paper: Paper) -> str:
    """One call."""
    return paper.aws(p.site, "ec2 stop-instances", instance_ids=p.instance)
