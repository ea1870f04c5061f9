"""Tasks that carry out commands: as many as there is work at one time, each taking the next command when it is free.

Making a task costs more than most of what the engine does for a step; a run needs as many as steps go side by side.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import TaskGroup

from drkit.model.events import Command


class _Seat:
    """Where a task waits for its next command."""

    def __init__(self) -> None:
        self.called = anyio.Event()
        self.command: Command | None = None


class Crew:
    """Hands commands to tasks of one task group. `work` carries one out; it raises nothing but cancellation."""

    def __init__(self, tasks: TaskGroup, work: Callable[[Command], Awaitable[None]]) -> None:
        self._tasks, self._work = tasks, work
        self._free: list[_Seat] = []

    def give(self, command: Command) -> None:
        """Have it carried out from now on, beside all others."""
        if self._free:
            seat = self._free.pop()
            seat.command = command
            seat.called.set()
        else:
            self._tasks.start_soon(self._serve, command)

    async def _serve(self, command: Command | None) -> None:
        while command is not None:
            await self._work(command)
            seat = _Seat()
            self._free.append(seat)
            await seat.called.wait()
            command = seat.command
