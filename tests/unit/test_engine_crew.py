"""Tasks that carry out commands are used again, and never keep a command waiting."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from trio.testing import MockClock

from drkit.engine.crew import Crew
from drkit.model.events import Command


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_commands_given_at_once_go_side_by_side_and_later_ones_take_the_same_tasks(backend: str) -> None:
    by: dict[str, list[int]] = {}
    together: list[int] = []

    async def body() -> None:
        at_work = 0

        async def work(command: Command) -> None:
            nonlocal at_work
            at_work += 1
            together.append(at_work)
            by.setdefault(command.step or "", []).append(anyio.get_current_task().id)
            await anyio.sleep(0.001)
            at_work -= 1

        async with anyio.create_task_group() as tasks:
            crew = Crew(tasks, work)
            for wave in ("first", "second"):
                for _ in range(3):
                    crew.give(Command(verb="apply", why="", step=wave))
                await anyio.sleep(0.05)
            tasks.cancel_scope.cancel()

    options: dict[str, Any] = {"clock": MockClock(autojump_threshold=0)} if backend == "trio" else {}
    anyio.run(body, backend=backend, backend_options=options)
    assert together == [1, 2, 3, 1, 2, 3]
    assert len(set(by["first"])) == 3
    assert set(by["second"]) == set(by["first"])
