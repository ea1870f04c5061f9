"""Traffic by routing controls (Amazon Application Recovery Controller): the data-plane way, no control plane involved.

A cell is a share of traffic with one control per region (`cell-10/us-west-2`). Moving a cell switches the entered side
on before the left side off goes through, in one update, so that no cell is ever dark.
"""

from __future__ import annotations

from drkit.actions.http import Target, Visitor
from drkit.actions.measure import recent_journeys
from drkit.catalog import action, probe
from drkit.context import Context
from drkit.errors import StepFailed, Unobservable
from drkit.model.observation import Observation, State
from drkit.model.params import Params, SiteName, Use
from drkit.model.values import Duration
from drkit.providers.http import Http
from drkit.providers.routing import Routing


class Cells(Params):
    """Which cells, and between which sides."""

    to: SiteName
    """Side that traffic enters."""
    away: SiteName
    """Side that traffic leaves; its own endpoint is asked last."""


class Controls(Observation):
    """Routing controls by name, and how far they agree with where traffic should be."""

    states: dict[str, bool]
    entered: list[str]
    """Cells that are on in the side entered and off in the side left."""
    left: list[str]
    """All other cells."""


@probe("aws.arc.controls")
async def controls(ctx: Context, p: Cells) -> Controls:
    """Every routing control, from any endpoint that answers."""
    routing = ctx.use(Routing)
    states = await routing.states(last=ctx.site(p.away).name)
    return arranged(states, ctx.site(p.to).name, ctx.site(p.away).name, routing.answered_by)


def arranged(states: dict[str, bool], to: str, away: str, answered_by: str | None = None) -> Controls:
    """Sort cells by where they are."""
    cells = sorted({name.split("/", 1)[0] for name in states if "/" in name})
    entered = [cell for cell in cells if states.get(f"{cell}/{to}") and not states.get(f"{cell}/{away}", False)]
    left = [cell for cell in cells if cell not in entered]
    return Controls(states=states, entered=entered, left=left, answered_by=answered_by)


class Shift(Cells):
    """Move cells of traffic to a side that was seen to serve."""

    stages: list[list[str]] = []
    """Cells to move, one stage after the other, in a planned move; empty, or after a loss: all at once."""
    watch: Duration = 2.0
    """After each stage but the last: how long those who have moved are watched before the next."""
    abort_below: float = 0.97
    """Success rate into the entered side below which a stage is taken back and the step fails."""
    path: str = "/healthz"
    """Asked of the entered side, pinned to its entry, before anything is moved."""


@action("aws.arc.routing-control", observe=controls, repeat="safe", timeout_s=180, poll_s=0.1)
async def routing_control(ctx: Context, p: Shift, before: Controls) -> None:
    """Switch routing controls, stage by stage, from an endpoint outside the side that is left."""
    await _must_serve(ctx, p)
    to, away = ctx.site(p.to).name, ctx.site(p.away).name
    every = sorted({*before.entered, *before.left})
    # After a loss there is nothing to be careful with on the other side: all at once.
    stages = p.stages if p.stages and ctx.mode == "graceful" else [every]
    for number, cells in enumerate(stages):
        await ctx.use(Routing).set(_moved(cells, to, away), last=away)
        if number + 1 < len(stages):
            await _watch(ctx, p, [cell for stage in stages[: number + 1] for cell in stage])
    rest = [cell for cell in every if cell not in {cell for stage in stages for cell in stage}]
    if rest:
        await ctx.use(Routing).set(_moved(rest, to, away), last=away)


def _moved(cells: list[str], to: str, away: str) -> dict[str, bool]:
    return {name: on for cell in cells for name, on in ((f"{cell}/{to}", True), (f"{cell}/{away}", False))}


async def _must_serve(ctx: Context, p: Shift) -> None:
    """Traffic goes only to a side that serves: asked at its own entry, past DNS."""
    site, service = ctx.site(p.to), ctx.environment.service
    if site.edge is None or service is None:
        raise StepFailed(f"{site.name} has no entry for users.", world="untouched")
    url = f"{service.scheme}://{service.hostname}:{service.port}{p.path}"
    try:
        answer = await ctx.use(Http).request("GET", url, pin=site.edge, timeout_s=2)
    except Unobservable as error:
        raise StepFailed(f"Traffic stays: {error.message}", world="untouched") from error
    if not 200 <= answer.status < 300:
        raise StepFailed(f"Traffic stays: {site.name} answers {answer.status} at its entry.", world="untouched")


async def _watch(ctx: Context, p: Shift, moved: list[str]) -> None:
    """Watch those who have moved for a while; take the cells back if they fare badly.

    How users fare who have not moved yet says nothing: the side they are on is fenced.
    """
    rate = await _fare(ctx, p)
    if rate < p.abort_below:
        to, away = ctx.site(p.to).name, ctx.site(p.away).name
        await ctx.use(Routing).set(_moved(moved, away, to), last=away)
        said = f"{rate:.1%} of journeys into {to} succeed (limit {p.abort_below:.0%})"
        raise StepFailed(f"{', '.join(moved)} taken back to {away}: {said}.", world="untouched")


async def _fare(ctx: Context, p: Shift) -> float:
    """Success rate into the entered side while watching: our own pinned journeys, or real users' if that is worse."""
    visitor = Visitor(ctx, Target(pin=p.to))
    until = ctx.clock.monotonic() + p.watch
    good = sent = 0
    while sent == 0 or ctx.clock.monotonic() < until:
        sent += 1
        good += await _served(visitor)
        await ctx.clock.sleep(0.1)
    return min(good / sent, await _users_fare(ctx, p))


async def _served(visitor: Visitor) -> bool:
    try:
        return 200 <= (await visitor.ask("GET", "/catalog", timeout_s=1)).status < 300
    except Unobservable:
        return False


async def _users_fare(ctx: Context, p: Shift) -> float:
    """Success rate of the prober's users who were led to the entered side; 1 if there is no prober, or none was yet."""
    entry = ctx.site(p.to).edge
    try:
        seen = await recent_journeys(ctx, p.watch)
    except Unobservable:
        return 1.0
    led = [journey for journey in seen if entry is not None and journey.address == entry.host]
    return sum(journey.ok for journey in led) / len(led) if led else 1.0


@routing_control.check
def moved(p: Shift, now: Controls) -> State:
    """Every cell is on in the entered side and off in the left one."""
    return State.HOLDS if now.entered and not now.left else State.ABSENT


@routing_control.undo
def move_back(p: Shift, before: Controls, after: Controls | None) -> Use | None:
    """Back where it came from, if all of it came from there; the way back, too, needs a side that serves."""
    if before.entered:
        return None
    return routing_control.use(p.but(to=p.away, away=p.to, stages=[]))
