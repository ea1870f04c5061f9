"""Settings of the sandbox that a scenario arranges before it starts: how slow a link is, who waits for whom."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Le

from drkit.catalog import action, probe
from drkit.context import Context
from drkit.errors import Unobservable
from drkit.model.observation import Observation
from drkit.model.params import Params, SiteName, Use
from drkit.model.values import Duration
from drkit.providers.postgres import Postgres
from drkit.sandbox.remote import World


class Link(Params):
    """One of the sandbox's links."""

    link: str
    """Name of the link: `replication`, `users-us-east-1`, ..."""


class LinkState(Observation):
    """A link as it is."""

    delay_s: float
    cut: bool


@probe("sandbox.link-state", side="neither")
async def link_state(ctx: Context, p: Link) -> LinkState:
    """How slow a link is, and whether it carries anything."""
    for link in (await ctx.use(World).status())["links"]:
        if link["name"] == p.link:
            return LinkState(delay_s=link["delay_s"], cut=link["cut"])
    raise Unobservable(f"The sandbox has no link called {p.link}.")


class SlowLink(Link):
    """How slow a link should be."""

    delay: Annotated[Duration, Ge(0), Le(10)]
    """One-way delay."""


@action("sandbox.link", observe=link_state, repeat="safe", side="neither", unfenced=False)
async def slow(ctx: Context, p: SlowLink, before: LinkState) -> None:
    """Set a link's one-way delay."""
    await ctx.use(World).change(f"/links/{p.link}", {"delay_s": p.delay}, permit=ctx.permit)


@slow.check
def is_slow(p: SlowLink, now: LinkState) -> bool:
    """The delay is the one asked for."""
    return not now.cut and abs(now.delay_s - p.delay) < 1e-9


@slow.undo
def as_before(p: SlowLink, before: LinkState, after: LinkState | None) -> Use | None:
    """The delay that was there."""
    return slow.use(p.but(delay=before.delay_s))


class Side(Params):
    """The writer of the replicated database."""

    database: str = "orders"
    """Name of the database in the environment."""
    site: SiteName = "source"
    """Side that writes now."""


class ReplicationState(Observation):
    """Whether a commit waits for the standby, as the server itself says."""

    mode: Literal["sync", "async"]
    standbys: int


@probe("sandbox.replication-state")
async def replication_state(ctx: Context, p: Side) -> ReplicationState:
    """Ask the writer whom it waits for, and who is connected."""
    sql = (
        "select current_setting('synchronous_standby_names') <> '' as waits,"
        " (select count(*) from pg_stat_replication where sync_state in ('sync', 'quorum'))::int as sync,"
        " (select count(*) from pg_stat_replication)::int as standbys"
    )
    said = (await ctx.use(Postgres).query(p.database, p.site, sql))[0]
    mode: Literal["sync", "async"] = "sync" if said["waits"] and said["sync"] else "async"
    return ReplicationState(mode=mode, standbys=int(str(said["standbys"])))


class Replicate(Side):
    """How the writer and its standby work together."""

    mode: Literal["sync", "async"]
    """sync: a commit waits until the standby has it."""


@action("sandbox.replication", observe=replication_state, repeat="safe", unfenced=False)
async def replicate(ctx: Context, p: Replicate, before: ReplicationState) -> None:
    """Make the writer wait for its standby, or not."""
    await ctx.use(World).change("/replication", {"mode": p.mode}, permit=ctx.permit)


@replicate.check
def replicates(p: Replicate, now: ReplicationState) -> bool:
    """The mode is the one asked for, and there is a standby."""
    return now.mode == p.mode and now.standbys > 0


@replicate.undo
def former_mode(p: Replicate, before: ReplicationState, after: ReplicationState | None) -> Use | None:
    """The mode that was there."""
    return replicate.use(p.but(mode=before.mode))
