"""Faults in AWS: the lease is a set of one-shot schedules of EventBridge Scheduler, armed and seen before injection.

Each schedule calls one API operation by itself (a universal target), with the stored inverse as its input: nothing of
ours has to run for it. Its description says whose it is; so the schedules are the markers too. Expiry is counted on
AWS's clock, as its answers tell it. AWS may start a schedule up to a minute late.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeVar, get_type_hints

from drkit.actions.together import together
from drkit.catalog import Action, Probe, fault
from drkit.context import Context
from drkit.errors import DrkitError, OutcomeUnknown, Refused, StepFailed, Unobservable, Unreachable
from drkit.model.environment import Environment
from drkit.model.events import FaultChanged
from drkit.model.faults import Leased, Marker, fault_key
from drkit.model.observation import Observation, State
from drkit.model.paper import Paper, lines
from drkit.model.params import Params, SiteName
from drkit.model.values import Json
from drkit.providers.aws import Aws, AwsError

#: How a fault in AWS heals itself, as plans print it.
BY_SCHEDULE: Final = "EventBridge Scheduler, in the region itself"
PREFIX: Final = "drkit."
_ARN: Final = "arn:aws:scheduler:::aws-sdk:"
_AT: Final = "at(%Y-%m-%dT%H:%M:%S)"
#: AWS keeps so much of a schedule's description.
_SAID_MAX: Final = 512
#: What the inverse of an inverse is answered with: it is so already.
_SO_ALREADY: Final = frozenset({"InvalidPermission.Duplicate", "InvalidNetworkAclEntry.NotFound"})
_GONE: Final = "ResourceNotFoundException"


class OnAws(Params):
    """A region of the environment."""

    site: SiteName
    """Region that is meant: its name, `source` or `target`."""


class AwsFault(OnAws, Leased):
    """Base of the parameters of faults in AWS."""

    role: str = "drkit-lease"
    """IAM role that EventBridge Scheduler takes on to undo the fault; it may do the inverse calls and no more."""


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
class Change:
    """What breaks and what reverts; every revert is known, and can be repeated, before anything is broken."""

    inject: tuple[Call, ...]
    revert: tuple[Call, ...]


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule that undoes a part of a fault, as AWS has it."""

    name: str
    at: datetime
    call: Call
    said: dict[str, Any]
    """Its description: `fault`, `params`, `run`, `step`."""
    enabled: bool


PT = TypeVar("PT", bound=AwsFault)
OT = TypeVar("OT", bound=Observation)


def aws_fault(
    name: str, *, observe: Probe[Any, OT], timeout_s: float = 120.0
) -> Callable[[Callable[[PT, OT], Change]], Action[PT, OT]]:
    """Declare a fault in AWS by a pure function from parameters and what was seen before to a change.

    The function raises Refused where the change would reach further than it says. Its docstring describes the fault.
    """

    def declare(change: Callable[[PT, OT], Change]) -> Action[PT, OT]:
        async def apply(ctx: Context, p: PT, before: OT) -> None:
            await _inject(ctx, entry, p, before, change)

        async def heal(ctx: Context, p: PT, before: OT) -> None:
            await healed(ctx, name, p)

        params = next(iter(get_type_hints(change).values()))
        apply.__annotations__ = {"ctx": Context, "p": params, "before": Observation, "return": type(None)}
        apply.__doc__, apply.__module__ = change.__doc__, change.__module__
        entry: Action[PT, OT] = fault(
            name, observe=observe, lease=BY_SCHEDULE, plane="control", timeout_s=timeout_s
        )(apply)  # fmt: skip
        entry.healed_by(heal)
        assert entry.heal is not None  # just declared
        entry.heal.by_hand(lambda p, paper: _heal_by_hand(name, p, paper))
        return entry

    return declare


def reached(environment: Environment) -> list[str]:
    """Names of the regions in which faults are looked for, and so may be injected; none if nothing says it uses AWS."""
    regions = [site for site in environment.sites if site.kind == "region"]
    if environment.aws_credentials is None and not environment.state_store.startswith("s3://"):
        regions = [site for site in regions if site.aws_endpoint is not None]
    return [site.name for site in regions]


