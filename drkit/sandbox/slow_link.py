"""sandbox.slow-link: what crosses a link arrives late; a standby behind it lags, as behind an overloaded line."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Gt, Le

from drkit.catalog import fault, probe
from drkit.context import Context
from drkit.errors import DrkitError, Unobservable
from drkit.model.faults import Leased, Marker, Markers, Nothing, fault_key
from drkit.model.observation import Observation, State
from drkit.model.values import Duration
from drkit.sandbox.leased import inject
from drkit.sandbox.remote import World
from drkit.sandbox.settings import Link


class Slowness(Observation):
    """How late a link is, and whether that is a fault's doing."""

    delay_s: float
    key: str | None = None
    """Of the fault; None: it is as it was set."""


@probe("sandbox.slowness", side="neither")
async def slowness(ctx: Context, p: Link) -> Slowness:
    """How late what crosses a link arrives, and whose doing that is."""
    for link in (await ctx.use(World).status())["links"]:
        if link["name"] == p.link:
            return Slowness(delay_s=link["delay_s"], key=(link["slow"] or {}).get("key"))
    raise Unobservable(f"The sandbox has no link called {p.link}.")


class SlowLink(Link, Leased):
    """How late a link is to be."""

    delay: Annotated[Duration, Gt(0), Le(10)]
    """One-way delay."""


@fault("sandbox.slow-link", observe=slowness, lease="the sandbox's supervisor", side="neither", unfenced=False)
async def slow(ctx: Context, p: SlowLink, before: Slowness) -> None:
    """Let everything that crosses a link of the sandbox arrive late, one way and the other."""
    await inject(ctx, slow.name, p, f"/links/{p.link}/slow", delay_s=p.delay)


@slow.check
def is_slow(p: SlowLink, now: Slowness) -> State:
    """This fault makes it so late."""
    if now.key != fault_key(slow.name, p):
        return State.ABSENT
    return State.HOLDS if now.delay_s == p.delay else State.IN_PROGRESS


@slow.healed_by
async def as_before(ctx: Context, p: SlowLink, before: Slowness) -> None:
    """The delay that was there, unless somebody has set another one."""
    await ctx.use(World).change(f"/links/{p.link}/over", {}, permit=None)  # who heals is never turned away


@probe("sandbox.slow-links", side="neither")
async def left(ctx: Context, p: Nothing) -> Markers:
    """Links of the sandbox that a fault makes slow; none where there is no sandbox."""
    if ctx.environment.control is None:
        return Markers()
    try:
        links = (await ctx.use(World).status())["links"]
    except DrkitError as silent:
        return Markers(silent=(f"sandbox: {silent.message}",))
    return Markers(markers=tuple(Marker(where=f"link {one['name']}", **one["slow"]) for one in links if one["slow"]))
