"""Several things at once, in order of asking, with the first failure as itself and not wrapped in a group."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import TypeVar

import anyio

T = TypeVar("T")


async def together(asked: Iterable[Awaitable[T]]) -> list[T]:
    """The answers, in order. The first failure ends the others and is raised."""
    waiting = list(asked)
    answers: dict[int, T] = {}

    async def keep(number: int, one: Awaitable[T]) -> None:
        answers[number] = await one

    try:
        async with anyio.create_task_group() as group:
            for number, one in enumerate(waiting):
                group.start_soon(keep, number, one)
    except ExceptionGroup as failures:
        raise _first(failures) from failures
    return [answers[number] for number in range(len(waiting))]


def _first(failures: ExceptionGroup[Exception]) -> Exception:
    one = failures.exceptions[0]
    return _first(one) if isinstance(one, ExceptionGroup) else one
