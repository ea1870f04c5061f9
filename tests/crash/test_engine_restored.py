"""A rollback whose machine is lost at any write of its journal, and which goes on from the copy in the state store.

The copy is behind: rows reach it only when the run waits for them, so that whatever it does not wait for is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import anyio
import pytest
from engine_fakes import DANA, Engine, World, order, plan, step
from test_engine_crash import DyingStore, Killed
from trio.testing import MockClock

from drkit.engine.memory import MemoryInbox
from drkit.engine.state import RunState
from drkit.model import events as e
from drkit.model.events import Row


@dataclass
class LazyCopier:
    """Copies what is asked for, and nothing more."""

    inbox: MemoryInbox
    kept: list[Row] = field(default_factory=list)
    waiting: list[Row] = field(default_factory=list)

    def committed(self, rows: Sequence[Row]) -> None:
        self.waiting += rows

    def want(self, upto: int) -> None:
        self.kept += [row for row in self.waiting if row.seq <= upto]
        self.waiting = [row for row in self.waiting if row.seq > upto]
        self.inbox.put(e.Copied(upto=upto))


STEPS = plan(
    step("a"), step("b", "a"), step("c", "b"),
    step("stop", "c", uses="fake.value", verify="now.value == 1", timeout_s=1.0),
)  # fmt: skip


async def taken_back(world: World, dies_at: int, durable: bool) -> tuple[RunState, bool]:
    """Three steps are done and taken back; the machine is lost at one write. How it ended, and whether it was lost."""
    engine = Engine(STEPS, world=world)
    engine.copier = copier = LazyCopier(engine.inbox)
    await engine.start()
    copier.want(len(engine.store))  # some time passes: up to here everything is there
    engine.inbox.drain()
    dying = DyingStore(dies_at=dies_at + 1, durable=durable)
    dying.append(list(engine.store.read()))
    engine.store = dying
    try:
        return await engine.order(order("abort", rollback=True)), False
    except (Killed, BaseExceptionGroup):
        pass
    back = Engine(STEPS, world=world)
    back.store.append(copier.kept)
    back.copier = LazyCopier(back.inbox)
    back.inbox.put(e.Resumed(by=DANA, host="elsewhere", wall=2e6, from_copy=True))
    return await back.driver().run(), True


@pytest.mark.parametrize("durable", [False, True])
def test_what_the_restored_journal_calls_done_is_so(durable: bool) -> None:
    for dies_at in range(1, 100):
        world = World()
        clock = {"clock": MockClock(autojump_threshold=0)}
        state, lost = anyio.run(taken_back, world, dies_at, durable, backend="trio", backend_options=clock)
        for id in "abc":
            done = state.steps[id].status == "done"
            assert done == (world.values.get(id) == 1), f"lost at write {dies_at}: {id} is {state.steps[id].status}"
        assert state.outcome == ("rolled_back" if state.aborting else None)
        if not lost:
            assert dies_at > 8
            return
    raise AssertionError("it never came to its end")
