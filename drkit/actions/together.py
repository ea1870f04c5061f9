"""Several things at once, in order of asking, with the first failure as itself and not wrapped in a group.

Where every failure is to be named instead, they are collected, and `fail_with` says what they amount to.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence
from typing import TypeVar

import anyio

from drkit.errors import DrkitError, Refused, ShutOut, StepFailed, Unreachable

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


def fail_with(failures: Sequence[DrkitError], *, asked: int) -> None:
    """Raise what the failures of `asked` targets amount to.

    Refused if all of them refused (whom we were not let in to has refused, too), Unreachable if nobody was reached,
    else StepFailed.
    """
    if not failures:
        return
    said = " ".join(sorted(failure.message for failure in failures))
    if len(failures) == asked and all(isinstance(failure, Refused | ShutOut) for failure in failures):
        raise Refused(said, hint=failures[0].hint)
    if len(failures) == asked and all(isinstance(failure, Unreachable) for failure in failures):
        raise Unreachable(said)
    raise StepFailed(said)


def _first(failures: ExceptionGroup[Exception]) -> Exception:
    one = failures.exceptions[0]
    return _first(one) if isinstance(one, ExceptionGroup) else one
