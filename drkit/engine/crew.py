"""Tasks that carry out commands: as many as there is work at one time, each taking the next command when it is free.

Making or waking a task costs more than most of what the engine does for a step. So whoever is free takes what waits,
one command after the other, and only one more task is called at a time: it comes when the first has to wait for
something, and calls the next in turn. A run needs as many tasks as steps go side by side, and one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import TaskGroup

from drkit.model.events import Command


class Crew:
    """Hands commands to tasks of one task group. `work` carries one out; it raises nothing but cancellation."""

    def __init__(self, tasks: TaskGroup, work: Callable[[Command], Awaitable[None]]) -> None:
        self._tasks, self._work = tasks, work
        self._waiting: deque[Command] = deque()
        self._free: list[anyio.Event] = []
        self._called = False  # somebody was, and has not come yet
        self._scopes: dict[str | None, anyio.CancelScope] = {}  # of the tasks at work, by step
        self.at_work = 0
        """Commands given and not yet carried out."""

    def give(self, command: Command) -> None:
        """Have it carried out from now on, beside all others."""
        self.at_work += 1
        self._waiting.append(command)
        self._call()

    def cancel(self, step: str | None) -> None:
        """Stop who is at work for this step; nobody may be."""
        if step in self._scopes:
            self._scopes[step].cancel()

    def _call(self) -> None:
        if self._called:
            return
        self._called = True
        if self._free:
            self._free.pop().set()
        else:
            self._tasks.start_soon(self._serve)

    async def _serve(self) -> None:
        with anyio.CancelScope() as scope:
            self._called = False
            while not scope.cancel_called:  # one that was cancelled would stop the next command too
                if self._waiting:
                    await self._carry_out(self._waiting.popleft(), scope)
                else:
                    call = anyio.Event()
                    self._free.append(call)
                    await call.wait()
                    self._called = False

    async def _carry_out(self, command: Command, scope: anyio.CancelScope) -> None:
        if self._waiting:
            self._call()
        self._scopes[command.step] = scope
        try:
            await self._work(command)
        finally:
            self.at_work -= 1
            if self._scopes.get(command.step) is scope:
                del self._scopes[command.step]
