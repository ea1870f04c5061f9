"""Faults in AWS: the lease is armed and seen in the region itself (`awslease`) before anything breaks.

Expiry is counted on AWS's clock, as its answers tell it. AWS may start a schedule up to a minute late. AWS knows
nothing of our lease: it carries out whatever is signed, for five minutes (S3: fifteen). So every call is sent only
while the lease has `MARGIN_S` left, and what was late all the same is taken back; the rest is what `unfenced` means.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Generic, Literal, TypeVar, get_type_hints

from drkit.catalog import Action, Probe, fault
from drkit.chaos import awslease
from drkit.chaos.awslease import PREFIX, Call, Schedule, reached, schedules
from drkit.chaos.awsrights import rights
from drkit.context import Context
from drkit.errors import DrkitError, OutcomeUnknown, Refused, StepFailed, Unreachable
from drkit.model import written
from drkit.model.events import FaultChanged
from drkit.model.faults import Leased, fault_key
from drkit.model.observation import Observation, State
from drkit.model.paper import Paper, lines
from drkit.model.params import Params, SiteName
from drkit.model.values import Json
from drkit.providers.aws import AwsError

#: How a fault in AWS heals itself, as plans print it.
BY_SCHEDULE: Final = "EventBridge Scheduler, in the region itself"
BY_DATE: Final = "a date in the policy itself; EventBridge Scheduler takes its text away"
#: No call is sent when less of the lease is left: it may need so long to reach AWS.
MARGIN_S: Final = 2.0
#: What the inverse of an inverse is answered with: it is so already.
_SO_ALREADY: Final = frozenset({
    "InvalidPermission.Duplicate", "InvalidNetworkAclEntry.NotFound", "InvalidNetworkAclID.NotFound",
})  # fmt: skip

Standing = Literal["ours", "gone", "theirs", "changed"]
"""What an inverse call would undo is there as we made it, is not there, or is somebody else's by now. `changed`: it is
there, and the call would undo what somebody else changed, too."""


class OnAws(Params):
    """A region of the environment."""

    site: SiteName
    """Region that is meant: its name, `source` or `target`."""


class AwsFault(OnAws, Leased):
    """Base of the parameters of faults in AWS."""

    role: str = "drkit-lease"
    """IAM role that EventBridge Scheduler takes on to undo the fault; it may do the inverse calls and no more."""


@dataclass(frozen=True, slots=True)
class Change:
    """What breaks and what reverts; every revert is known, and can be repeated, before anything is broken."""

    inject: tuple[Call, ...] | Callable[[datetime], tuple[Call, ...]]
    """A function: what breaks carries its own end, which is that of the lease."""
    revert: tuple[Call, ...]

    def breaking(self, until: datetime) -> tuple[Call, ...]:
        """The calls that break, under a lease that ends then."""
        return self.inject if isinstance(self.inject, tuple) else self.inject(until)


class Seen(Observation):
    """Base of what is seen of the target of a fault in AWS."""

    def standing(self, call: Call) -> Standing | None:
        """Whether this inverse call still has something of ours to undo; None: as the fault's check says."""
        return None


PT = TypeVar("PT", bound=AwsFault)
OT = TypeVar("OT", bound=Seen)


@dataclass(frozen=True, slots=True)
class Own(Generic[PT, OT]):
    """What a fault has made in AWS before its lease, which breaks nothing, and is taken away when all is healed."""

    make: Callable[[Context, PT, OT], Awaitable[OT]]
    """Makes it, or finds it made; what was seen before, with it. DrkitError."""
    remove: Callable[[Context, PT], Awaitable[None]]
    """Takes away what there is of it. DrkitError."""


def aws_fault(
    name: str,
    *,
    observe: Probe[Any, OT],
    timeout_s: float = 120.0,
    dated: bool = False,
    own: Own[Any, OT] | None = None,
) -> Callable[[Callable[[PT, OT], Change]], Action[PT, OT]]:
    """Declare a fault in AWS by a pure function from parameters and what was seen before to a change.

    `dated`: what breaks carries its own end, so that it is without effect whenever it arrives later. `own`: what it
    needs beforehand. The function
    raises Refused where the change would reach further than it says. Its docstring describes the fault.
    """

    def declare(change: Callable[[PT, OT], Change]) -> Action[PT, OT]:
        async def apply(ctx: Context, p: PT, before: OT) -> None:
            await _inject(ctx, entry, p, before, change, own)

        async def heal(ctx: Context, p: PT, before: OT) -> None:
            await healed(ctx, entry, p, own)

        params = next(iter(get_type_hints(change).values()))
        apply.__annotations__ = {"ctx": Context, "p": params, "before": Observation, "return": type(None)}
        apply.__doc__, apply.__module__ = change.__doc__, change.__module__
        entry: Action[PT, OT] = fault(
            name, observe=observe, lease=BY_DATE if dated else BY_SCHEDULE, plane="control", timeout_s=timeout_s,
            unfenced=not dated,
        )(apply)  # fmt: skip
        entry.healed_by(heal)
        assert entry.heal is not None  # just declared
        entry.heal.by_hand(lambda p, paper: _heal_by_hand(name, p, paper))
        return entry

    return declare