async def _inject(ctx: Context, entry: Action[PT, OT], p: PT, before: OT, change: Callable[[PT, OT], Change]) -> None:
    """Arm the lease, see it, inject. Refused or Unreachable if nothing was injected, StepFailed, OutcomeUnknown."""
    if ctx.site(p.site).name not in reached(ctx.environment):
        raise Refused(
            f"{entry.name}: nothing in the environment says that {p.site} is in AWS, so leftovers would not be found.",
            hint="give it an s3:// state store, aws_credentials or an aws_endpoint",
        )
    key, asked_at = fault_key(entry.name, p), ctx.clock.monotonic()
    armed, now = await schedules(ctx, p.site, f"{PREFIX}{key}.")
    so_already = entry.state(p, before) is State.HOLDS
    if armed and (armed[0].said["run"], armed[0].said["step"]) != (ctx.run, ctx.step):
        said = armed[0].said
        raise Refused(
            f"{entry.name} in {p.site} is injected already, by {said['step']} of {said['run']}.",
            hint="drkit chaos leftovers",
        )
    if so_already and not armed:
        raise Refused(f"{entry.name} in {p.site}: it is so already, and not by a fault.", hint="drkit chaos leftovers")
    if not armed:
        wanted = change(p, before)
        at = datetime.fromtimestamp(math.ceil(now.timestamp() + p.lease_s), UTC)
        armed = await _armed(ctx, entry.name, p, key, at, wanted.revert)
    left_s = (armed[0].at - now).total_seconds()
    detail: dict[str, Json] = {"key": key, "lease": "schedule", "left_s": left_s}
    ctx.tell(FaultChanged(fault=entry.name, id=ctx.step, state="armed", detail=dict(detail)))
    if not so_already:
        # An injector that was frozen meanwhile must not break what its lease has healed, nor what is another's by now.
        if ctx.clock.monotonic() - asked_at >= left_s or not await _whole(ctx, p.site, armed):
            raise Refused(f"{entry.name} in {p.site}: its lease is over; nothing was injected.")
        ctx.permit.until(0.0)
        await _break(ctx, entry.name, p, armed, change(p, before).inject)
    ctx.tell(FaultChanged(fault=entry.name, id=ctx.step, state="injected", detail=dict(detail)))


async def _armed(
    ctx: Context, name: str, p: AwsFault, key: str, at: datetime, revert: Sequence[Call]
) -> list[Schedule]:
    """Make the schedules. Refused if they cannot be made: none is left then, and nothing was injected."""
    said = {"fault": name, "params": p.model_dump(mode="json"), "run": ctx.run, "step": ctx.step}
    text = json.dumps(said, separators=(",", ":"))
    if len(text) > _SAID_MAX:
        raise Refused(f"{name}: what says whose lease it is has {len(text)} characters, {_SAID_MAX} at most.")
    wanted = [Schedule(f"{PREFIX}{key}.{n}", at, call, said, True) for n, call in enumerate(revert)]
    aws = ctx.use(Aws)
    try:
        account = (await aws.call(p.site, "sts", "get_caller_identity"))["Account"]
        for one in wanted:
            role = f"arn:aws:iam::{account}:role/{p.role}"
            target = {"Arn": one.call.target, "RoleArn": role, "Input": json.dumps(one.call.input)}
            request = {
                "Name": one.name, "Description": text, "ScheduleExpression": at.strftime(_AT), "Target": target,
                "FlexibleTimeWindow": {"Mode": "OFF"}, "ActionAfterCompletion": "DELETE",
            }  # fmt: skip
            await aws.call(p.site, "scheduler", "create_schedule", request)
        if not await _whole(ctx, p.site, wanted):
            raise Unobservable("what was armed is not there")
    except DrkitError as error:
        left = "" if await _disarmed(ctx, p.site, wanted) else " A schedule may be left that undoes nothing."
        raise Refused(
            f"{name} in {p.site}: its lease cannot be armed ({error.message}). Nothing was injected.{left}",
            hint=f"drkit explain {name}",
        ) from error
    return wanted


