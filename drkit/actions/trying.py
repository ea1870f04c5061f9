"""What the side being left would have to answer is tried, briefly, and recorded as unreachable: never waited for.

That is for losses. In a planned move the side being left must answer, and silence is not accepted from it.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Literal, TypeVar

import anyio

from drkit.context import Context
from drkit.errors import NotSupported, OutcomeUnknown, ShutOut, Unobservable

T = TypeVar("T")
Source = Literal["answered", "unreachable"]
DEADLINE_S = 2.0


async def tried(
    ctx: Context, asked: Awaitable[T], deadline_s: float = DEADLINE_S, *, fenced: bool = False
) -> tuple[Source, T | None]:
    """The answer, or `unreachable` and None. A refusal is an answer too, and is raised; so is silence if planned.

    `fenced`: what is asked was fenced before, so silence is to be expected of it also in a planned move.
    """
    if ctx.mode == "graceful" and not fenced:
        return "answered", await asked
    with anyio.move_on_after(deadline_s):
        try:
            return "answered", await asked
        except ShutOut:
            raise
        except (Unobservable, OutcomeUnknown, NotSupported):
            return "unreachable", None
    return "unreachable", None
