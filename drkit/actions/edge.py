"""Maintenance mode at a site's entry: reads go on, writes are turned away before they reach the application."""

from __future__ import annotations

from drkit.actions.trying import Source, tried
from drkit.catalog import action, probe
from drkit.context import Context
from drkit.errors import Refused, StepFailed, Unobservable
from drkit.model.observation import Observation, State
from drkit.model.paper import Paper, curl
from drkit.model.params import Params, SiteName, Use
from drkit.providers.http import LATE, Answer, Http, permitted


class Entry(Params):
    """The entry of a site."""

    site: SiteName
    """Site of the entry."""


class EntryState(Observation):
    """An entry as it is. `maintenance` null: it did not say."""

    source: Source
    maintenance: bool | None = None
    region: str | None = None
    """Site that the entry says it belongs to."""
    healthy: int | None = None
    """Servers behind it that it counts as healthy."""
    served: int | None = None


@probe("edge.state")
async def state(ctx: Context, p: Entry) -> EntryState:
    """Ask an entry whether it is in maintenance; silence is recorded as unreachable."""
    told, answer = await tried(ctx, _ask(ctx, p.site, "GET", "/_edge/status"))
    if answer is None:
        return EntryState(source=told)
    body = answer.json()
    return EntryState(
        source="answered",
        maintenance=bool(body["maintenance"]),
        region=body["region"],
        healthy=body["healthy"],
        served=body["served"],
        answered_by=body["region"],
    )


async def _ask(ctx: Context, name: str, method: str, path: str, body: object | None = None) -> Answer:
    site = ctx.site(name)
    if site.edge_admin is None:
        raise StepFailed(f"The entry of {site.name} cannot be administered.", world="untouched")
    answer = await ctx.use(Http).request(method, site.edge_admin + path, json_body=body, timeout_s=1.5)
    if answer.status == LATE:
        raise Refused(f"The entry of {site.name} refused: {answer.json().get('error')}.")
    if answer.status != 200:
        raise Unobservable(f"The entry of {site.name} answered {answer.status}.")
    return answer


class Maintenance(Entry):
    """Turn maintenance mode on or off."""

    on: bool = True
    """On or off."""
    unreachable: bool = False
    """An entry that does not answer is recorded as unreachable and not waited for (the side that is being left)."""


@action("edge.maintenance", observe=state, repeat="safe", unfenced=False, timeout_s=20, poll_s=0.15, skippable=False)
async def maintenance(ctx: Context, p: Maintenance, before: EntryState) -> None:
    """Turn writes away at an entry, or let them in again."""
    if before.source == "answered" and before.region != ctx.site(p.site).name:
        # Told to the wrong entry, this would turn users away from the side that is to serve them.
        raise Refused(f"The entry of {p.site} says that it is {before.region}'s: it is left alone.")
    await tried(ctx, _set(ctx, p))


async def _set(ctx: Context, p: Maintenance) -> None:
    permit = permitted(ctx.permit, await _ask(ctx, p.site, "GET", "/_edge/status"))
    await _ask(ctx, p.site, "PUT", "/_edge/maintenance", {"on": p.on, "permit": permit})


@maintenance.check
def as_wanted(p: Maintenance, now: EntryState) -> State:
    """As wanted, said by the entry that was meant; or unreachable where that may be recorded."""
    if now.source == "unreachable":
        return State.HOLDS if p.unreachable else State.UNKNOWN
    if now.region != p.site:
        return State.UNKNOWN
    return State.HOLDS if now.maintenance == p.on else State.ABSENT


@maintenance.undo
def turned_back(p: Maintenance, before: EntryState, after: EntryState | None) -> Use | None:
    """As it was before, if it said so."""
    if before.maintenance is None or before.maintenance == p.on:
        return None
    return maintenance.use(p.but(on=before.maintenance))


@state.by_hand
def look_at_entry(p: Entry, paper: Paper) -> str:
    """What the entry says; `region` must be the site that is meant."""
    return curl(_admin(paper, p.site) + "/_edge/status") + " || echo UNREACHABLE"


@maintenance.by_hand
def maintain_by_hand(p: Maintenance, paper: Paper) -> str:
    """Only at the entry that says it is the one that was meant: elsewhere users would be turned away."""
    admin, site = _admin(paper, p.site), paper.site(p.site).name
    change = curl(admin + "/_edge/maintenance", method="PUT", body={"on": p.on})
    return (
        f'{curl(admin + "/_edge/status")} | grep -Eq \'"region": ?"{site}"\' && {change} || echo UNREACHABLE or another'
    )


def _admin(paper: Paper, site: str) -> str:
    found = paper.site(site).edge_admin
    if found is None:
        raise KeyError(f"administration of the entry in {site}")
    return found