def standing(entry: Action[Any, Any], p: Params, call: Call, now: Seen) -> Standing:
    """What an inverse call of this fault would still undo. Pure."""
    return now.standing(call) or ("gone" if entry.state(p, now) is State.ABSENT else "ours")


async def _inject(
    ctx: Context, entry: Action[PT, OT], p: PT, before: OT, change: Callable[[PT, OT], Change], own: Own[PT, OT] | None
) -> None:  # fmt: skip
    """Arm the lease, see it, inject. Refused or Unreachable if nothing was injected, StepFailed, OutcomeUnknown."""
    where = f"{entry.name} in {p.site}"
    if ctx.site(p.site).name not in reached(ctx.environment):
        raise Refused(
            f"{entry.name}: nothing in the environment says that {p.site} is in AWS, so leftovers would not be found.",
            hint="give it an s3:// state store, aws_credentials or an aws_endpoint",
        )
    key = fault_key(entry.name, p)
    armed, now = await schedules(ctx, p.site, f"{PREFIX}{key}.")
    ours = bool(armed) and (armed[0].said["run"], armed[0].said["step"]) == (ctx.run, ctx.step)
    if armed and not ours and await _over(ctx, entry, p, armed, now):
        armed = []
    if armed and not ours:
        by = armed[0].said
        raise Refused(f"{where} is injected already, by {by['step']} of {by['run']}.", hint="drkit chaos leftovers")
    so_already = entry.state(p, before) is State.HOLDS
    if so_already and not armed:
        raise Refused(f"{where}: it is so already, and not by a fault.", hint="drkit chaos leftovers")
    at = datetime.fromtimestamp(math.ceil(now.timestamp() + p.lease_s), UTC)
    said = {"fault": entry.name, "params": p.model_dump(mode="json"), "run": ctx.run, "step": ctx.step}
    if own is not None and not so_already:
        before = await _prepared(ctx, p, before, own, fresh=not armed)
    if armed and not so_already:
        whole = awslease.wanted(key, armed[0].at, change(p, before).revert, said)
        armed = armed if armed == whole else await _half(ctx, p.site, armed, whole, where)
    fresh, role = not armed, "looked at before"
    if fresh:
        try:
            armed = awslease.wanted(key, at, change(p, before).revert, said)
            role = await rights(ctx, p.site, p.role, [one.call for one in armed])
            await awslease.arm(ctx, p.site, p.role, armed, why=where)
        except DrkitError:
            if own is not None:
                await own.remove(ctx, p)
            raise
    left_s = (armed[0].at - now).total_seconds()
    detail: dict[str, Json] = {"key": key, "lease": "schedule", "left_s": left_s, "role": role}
    ctx.tell(FaultChanged(fault=entry.name, id=ctx.step, state="armed", detail=dict(detail)))
    if not so_already:
        await _break(ctx, entry, p, armed, change(p, before).breaking(armed[0].at), own, fresh=fresh)
    ctx.tell(FaultChanged(fault=entry.name, id=ctx.step, state="injected", detail=dict(detail)))


async def _prepared(ctx: Context, p: PT, before: OT, own: Own[PT, OT], *, fresh: bool) -> OT:
    """What was seen before, with what the fault has of its own; `fresh`: no lease is there yet that would need it."""
    try:
        return await own.make(ctx, p, before)
    except DrkitError:
        if fresh:
            await own.remove(ctx, p)
        raise


async def _half(
    ctx: Context, site: str, armed: Sequence[Schedule], whole: Sequence[Schedule], where: str
) -> list[Schedule]:  # fmt: skip
    """Take away half a lease: whoever was killed while it armed has injected nothing. Refused if it is not that."""
    if not all(one in whole for one in armed) or not await awslease.disarm(ctx, site, armed):
        raise Refused(f"{where}: its lease is not whole; nothing more is injected.", hint="drkit chaos stop --all")
    return []


