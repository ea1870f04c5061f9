"""The kit for authors of actions: it passes an honest action and catches each kind of dishonest one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Self

import pytest

from drkit import testing
from drkit.catalog import Action, action, probe
from drkit.context import Context, Provider, Secrets
from drkit.model.environment import Environment, Site
from drkit.model.observation import Observation
from drkit.model.params import Params, Use

ENVIRONMENT = Environment(
    name="test", kind="sandbox", account="none", state_store="file:///nowhere",
    sites=(Site(name="east", kind="region"), Site(name="west", kind="region")),
)  # fmt: skip


@dataclass
class Shelf(Provider):
    """One number, and how often it was looked at."""

    value: int = 0
    looks: list[int] = field(default_factory=list)

    @classmethod
    def connect(cls, environment: Environment, secrets: Secrets) -> Self:
        return cls()

    async def aclose(self) -> None:
        """Nothing to close."""


class Put(Params):
    """A number."""

    to: int
    """What to put there."""


class There(Observation):
    """The number."""

    value: int


@probe("shelf.look")
async def look(ctx: Context, p: Put) -> There:
    """What lies there."""
    return There(value=ctx.use(Shelf).value)


@probe("shelf.grab")
async def grab(ctx: Context, p: Put) -> There:
    """A probe that changes what it looks at."""
    shelf = ctx.use(Shelf)
    shelf.value -= 1
    return There(value=shelf.value)


def make(
    apply: Callable[[Shelf, int], None], *, check: Callable[[Put, There], bool], back: bool = True, eyes: Any = look
) -> Action[Put, There]:
    async def change(ctx: Context, p: Put, before: There) -> None:
        """Put a number there."""
        apply(ctx.use(Shelf), p.to)

    function: Callable[[Context, Put, There], Awaitable[None]] = change
    entry = action("shelf.put", observe=eyes, repeat="safe")(function)
    entry.check(check)
    entry.undo(lambda p, before, after: Use(uses="shelf.put", params={"to": before.value if back else 99}))
    return entry


def put(shelf: Shelf, to: int) -> None:
    shelf.value = to


def is_there(p: Put, now: There) -> bool:
    return now.value == p.to


async def test_an_honest_action_passes_and_says_what_it_saw() -> None:
    ctx = testing.context(ENVIRONMENT, fakes={Shelf: Shelf(3)})
    seen = await testing.keeps_contract(make(put, check=is_there), Put(to=5), ctx)
    assert (seen.before, seen.after, seen.undone) == (There(value=3), There(value=5), There(value=3))


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        (make(lambda shelf, to: None, check=is_there), "its check does not hold"),
        (make(put, check=lambda p, now: True), "nothing to do"),
        (make(put, check=is_there, back=False), "undo left"),
        (make(lambda shelf, to: put(shelf, shelf.value + to), check=lambda p, now: now.value > 3), "safe to repeat"),
        (make(put, check=is_there, eyes=grab), "observing changed"),
    ],
    ids=["does nothing", "check always holds", "undo restores something else", "not repeatable", "probe writes"],
)
async def test_a_dishonest_action_is_caught(entry: Action[Put, There], complaint: str) -> None:
    ctx = testing.context(ENVIRONMENT, fakes={Shelf: Shelf(3)})
    with pytest.raises(AssertionError, match=complaint):
        await testing.keeps_contract(entry, Put(to=5), ctx)
