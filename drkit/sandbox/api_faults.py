"""aws.api-throttle and aws.api-latency: the sandbox's AWS API turns calls away, or answers late.

Nowhere else is an API ours to break. The gateway of a region does so itself and holds the lease: it is over at its
instant, and with that process.
"""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt, Le

from drkit.catalog import fault, probe
from drkit.context import Context
from drkit.model.faults import Leased, fault_key
from drkit.model.observation import Observation
from drkit.model.params import Params, SiteName
from drkit.model.values import Json
from drkit.sandbox.leased import inject
from drkit.sandbox.remote import World

LEASE = "the region's gateway in the sandbox"


class Api(Params):
    """The AWS API of a region."""

    site: SiteName
    """Region that is meant: its name, `source` or `target`."""


class Troubles(Observation):
    """What a region's AWS API does to calls on purpose."""

    keys: tuple[str, ...]
    """Of the faults that are in effect."""


@probe("aws.api-troubles", plane="none")
async def troubles(ctx: Context, p: Api) -> Troubles:
    """Which calls of a region's AWS API are throttled or late on purpose, by the keys of their faults."""
    found = await ctx.use(World).troubles()
    return Troubles(keys=tuple(one["meta"]["key"] for one in found if one["region"] == p.site))


class SomeCalls(Api, Leased):
    """Base: which calls are met."""

    service: str
    """As requests are signed for it: `s3`, `ec2`, `dynamodb`, `rds`."""
    operation: str = "*"
    """Pattern for its name, `Describe*`; of REST services such as S3, for method and path: `PUT /bucket/*`."""
    percent: Annotated[int, Ge(1), Le(100)] = 100
    """Of the calls that match, so many are met."""


class Throttle(SomeCalls):
    """Which calls are to be turned away."""


@fault("aws.api-throttle", observe=troubles, lease=LEASE, plane="none", unfenced=False)
async def throttle(ctx: Context, p: Throttle, before: Troubles) -> None:
    """Turn calls away in the service's own words for too many: SlowDown, ThrottlingException, 429. SDKs try again."""
    await _begin(ctx, throttle.name, p, throttle=True)


class Late(SomeCalls):
    """Which calls are to wait, and how long."""

    delay_s: Annotated[float, Gt(0), Le(60)]
    """Seconds before the API begins with it."""


@fault("aws.api-latency", observe=troubles, lease=LEASE, plane="none", unfenced=False)
async def latency(ctx: Context, p: Late, before: Troubles) -> None:
    """Let calls wait before the API begins with them; whoever has no patience left by then is not served."""
    await _begin(ctx, latency.name, p, delay_s=p.delay_s)


async def _begin(ctx: Context, name: str, p: SomeCalls, **what: Json) -> None:
    calls: dict[str, Json] = {"service": p.service, "operation": p.operation, "percent": p.percent}
    await inject(ctx, name, p, f"/troubles/{p.site}", keeper="gateway", **calls, **what)


@throttle.check
def throttled(p: Throttle, now: Troubles) -> bool:
    """The gateway has it."""
    return fault_key(throttle.name, p) in now.keys


@latency.check
def late(p: Late, now: Troubles) -> bool:
    """The gateway has it."""
    return fault_key(latency.name, p) in now.keys


@throttle.healed_by
async def served(ctx: Context, p: Throttle, before: Troubles) -> None:
    """Calls are let through again."""
    await ctx.use(World).change(f"/troubles/{fault_key(throttle.name, p)}/end", {}, permit=None)


@latency.healed_by
async def prompt(ctx: Context, p: Late, before: Troubles) -> None:
    """Calls are answered at once again."""
    await ctx.use(World).change(f"/troubles/{fault_key(latency.name, p)}/end", {}, permit=None)