async def _whole(ctx: Context, site: str, wanted: Sequence[Schedule]) -> bool:
    """Whether AWS has exactly these schedules, and they will fire."""
    found, _ = await schedules(ctx, site, wanted[0].name.rsplit(".", 1)[0] + ".")
    return found == list(wanted)


async def _disarmed(ctx: Context, site: str, wanted: Sequence[Schedule]) -> bool:
    """Delete what there is of these; False if that is not certain."""
    try:
        for one in wanted:
            await _delete(ctx, site, one.name)
    except DrkitError:
        return False
    return True


async def _break(ctx: Context, name: str, p: AwsFault, armed: Sequence[Schedule], calls: Sequence[Call]) -> None:
    """Make the calls that break; what is refused half-way is taken back."""
    for sent, call in enumerate(calls):
        try:
            await _send(ctx, p.site, call)
        except (OutcomeUnknown, Unreachable) as lost:
            if sent == 0 and isinstance(lost, Unreachable):
                raise  # its lease undoes what was not done, which changes nothing
            raise OutcomeUnknown(f"{lost.message} {name} may be injected; its lease heals it.") from lost
        except DrkitError as error:
            if sent:
                await healed(ctx, name, p)
            else:
                await _disarmed(ctx, p.site, armed)  # one that stays undoes what was not done
            raise StepFailed(f"{name} in {p.site}: {error.message} It was taken back.", world="untouched") from error


async def healed(ctx: Context, name: str, p: AwsFault) -> None:
    """Make the stored inverse calls, then take the lease away; nothing, if no lease is left. StepFailed."""
    key = fault_key(name, p)
    armed, _ = await schedules(ctx, p.site, f"{PREFIX}{key}.")
    for one in armed:
        try:
            await _send(ctx, p.site, one.call)
        except AwsError as error:
            if error.aws_code not in _SO_ALREADY:
                raise StepFailed(
                    f"{name} in {p.site} is not healed: {error.message} Its lease tries again.", world="changed",
                    hint="drkit chaos leftovers",
                ) from error  # fmt: skip
    for one in armed:
        await _delete(ctx, p.site, one.name)
    if armed:
        detail: dict[str, Json] = {"key": key, "by": "drkit"}
        ctx.tell(FaultChanged(fault=name, id=armed[0].said["step"], state="healed", detail=detail))


async def _delete(ctx: Context, site: str, name: str) -> None:
    try:
        await ctx.use(Aws).call(site, "scheduler", "delete_schedule", {"Name": name})
    except AwsError as error:
        if error.aws_code != _GONE:
            raise


async def _send(ctx: Context, site: str, call: Call) -> None:
    from botocore import xform_name

    await ctx.use(Aws).call(site, call.service, xform_name(call.operation), call.input)


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


def marker(site: str, one: Schedule, now: datetime) -> Marker:
    """A lease as `chaos leftovers` shows it."""
    left_s = (one.at - now).total_seconds()
    return Marker(
        key=one.name.removeprefix(PREFIX).rsplit(".", 1)[0], fault=one.said["fault"], params=one.said["params"],
        where=f"region {site}", run=one.said["run"], step=one.said["step"],
        state="armed" if one.enabled and left_s > 0 else "overdue", expires_in_s=left_s if left_s > 0 else None,
    )  # fmt: skip


def _heal_by_hand(name: str, p: AwsFault, paper: Paper) -> str:
    """The stored inverse calls, and how the lease is taken away once they are made."""
    first = f"{PREFIX}{fault_key(name, p)}."
    query = "Schedules[].Name"
    return lines(
        "# each schedule's target and input say which call undoes its part; they do so by themselves when due",
        f"for NAME in $({paper.aws(p.site, 'scheduler list-schedules', name_prefix=first, query=query)}); do",
        "  " + paper.aws(p.site, "scheduler get-schedule", query="[Target.Arn,Target.Input]") + ' --name "$NAME"',
        "done",
    )
