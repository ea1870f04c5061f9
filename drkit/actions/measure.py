"""What users see, by the environment's prober; whether a region is impaired, by several vantage points outside it."""

from __future__ import annotations

from pathlib import Path

import anyio
import anyio.to_thread

from drkit.actions.dns import Name, answers
from drkit.actions.together import together
from drkit.catalog import probe
from drkit.context import Context
from drkit.errors import StepFailed, Unobservable
from drkit.measure.journeys import UsersNow, journeys, users_now
from drkit.measure.readings import CURRENT, announced, boottime, tail
from drkit.model.measurements import Journey
from drkit.model.observation import Observation
from drkit.model.params import Params, SiteName
from drkit.providers.aws import Aws
from drkit.providers.http import Http
from drkit.providers.witness import WitnessClient


class Users(Params):
    """Which stretch of the prober's readings to look at."""

    over_s: float = 5.0
    """The last so many seconds."""


class UsersSeen(Observation):
    """What simulated users saw in the last seconds. `failing_for_s` is 0 while the objective is met."""

    success_rate: float
    journeys: int
    failed: int
    writes_ok: int
    failing_for_s: float
    served_by: dict[str, int]


async def look_at_users(ctx: Context, over_s: float) -> UsersNow:
    """What the environment's prober saw. Unobservable if there is none or it is not running."""
    objective = ctx.environment.prober.objective if ctx.environment.prober else 1.0
    probes = await _probe_file(ctx)
    return await anyio.to_thread.run_sync(lambda: users_now(probes, over_s=over_s, objective=objective))


async def recent_journeys(ctx: Context, over_s: float) -> list[Journey]:
    """Answered journeys that the prober sent in the last seconds. Unobservable if there is no prober."""
    probes = await _probe_file(ctx)
    since_t = boottime() - over_s
    seen = await anyio.to_thread.run_sync(lambda: journeys(tail(probes)))
    return [journey for journey in seen if journey.sent_t >= since_t and journey.outcome != "pending"]


async def _probe_file(ctx: Context) -> Path:
    if ctx.environment.prober is None:
        raise Unobservable("This environment has no prober.")
    folder = Path(ctx.environment.prober.folder)
    try:
        return (await anyio.to_thread.run_sync(announced, folder))["probes"]
    except (OSError, ValueError, KeyError) as error:
        raise Unobservable(f"No prober is running: {folder / CURRENT} does not say where its readings are.") from error


@probe("measure.users", side="neither")
async def users(ctx: Context, p: Users) -> UsersSeen:
    """Success rate of the prober's journeys, over all clients, and which site served them."""
    seen = await look_at_users(ctx, p.over_s)
    return UsersSeen(
        success_rate=seen.success_rate,
        journeys=seen.journeys,
        failed=seen.failed,
        writes_ok=seen.writes_ok,
        failing_for_s=seen.failing_for_s,
        served_by=dict(seen.served_by),
    )


class Suspect(Params):
    """The region in question."""

    site: SiteName = "source"
    """Region that is thought to be impaired."""
    over_s: float = 1.5
    """Stretch of the users' readings to judge by, in seconds."""


class Impairment(Observation):
    """What independent vantage points outside the region say of it. Each is `ok`, `failing` or `unknown`."""

    users: str
    entry: str
    """The region's entry for users, asked directly."""
    api: str
    """The region's AWS API."""
    writer: str
    """The region's database writer, as the witness sees its lease."""
    failing: int
    """How many say that it fails."""
    users_success_rate: float | None = None


@probe("measure.impairment")
async def impairment(ctx: Context, p: Suspect) -> Impairment:
    """Ask four vantage points outside a region at once: users, its entry, its AWS API, the witness."""
    said: dict[str, str] = {}
    rate: list[float] = []

    async def ask_users() -> None:
        try:
            seen = await look_at_users(ctx, p.over_s)
        except Unobservable:
            said["users"] = "unknown"
            return
        rate.append(seen.success_rate)
        prober = ctx.environment.prober
        said["users"] = "ok" if prober is None or seen.success_rate >= prober.objective else "failing"

    async def ask_entry() -> None:
        site, service = ctx.site(p.site), ctx.environment.service
        if site.edge is None or service is None:
            said["entry"] = "unknown"
            return
        url = f"{service.scheme}://{service.hostname}:{service.port}/healthz"
        try:
            answer = await ctx.use(Http).request("GET", url, pin=site.edge, timeout_s=1)
        except Unobservable:
            said["entry"] = "failing"
            return
        said["entry"] = "ok" if answer.status < 500 else "failing"

    async def ask_api() -> None:
        await ctx.use(Aws).prepare(p.site, "sts")  # our own slowness is not the region's
        with anyio.move_on_after(1.5) as limit:
            try:
                await ctx.use(Aws).call(p.site, "sts", "get_caller_identity")
            except Unobservable:
                said["api"] = "failing"
            except StepFailed:
                said["api"] = "ok"  # a refusal is an answer
            else:
                said["api"] = "ok"
        if limit.cancelled_caught:
            said["api"] = "failing"

    async def ask_witness() -> None:
        try:
            lease = await ctx.use(WitnessClient).lease()
        except Unobservable:
            said["writer"] = "unknown"
            return
        late = lease.site == p.site and lease.seconds_since_renewal > lease.term_s / 2
        said["writer"] = "failing" if late else "ok" if lease.site == p.site else "unknown"

    await together(ask() for ask in (ask_users, ask_entry, ask_api, ask_witness))
    failing = sum(word == "failing" for word in said.values())
    return Impairment.model_validate({**said, "failing": failing, "users_success_rate": rate[0] if rate else None})


class Convergence(Params):
    """What users must see before they are counted as moved."""

    to: SiteName = "target"
    """Side that must serve them all."""
    over_s: float = 1.5
    """Stretch of the users' readings to judge by, in seconds."""


class Converged(Observation):
    """How far users have moved. `ok`: all of them, at the objective, and every DNS server says so."""

    ok: bool
    success_rate: float
    writes_ok: int
    served_by: dict[str, int]
    dns: str
    """Site that every DNS answer leads to, else `mixed`."""
    caches_s: int
    """Longest time for which a resolver will still give its present answer."""


@probe("measure.converged", side="neither")
async def converged(ctx: Context, p: Convergence) -> Converged:
    """Compare what users see, who serves them, and what DNS tells them."""
    to = ctx.site(p.to).name
    seen = await look_at_users(ctx, p.over_s)
    told = await answers(ctx, Name())
    prober = ctx.environment.prober
    good = seen.success_rate >= (prober.objective if prober else 1.0) and seen.writes_ok > 0
    moved = set(seen.served_by) == {to} and told.all == to
    return Converged(
        ok=good and moved,
        success_rate=seen.success_rate,
        writes_ok=seen.writes_ok,
        served_by=dict(seen.served_by),
        dns=told.all,
        caches_s=max((each.ttl_s for each in told.answers if not each.authoritative), default=0),
    )
