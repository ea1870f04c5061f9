"""zone.outage and dependency.down: less than a region dies, in one instant, and comes back as it was configured."""

from __future__ import annotations

from drkit.catalog import fault, probe
from drkit.context import Context
from drkit.errors import Unobservable
from drkit.model.faults import Leased
from drkit.model.observation import Observation, State
from drkit.model.params import Params, SiteName
from drkit.sandbox.leased import inject
from drkit.sandbox.remote import World

LEASE = "the sandbox's supervisor"


class Zone(Params):
    """A zone of a region of the sandbox."""

    site: SiteName
    """Region that is meant: its name, `source` or `target`."""
    zone: str
    """Its name: that of the region, and `a` or `b`."""


class ZoneState(Observation):
    """What runs in a zone."""

    hosts: int
    running: int
    outage: bool
    """The sandbox itself counts the zone as dark."""


@probe("zone.state")
async def zone_state(ctx: Context, p: Zone) -> ZoneState:
    """Count a zone's servers that run."""
    status = await ctx.use(World).status()
    if p.zone not in status["zones"] or not p.zone.startswith(p.site):
        raise Unobservable(f"The sandbox has no zone {p.zone} in {p.site}.")
    running = status["zones"][p.zone]
    return ZoneState(hosts=len(running), running=sum(running), outage=p.zone in status["down"])


class ZoneOutage(Zone, Leased):
    """A zone that is to be dark for a while."""


@fault("zone.outage", observe=zone_state, lease=LEASE, unfenced=False)
async def zone_outage(ctx: Context, p: ZoneOutage, before: ZoneState) -> None:
    """SIGKILL every process of a zone's servers in the same instant. The region's database and edge stay up."""
    await inject(ctx, zone_outage.name, p, f"/zones/{p.zone}/down")


@zone_outage.check
def zone_dark(p: ZoneOutage, now: ZoneState) -> State:
    """None of its servers runs; absent only when all of them do."""
    if now.outage and now.running == 0:
        return State.HOLDS
    return State.IN_PROGRESS if now.outage or now.running < now.hosts else State.ABSENT


@zone_outage.healed_by
async def zone_back(ctx: Context, p: ZoneOutage, before: ZoneState) -> None:
    """Its servers boot, with the services that they are configured to start."""
    await ctx.use(World).change(f"/zones/{p.zone}/up", {}, permit=None)  # who heals is never turned away


class Dependency(Params):
    """What a part of the sandbox reaches over a link."""

    dependency: str
    """Name of the link: `replication`, `onprem-us-east-1`, `witness-us-east-1`, `users-us-east-1`, ..."""


class DependencyState(Observation):
    """Whether it is reached."""

    cut: bool
    down: bool
    """The sandbox itself counts it as down."""


@probe("dependency.state", side="neither")
async def dependency_state(ctx: Context, p: Dependency) -> DependencyState:
    """Whether a link carries anything."""
    status = await ctx.use(World).status()
    for link in status["links"]:
        if link["name"] == p.dependency:
            return DependencyState(cut=link["cut"], down=p.dependency in status["down"])
    raise Unobservable(f"The sandbox has no link called {p.dependency}.")


class Down(Dependency, Leased):
    """A dependency that is not to be reached for a while."""


@fault("dependency.down", observe=dependency_state, lease=LEASE, side="neither", unfenced=False)
async def dependency_down(ctx: Context, p: Down, before: DependencyState) -> None:
    """Cut a link: connections stall, new ones are refused. Never the one by which drkit reaches a region."""
    await inject(ctx, dependency_down.name, p, f"/links/{p.dependency}/down")


@dependency_down.check
def unreached(p: Down, now: DependencyState) -> State:
    """Nothing is carried; absent only when something is."""
    if now.down:
        return State.HOLDS if now.cut else State.IN_PROGRESS
    return State.IN_PROGRESS if now.cut else State.ABSENT


@dependency_down.healed_by
async def reached_again(ctx: Context, p: Down, before: DependencyState) -> None:
    """The link carries again; what stalled is reset."""
    await ctx.use(World).change(f"/links/{p.dependency}/up", {}, permit=None)