async def _over(ctx: Context, entry: Action[PT, OT], p: PT, armed: Sequence[Schedule], now: datetime) -> bool:
    """Whether the lease of another step has ended and done all its work; then it is taken away."""
    if any(one.at > now for one in armed):
        return False
    seen = await entry.observe(ctx, p)
    return all(standing(entry, p, one.call, seen) in ("gone", "theirs") for one in armed) and await awslease.disarm(
        ctx, p.site, armed
    )


async def _break(
    ctx: Context, entry: Action[PT, OT], p: PT, armed: Sequence[Schedule], calls: Sequence[Call],
    own: Own[PT, OT] | None, *, fresh: bool,
) -> None:  # fmt: skip
    """Make the calls that break, each only while the lease lasts; what is refused half-way is taken back.

    `fresh`: nothing was sent before, by an attempt whose end nobody saw.
    """
    where, sent = f"{entry.name} in {p.site}", 0
    asked_at = ctx.clock.monotonic()
    found, now = await schedules(ctx, p.site, f"{PREFIX}{armed[0].key}.")
    until = asked_at + (armed[0].at - now).total_seconds()
    try:
        for call in calls:
            # An injector that was frozen must not break what its lease has healed, nor what is another's by now.
            if found != list(armed) or ctx.clock.monotonic() > until - MARGIN_S:
                raise Refused(f"{where}: its lease is over; nothing was injected.")
            ctx.permit.until(0.0)
            await awslease.send(ctx, p.site, call)
            sent += 1
        if ctx.clock.monotonic() > until:  # it may have arrived after its lease had done its work
            raise StepFailed("It was injected after its lease was over.", world="untouched")
    except (OutcomeUnknown, Unreachable) as lost:
        if sent == 0 and isinstance(lost, Unreachable):
            raise  # its lease undoes what was not done, which changes nothing
        raise OutcomeUnknown(f"{lost.message} {entry.name} may be injected; its lease heals it.") from lost
    except DrkitError as error:
        if sent or not fresh:
            await healed(ctx, entry, p, own, late=sent > 0)
        else:
            await awslease.disarm(ctx, p.site, armed)  # one that stays undoes what was not done
            if own is not None:
                await own.remove(ctx, p)
        if isinstance(error, Refused) and not sent:
            raise
        raise StepFailed(f"{where}: {error.message} It was taken back.", world="untouched") from error


async def healed(
    ctx: Context, entry: Action[PT, OT], p: PT, own: Own[PT, OT] | None, *, late: bool = False
) -> None:  # fmt: skip
    """Make the stored inverse calls, then take the lease away; nothing, if no lease is left. StepFailed.

    What is somebody else's by now is left alone; so is what the lease has undone already, unless it was `late`:
    injected when the lease was over, and perhaps not seen yet.
    """
    key, by = fault_key(entry.name, p), "lease"
    armed, now = await schedules(ctx, p.site, f"{PREFIX}{key}.")
    seen = await entry.observe(ctx, p) if armed else None
    for one in armed:
        assert seen is not None  # looked at, because something is armed
        stands = standing(entry, p, one.call, seen)
        # Before its end a lease has undone nothing: what seems to be gone may only not be seen yet.
        if stands == "theirs" or (stands == "gone" and one.at <= now and not late):
            continue
        if stands == "changed":
            raise StepFailed(
                f"{entry.name} in {p.site} is not healed: somebody changed more there meanwhile, which "
                f"{one.call.operation} would undo.", world="changed", hint="drkit chaos leftovers",
            )  # fmt: skip
        by = "drkit"
        try:
            await awslease.send(ctx, p.site, one.call)
        except AwsError as error:
            if error.aws_code not in _SO_ALREADY:
                raise StepFailed(
                    f"{entry.name} in {p.site} is not healed: {error.message}", world="changed",
                    hint="drkit chaos leftovers",
                ) from error  # fmt: skip
    if armed and own is not None:
        await own.remove(ctx, p)
    for one in armed:
        await awslease.delete(ctx, p.site, one.name)
    if armed:
        written.taken_back()
        detail: dict[str, Json] = {"key": key, "by": by}
        ctx.tell(FaultChanged(fault=entry.name, id=armed[0].said["step"], state="healed", detail=detail))


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
