"""What the side being left would have to answer is tried, briefly, and recorded as unreachable: never waited for."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Literal, TypeVar

import anyio

from drkit.errors import NotSupported, OutcomeUnknown, Unobservable

T = TypeVar("T")
Source = Literal["answered", "unreachable"]
DEADLINE_S = 2.0


async def tried(asked: Awaitable[T], deadline_s: float = DEADLINE_S) -> tuple[Source, T | None]:
    """The answer, or `unreachable` and None. A refusal is an answer too, and is raised."""
    with anyio.move_on_after(deadline_s):
        try:
            return "answered", await asked
        except (Unobservable, OutcomeUnknown, NotSupported):
            return "unreachable", None
    return "unreachable", None
