"""What mypy must infer for authors of actions; checked by `make lint`, never run."""

from __future__ import annotations

from typing import assert_type

import drkit


class Knob(drkit.Params):
    """A knob."""

    to: int
    """Where it should stand."""


class Stand(drkit.Observation):
    """Where it stands."""

    at: int


@drkit.probe("knob.look")
async def look(ctx: drkit.Context, p: Knob) -> Stand:
    """Look at the knob."""
    return Stand(at=p.to)


@drkit.action("knob.turn", observe=look, repeat="safe")
async def turn(ctx: drkit.Context, p: Knob, before: Stand) -> None:
    """Turn the knob."""


@turn.check
def turned(p: Knob, now: Stand) -> bool:
    """It stands where it should."""
    return now.at == p.to


@turn.undo
def turn_back(p: Knob, before: Stand, after: Stand | None) -> drkit.Use | None:
    """Where it stood."""
    return turn.use(p.but(to=before.at))


async def infers(ctx: drkit.Context, knob: Knob) -> None:
    """The decorators keep the types of what they decorate."""
    assert_type(look, drkit.Probe[Knob, Stand])
    assert_type(turn, drkit.Action[Knob, Stand])
    assert_type(await look(ctx, knob), Stand)
    assert_type(knob.but(to=3), Knob)
    assert_type(turn.state(knob, Stand(at=1)), drkit.State)
    turn.use(3)  # type: ignore[arg-type]
    await turn(ctx, knob, None)  # type: ignore[arg-type]
