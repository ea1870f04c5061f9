"""Stand-ins for a runbook's actions and probes: their declarations are the real ones, their effects are not.

A step keeps its place, its needs, its times and what its action's code declares. A probe's step holds when everything
it builds on is in effect. What only a real world could answer is left out: `verify`, `when`, references to results.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

from drkit.catalog import Action, Probe, action, probe
from drkit.context import Context
from drkit.drill.pretend import WHOLE, World
from drkit.model.observation import Observation, State
from drkit.model.params import Params, Use
from drkit.model.plan import Plan, PlanStep

#: A step that holds is looked at about so many times while it does.
LOOKS = 20

Apply = Callable[[Context, Any, Any], Awaitable[None]]


class Place(Params):
    """A step's place in the made-up world."""

    name: str
    """The step."""


class Put(Place):
    """Make a step's effect take place."""

    parts: int = WHOLE
    """How many of its two halves."""


class Standing(Observation):
    """What a look shows of a step."""

    parts: int
    """How many halves of its effect are there."""
    running: bool
    """Its target is at work on it."""


class Ready(Observation):
    """What a look of a probe's step shows."""

    ok: bool
    """All that it builds on is in effect."""


@probe("standin.look", side="neither")
async def LOOK(ctx: Context, p: Place) -> Standing:
    """What is there of a step."""
    seen = await ctx.use(World).look(p.name, probes=False)
    return Standing(parts=seen.parts, running=seen.running, answered_by="world")


@probe("standin.waits", side="neither")
async def WAITS(ctx: Context, p: Place) -> Ready:
    """Whether all that a step builds on is there."""
    return Ready(ok=(await ctx.use(World).look(p.name, probes=True)).ready, answered_by="world")


def declared_like(
    real: Action[Any, Any], name: str, apply: Apply, *, observe: Probe[Any, Any], check: Callable[..., Any],
    undo: Callable[..., Any], **changes: Any,
) -> Action[Any, Any]:  # fmt: skip
    """An action that declares what `real` does about repeating, taking back, fencing and skipping."""
    declare = action(
        name, observe=observe, repeat=real.repeat, irreversible=real.irreversible, unfenced=real.unfenced,
        fences=real.fences, promotes=real.promotes, skippable=real.skippable, side="neither", **changes,
    )  # fmt: skip
    made: Action[Any, Any] = declare(apply)
    made.check(check)
    if real.irreversible is None:
        made.undo(undo)
    return made


def stand_ins(real: Iterable[Action[Any, Any]]) -> Iterator[Action[Any, Any]]:
    """One for each, of the same name."""
    for each in real:
        yield declared_like(
            each, each.name, _apply(each.repeat == "token"), observe=LOOK, check=_state,
            undo=_back(each.name), settle_s=each.settle_s,
        )  # fmt: skip


def _apply(once: bool) -> Apply:
    async def apply(ctx: Context, p: Put, before: Standing) -> None:
        """Make it take effect."""
        await ctx.use(World).write(p.name, p.parts, ctx.token, once=once)

    return apply


def _state(p: Put, now: Standing) -> State:
    if now.parts == p.parts:
        return State.HOLDS
    return State.IN_PROGRESS if now.running else State.ABSENT


def _back(name: str) -> Callable[[Put, Standing, Standing | None], Use]:
    return lambda p, before, after: Use(uses=name, params={"name": p.name, "parts": before.parts})


def stand_in_plan(real: Plan) -> Plan:
    """The same graph on stand-ins."""
    return real.but(steps=tuple(map(_stand_in, real.steps)), probes={}, scopes={}, decide=None, recovered_when=None)


def without_the_world(step: PlanStep, *, uses: str, **changes: Any) -> PlanStep:
    """The step on a stand-in, without what a real world would have to answer."""
    asks = {"params": {"role": "ic", "question": "Go on?"}} if step.kind == "gate" else {}
    return step.model_copy(update={"uses": uses, "verify": None, "when": None, "scope": None} | changes | asks)


def _stand_in(step: PlanStep) -> PlanStep:
    times = {"poll_s": max(step.poll_s, step.hold_s / LOOKS), "params": {"name": step.id}}
    if step.kind == "probe":
        return without_the_world(step, uses=WAITS.name, verify="now.ok", **times)
    return without_the_world(step, uses=step.uses, **times)
