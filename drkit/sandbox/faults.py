"""region.outage: a region dies in one instant, its processes and its wires together; and comes back fenced."""

from __future__ import annotations

from drkit.catalog import fault, probe
from drkit.context import Context
from drkit.errors import DrkitError
from drkit.model.faults import Leased, Marker, Markers, Nothing
from drkit.model.observation import Observation, State
from drkit.model.params import Params, SiteName
from drkit.model.values import Json
from drkit.sandbox.leased import inject
from drkit.sandbox.remote import World


class Region(Params):
    """A region of the sandbox."""

    site: SiteName
    """Region that is meant: its name, `source` or `target`."""


class RegionState(Observation):
    """What runs in a region, and which of its wires carry anything."""

    parts: int
    running: int
    links: int
    links_cut: int
    outage: bool
    """The sandbox itself counts the region as dark."""


@probe("region.state")
async def state(ctx: Context, p: Region) -> RegionState:
    """Count a region's processes that run and its links that are cut."""
    status = await ctx.use(World).status()
    parts = [part for part in status["parts"] if part["site"] == p.site]
    links = [link for link in status["links"] if link["name"].endswith(p.site)]
    return RegionState(
        parts=len(parts),
        running=sum(part["running"] for part in parts),
        links=len(links),
        links_cut=sum(link["cut"] for link in links),
        outage=p.site in status["outages"],
    )


class Outage(Region, Leased):
    """A region that is to be dark for a while."""


@fault("region.outage", observe=state, lease="the sandbox's supervisor", unfenced=False)
async def outage(ctx: Context, p: Outage, before: RegionState) -> None:
    """SIGKILL every process of a region and cut all its links in the same instant; its AWS endpoint refuses."""
    await inject(ctx, outage.name, p, "/outage", region=p.site)


@outage.check
def dark(p: Outage, now: RegionState) -> State:
    """Nothing runs and nothing is carried; absent only when all of it is back."""
    if now.outage and now.running == 0 and now.links_cut == now.links:
        return State.HOLDS
    return State.IN_PROGRESS if now.outage or now.running < now.parts or now.links_cut else State.ABSENT


@outage.healed_by
async def back(ctx: Context, p: Outage, before: RegionState) -> None:
    """Power and network come back. A former writer stays fenced: it starts, and refuses every write."""
    await ctx.use(World).change("/restore", {"region": p.site}, permit=None)  # who heals is never turned away


@probe("sandbox.faults", side="neither")
async def left(ctx: Context, p: Nothing) -> Markers:
    """Outages of the sandbox that somebody injected; none where there is no sandbox."""
    if ctx.environment.control is None:
        return Markers()
    try:
        found = await ctx.use(World).faults()
    except DrkitError as silent:
        return Markers(silent=(f"sandbox: {silent.message}",))
    return Markers(markers=tuple(Marker(where=_where(one["params"]), **one) for one in found))


def _where(params: dict[str, Json]) -> str:
    kind = next(name for name in ("dependency", "zone", "site") if name in params)
    return f"{'region' if kind == 'site' else kind} {params[kind]}"
