"""What made-up runbooks are made of: one action of each kind that the engine treats in a way of its own."""

from __future__ import annotations

from functools import cache
from typing import Any

from drkit.catalog import Catalog, action, probe
from drkit.context import Context
from drkit.model.observation import Observation
from drkit.model.params import Params, Use
from simulation.world import SETTLE_S, Link


class Named(Params):
    """A name in the world."""

    name: str
    """Which value."""


class Put(Named):
    """Set a named value."""

    to: int
    """What it becomes."""


class Value(Observation):
    """What a name holds."""

    value: int


class Choice(Named):
    """The first of these, as many as a name's value says."""

    of: list[Any]
    """All that there could be."""


class Found(Observation):
    """What there is."""

    items: list[Any]


@cache
def catalog() -> Catalog:
    """These actions."""
    return Catalog([__name__])


@probe("sim.value", side="neither")
async def value(ctx: Context, p: Named) -> Value:
    """What a name holds now."""
    return Value(value=await ctx.use(Link).read(p.name))


@probe("sim.list", side="neither")
async def found(ctx: Context, p: Choice) -> Found:
    """What there is now. It differs from time to time."""
    return Found(items=p.of[: (await ctx.use(Link).read(p.name) + len(p.of)) % (len(p.of) + 1)])


def is_put(p: Put, now: Value) -> bool:
    return now.value == p.to


@action("sim.put", observe=value, repeat="safe", side="neither", poll_s=0.5, settle_s=SETTLE_S, timeout_s=8)
async def put(ctx: Context, p: Put, before: Value) -> None:
    await ctx.use(Link).write(ctx, p.name, p.to, checked=False)


@action("sim.once", observe=value, repeat="token", side="neither", poll_s=0.5, settle_s=SETTLE_S, timeout_s=8)
async def put_once(ctx: Context, p: Put, before: Value) -> None:
    """Set a named value; the API knows the token of what it did."""
    await ctx.use(Link).write(ctx, p.name, p.to, checked=False, once=True)


@action("sim.ask", observe=value, repeat="ask", side="neither", poll_s=0.5, settle_s=SETTLE_S, timeout_s=8)
async def put_ask(ctx: Context, p: Put, before: Value) -> None:
    """Set a named value, never blindly twice."""
    await ctx.use(Link).write(ctx, p.name, p.to, checked=False)


@action(
    "sim.checked", observe=value, repeat="ask", unfenced=False, side="neither", poll_s=0.5, settle_s=SETTLE_S,
    timeout_s=8,
)  # fmt: skip
async def put_checked(ctx: Context, p: Put, before: Value) -> None:
    """Set a named value where a holder whose lease is over is refused."""
    await ctx.use(Link).write(ctx, p.name, p.to, checked=True)


@action(
    "sim.final", observe=value, repeat="safe", irreversible="nothing takes it back", side="neither", poll_s=0.5,
    settle_s=SETTLE_S, timeout_s=8,
)  # fmt: skip
async def put_final(ctx: Context, p: Put, before: Value) -> None:
    """Set a named value for good."""
    await ctx.use(Link).write(ctx, p.name, p.to, checked=False)


@action(
    "sim.break", observe=value, repeat="safe", unfenced=False, side="neither", poll_s=0.5, settle_s=SETTLE_S,
    timeout_s=8,
)  # fmt: skip
async def break_it(ctx: Context, p: Put, before: Value) -> None:
    """Do damage on purpose: nothing but a step that heals it takes it back."""
    await ctx.use(Link).write(ctx, p.name, p.to, checked=True)


@action("sim.heal", observe=value, repeat="safe", side="neither", poll_s=0.5, settle_s=SETTLE_S, timeout_s=8)
async def heal(ctx: Context, p: Put, before: Value) -> None:
    """Take the damage away."""
    await ctx.use(Link).write(ctx, p.name, p.to, checked=False)


@action(
    "sim.fence", observe=value, repeat="safe", unfenced=False, fences=True, side="source", poll_s=0.5,
    settle_s=SETTLE_S, timeout_s=8,
)  # fmt: skip
async def fence(ctx: Context, p: Put, before: Value) -> None:
    """Make a side unable to write."""
    await ctx.use(Link).write(ctx, p.name, p.to, checked=True)


@action(
    "sim.promote", observe=value, repeat="safe", unfenced=False, promotes=True, irreversible="two histories",
    side="target", poll_s=0.5, settle_s=SETTLE_S, timeout_s=8,
)  # fmt: skip
async def promote(ctx: Context, p: Put, before: Value) -> None:
    """Make a side able to write."""
    await ctx.use(Link).write(ctx, p.name, p.to, checked=True)


for each in (put, put_once, put_ask, put_checked, break_it, heal, fence, put_final, promote):
    each.check(is_put)


def back_with(entry: str, p: Put, before: Value) -> Use:
    return Use(uses=entry, params={"name": p.name, "to": before.value})


@put.undo
def put_back(p: Put, before: Value, after: Value | None) -> Use | None:
    return back_with("sim.put", p, before)


@put_once.undo
def put_once_back(p: Put, before: Value, after: Value | None) -> Use | None:
    return back_with("sim.once", p, before)


@put_ask.undo
def put_ask_back(p: Put, before: Value, after: Value | None) -> Use | None:
    return back_with("sim.ask", p, before)


@break_it.undo
@heal.undo
def whole_again(p: Put, before: Value, after: Value | None) -> Use | None:
    """For runs without a heal. With one a rollback leaves it alone."""
    return back_with("sim.heal", p, before)


@put_checked.undo
@fence.undo
def put_checked_back(p: Put, before: Value, after: Value | None) -> Use | None:
    return back_with("sim.checked", p, before)
