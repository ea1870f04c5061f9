"""region.outage: a region dies in one instant, its processes and its wires together; and comes back fenced."""

from __future__ import annotations

from drkit.catalog import action, fault, probe
from drkit.context import Context
from drkit.model.observation import Observation, State
from drkit.model.params import Params, SiteName, Use
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


@fault("region.outage", observe=state, repeat="safe")
async def outage(ctx: Context, p: Region, before: RegionState) -> None:
    """SIGKILL every process of a region and cut all its links in the same instant; its AWS endpoint refuses."""
    await ctx.use(World).change("/outage", {"region": p.site})


@outage.check
def dark(p: Region, now: RegionState) -> State:
    """Nothing runs and nothing is carried."""
    if now.outage and now.running == 0 and now.links_cut == now.links:
        return State.HOLDS
    return State.IN_PROGRESS if now.outage else State.ABSENT


@action(
    "region.restore", observe=state, repeat="safe", skippable=False,
    irreversible="a region that is back is taken down again only by another fault",
)  # fmt: skip
async def restore(ctx: Context, p: Region, before: RegionState) -> None:
    """Power and network come back. A former writer stays fenced: it starts, and refuses every write."""
    await ctx.use(World).change("/restore", {"region": p.site})


@restore.check
def back(p: Region, now: RegionState) -> bool:
    """Everything runs and every link carries."""
    return not now.outage and now.running == now.parts and now.links_cut == 0


@outage.undo
def heal(p: Region, before: RegionState, after: RegionState | None) -> Use | None:
    """Bring the region back."""
    return restore.use(p)
