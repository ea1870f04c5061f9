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


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_commands_that_wait_for_nothing_share_a_task_and_none_is_left(backend: str) -> None:
    done: list[str | None] = []
    tasks_seen: set[int] = set()

    async def body() -> None:
        async def work(command: Command) -> None:
            tasks_seen.add(anyio.get_current_task().id)
            if command.step == "slow":
                await anyio.sleep(1.0)
            done.append(command.step)

        async with anyio.create_task_group() as tasks:
            crew = Crew(tasks, work)
            for step in ("a", "slow", "b", "c"):
                crew.give(Command(verb="apply", why="", step=step))
            assert crew.at_work == 4
            await anyio.sleep(0.5)
            assert sorted(map(str, done)) == ["a", "b", "c"] and crew.at_work == 1, "nobody waits behind a slow one"
            await anyio.sleep(1.0)
            assert crew.at_work == 0
            tasks.cancel_scope.cancel()

    options: dict[str, Any] = {"clock": MockClock(autojump_threshold=0)} if backend == "trio" else {}
    anyio.run(body, backend=backend, backend_options=options)
    assert len(tasks_seen) == 2


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_cancelling_stops_one_command_and_no_other(backend: str) -> None:
    ended: list[str] = []

    async def body() -> None:
        async def work(command: Command) -> None:
            try:
                await anyio.sleep(0.05)
                ended.append(f"{command.step} done")
            except anyio.get_cancelled_exc_class():
                ended.append(f"{command.step} stopped")
                raise

        async with anyio.create_task_group() as tasks:
            crew = Crew(tasks, work)
            for step in ("a", "b"):
                crew.give(Command(verb="apply", why="", step=step))
            await anyio.sleep(0.02)
            crew.cancel("a")
            crew.cancel("nobody")
            await anyio.sleep(0.02)
            crew.give(Command(verb="apply", why="", step="c"))
            await anyio.sleep(0.2)
            assert crew.at_work == 0
            tasks.cancel_scope.cancel()

    options: dict[str, Any] = {"clock": MockClock(autojump_threshold=0)} if backend == "trio" else {}
    anyio.run(body, backend=backend, backend_options=options)
    assert ended == ["a stopped", "b done", "c done"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_command_that_ends_in_spite_of_being_cancelled_takes_none_with_it(backend: str) -> None:
    done: list[str] = []

    async def body() -> None:
        async def work(command: Command) -> None:
            if command.step == "a":
                crew.cancel("a")  # comes too late: it awaits nothing more
            else:
                await anyio.sleep(0.01)
            done.append(str(command.step))

        async with anyio.create_task_group() as tasks:
            crew = Crew(tasks, work)
            for step in ("a", "b", "c"):
                crew.give(Command(verb="apply", why="", step=step))
            await anyio.sleep(0.2)
            tasks.cancel_scope.cancel()

    options: dict[str, Any] = {"clock": MockClock(autojump_threshold=0)} if backend == "trio" else {}
    anyio.run(body, backend=backend, backend_options=options)
    assert sorted(done) == ["a", "b", "c"]
