"""The lease of a fault in AWS: one-shot schedules of EventBridge Scheduler, each with one inverse call. Thin.

A schedule calls one API operation by itself (a universal target), with the stored inverse as its input: nothing of
ours has to run for it. Its description says whose it is; so the schedules are the markers too. They stay when they are
done: AWS deletes one that deletes itself also when it gave up, and nobody would know that the fault is still there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from drkit.actions.together import together
from drkit.context import Context
from drkit.errors import DrkitError, Refused, Unobservable
from drkit.model import written
from drkit.model.environment import Environment
from drkit.model.values import Json
from drkit.providers.aws import Aws, AwsError

PREFIX: Final = "drkit."
#: How long, and how often, AWS tries an inverse call before it gives up: its own maxima, written down.
RETRIES: Final[Mapping[str, Json]] = {"MaximumEventAgeInSeconds": 86400, "MaximumRetryAttempts": 185}
_ARN: Final = "arn:aws:scheduler:::aws-sdk:"
_AT: Final = "at(%Y-%m-%dT%H:%M:%S)"
#: AWS keeps so much of a schedule's description.
_SAID_MAX: Final = 512
_GONE: Final = "ResourceNotFoundException"


@dataclass(frozen=True, slots=True)
class Call:
    """One operation of an API: `ec2`, `StopInstances`, its parameters."""

    service: str
    operation: str
    input: Mapping[str, Json]

    @property
    def target(self) -> str:
        """The universal target of a schedule that makes this call."""
        return f"{_ARN}{self.service}:{self.operation[0].lower()}{self.operation[1:]}"


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule that undoes a part of a fault, as AWS has it."""

    name: str
    at: datetime
    call: Call
    said: dict[str, Any]
    """Its description: `fault`, `params`, `run`, `step`."""
    enabled: bool

    @property
    def key(self) -> str:
        """Which fault at which target: `fault_key`."""
        return self.name.removeprefix(PREFIX).rsplit(".", 1)[0]


def reached(environment: Environment) -> list[str]:
    """Names of the regions in which faults are looked for, and so may be injected; none if nothing says it uses AWS."""
    regions = [site for site in environment.sites if site.kind == "region"]
    if environment.aws_credentials is None and not environment.state_store.startswith("s3://"):
        regions = [site for site in regions if site.aws_endpoint is not None]
    return [site.name for site in regions]


def wanted(key: str, at: datetime, revert: Sequence[Call], said: dict[str, Any]) -> list[Schedule]:
    """The schedules of a fault's lease that ends then. Pure."""
    return [Schedule(f"{PREFIX}{key}.{n:03}", at, call, said, True) for n, call in enumerate(revert)]


async def arm(ctx: Context, site: str, role: str, lease: Sequence[Schedule], *, why: str) -> None:
    """Make the schedules and see them. Refused if that cannot be: none is left then; `why` begins what is said."""
    text = json.dumps(lease[0].said, separators=(",", ":"))
    if len(text) > _SAID_MAX:
        raise Refused(f"{why}: what says whose lease it is has {len(text)} characters, {_SAID_MAX} at most.")
    aws = ctx.use(Aws)
    try:
        account = (await aws.call(site, "sts", "get_caller_identity"))["Account"]
        for one in lease:
            target = {
                "Arn": one.call.target, "RoleArn": f"arn:aws:iam::{account}:role/{role}",
                "Input": json.dumps(one.call.input), "RetryPolicy": RETRIES,
            }  # fmt: skip
            request = {
                "Name": one.name, "Description": text, "ScheduleExpression": one.at.strftime(_AT), "Target": target,
                "FlexibleTimeWindow": {"Mode": "OFF"}, "ActionAfterCompletion": "NONE",
            }  # fmt: skip
            await aws.call(site, "scheduler", "create_schedule", request)
        found, _ = await schedules(ctx, site, f"{PREFIX}{lease[0].key}.")
        if found != list(lease):
            raise Unobservable("what was armed is not there")
    except DrkitError as error:
        left = "" if await disarm(ctx, site, lease) else " A schedule may be left that undoes nothing."
        raise Refused(
            f"{why}: its lease cannot be armed ({error.message}). Nothing was injected.{left}",
            hint=f"drkit explain {lease[0].said['fault']}",
        ) from error


async def disarm(ctx: Context, site: str, lease: Sequence[Schedule]) -> bool:
    """Delete what there is of these; False if that is not certain."""
    try:
        for one in lease:
            await delete(ctx, site, one.name)
    except DrkitError:
        return False
    written.taken_back()
    return True


async def delete(ctx: Context, site: str, name: str) -> None:
    """Delete a schedule, or find it gone. DrkitError."""
    try:
        await ctx.use(Aws).call(site, "scheduler", "delete_schedule", {"Name": name})
    except AwsError as error:
        if error.aws_code != _GONE:
            raise


async def send(ctx: Context, site: str, call: Call) -> None:
    """Make one call ourselves. DrkitError."""
    from botocore import xform_name

    await ctx.use(Aws).call(site, call.service, xform_name(call.operation), call.input, write=True)


async def schedules(ctx: Context, site: str, prefix: str) -> tuple[list[Schedule], datetime]:
    """Leases of a region whose names begin so, in order of their names, and what time it is there."""
    aws = ctx.use(Aws)
    answer = await aws.call(site, "scheduler", "list_schedules", {"NamePrefix": prefix})
    names = [one["Name"] for one in answer["Schedules"] if one["Name"].startswith(prefix)]
    if answer.get("NextToken"):
        names = [one["Name"] for one in await aws.pages(
            site, "scheduler", "list_schedules", "Schedules", {"NamePrefix": prefix}
        )]  # fmt: skip
    now = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
    found = await together([_schedule(aws, site, name) for name in sorted(names)])
    return [one for one in found if one is not None], now


async def _schedule(aws: Aws, site: str, name: str) -> Schedule | None:
    """One schedule; None if it is gone meanwhile."""
    try:
        got = await aws.call(site, "scheduler", "get_schedule", {"Name": name})
    except AwsError as error:
        if error.aws_code != _GONE:
            raise
        return None
    service, operation = got["Target"]["Arn"].removeprefix(_ARN).split(":")
    return Schedule(
        name, datetime.strptime(got["ScheduleExpression"], _AT).replace(tzinfo=UTC),
        Call(service, operation[0].upper() + operation[1:], json.loads(got["Target"]["Input"])),
        json.loads(got["Description"]), got["State"] == "ENABLED",
    )  # fmt: skip
