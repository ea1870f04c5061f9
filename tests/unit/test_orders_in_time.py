"""An order is journaled within 250 ms of being sent: through the socket at once, through the spool by a quick poll."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
import trio
import trio.testing
from runner_fakes import asked, chain, kinds, started, stop, until

from drkit.engine import orders, runs
from drkit.engine.inbox import ThreadInbox
from drkit.engine.journal import Tail
from drkit.engine.orders import OrderDesk
from drkit.engine.runs import RunFolder, write_durably
from drkit.model.events import Noted, Ordered
from drkit.model.values import canonical

WITHIN_S = 0.25
COMMIT_S = 0.1
"""What a commit may take of it: a hundred times what one takes here."""
ORDERS = 9


def spool(folder: RunFolder, order: Ordered) -> None:
    """As `send` leaves it for a runner that does not listen."""
    path = folder.spool / f"{time.time_ns():020}-test.json"
    write_durably(path, canonical({"schema": orders.SCHEMA, "at": "", "fact": order.to_json()}))


def test_what_is_spooled_is_taken_within_one_poll_and_leaves_time_for_the_commit() -> None:
    """On a virtual clock: however busy the machine is."""
    folder = runs.new()

    async def took_s() -> float:
        with ThreadInbox() as inbox:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(OrderDesk(folder, (), inbox).watch_spool)
                await anyio.sleep(orders.SPOOL_POLL_S / 100)  # just after it has looked
                sent = trio.current_time()
                spool(folder, Ordered(verb="pause", by={}))
                while not inbox.drain():
                    await anyio.sleep(orders.SPOOL_POLL_S / 100)
                tasks.cancel_scope.cancel()
            return trio.current_time() - sent

    taken_s = trio.run(took_s, clock=trio.testing.MockClock(autojump_threshold=0))
    assert 0 < taken_s <= WITHIN_S - COMMIT_S


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunFolder]:
    """A run that goes on until the test is over, in a process of its own."""
    folder = asked(tmp_path, chain("a", after="never"))
    runner = started(folder)
    until(lambda: "step.intent" in kinds(folder))
    until(folder.socket.exists)
    yield folder
    stop(runner)


def journaled_s(folder: RunFolder, kind: tuple[str, ...], give: Callable[[], None]) -> float:
    """From sending until its event is durable, as the journal's own time has it and as a reader sees it."""
    with Tail(folder.journal, len(kinds(folder))) as tail:
        sent = time.time()
        give()
        while True:
            for row in tail.new():
                if row.fact.kind in kind:
                    seen = time.time()
                    assert datetime.fromisoformat(row.at).timestamp() <= seen
                    return seen - sent
            assert time.time() - sent < 10, "it was not journaled at all"
            time.sleep(0.002)


@pytest.mark.parametrize("way", ["socket", "spool"])
def test_between_real_processes_it_is_journaled_in_time(running: RunFolder, way: str) -> None:
    def give() -> None:
        if way == "socket":
            orders.send(running, Noted(text="hello", by={}))
        else:
            spool(running, Ordered(verb="pause", by={}))

    took_s = [
        journaled_s(running, ("operator.noted", "operator.ordered", "operator.refused"), give) for _ in range(ORDERS)
    ]
    assert statistics.median(took_s) < WITHIN_S, took_s
