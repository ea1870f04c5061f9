"""Whoever waits for facts is woken by each that comes while it sleeps, from whatever thread."""

from __future__ import annotations

from threading import Thread

import anyio
import pytest

from drkit.engine.inbox import ThreadInbox
from drkit.model.events import Fired

EACH = 500


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_no_fact_is_slept_through_however_many_threads_report(backend: str) -> None:
    seen: list[str] = []

    def report(inbox: ThreadInbox, who: str) -> None:
        for number in range(EACH):
            inbox.put(Fired(timer=f"{who}{number}"))

    async def body() -> None:
        with ThreadInbox() as inbox, anyio.fail_after(30):
            threads = [Thread(target=report, args=(inbox, who)) for who in "abc"]
            for thread in threads:
                thread.start()
            while len(seen) < EACH * len(threads):
                await inbox.wait()
                seen.extend(fact.timer for fact in inbox.drain() if isinstance(fact, Fired))
            for thread in threads:
                thread.join()

    anyio.run(body, backend=backend)
    for who in "abc":
        assert [timer for timer in seen if timer[0] == who] == [f"{who}{number}" for number in range(EACH)]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_sleeper_is_woken_again_after_it_went_back_to_sleep(backend: str) -> None:
    async def body() -> None:
        with ThreadInbox() as inbox, anyio.fail_after(10):
            for number in range(3):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(inbox.wait)
                    await anyio.wait_all_tasks_blocked()
                    inbox.put(Fired(timer=str(number)))
                    inbox.put(Fired(timer="at once"))
                assert len(inbox.drain()) == 2

    anyio.run(body, backend=backend)
