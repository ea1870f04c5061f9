"""The real driver, executor and fold together, in a world that can go wrong."""

from __future__ import annotations

from engine_fakes import Engine, plan, step

from drkit.engine.state import Status
from drkit.model import events as e


async def test_a_plain_list_of_steps_ends_done() -> None:
    engine = Engine(plan(step("a"), step("b", "a"), step("c", "b")))
    state = await engine.start()
    assert state.outcome == "done"
    assert [s.status for s in state.steps.values()] == [Status.DONE] * 3
    assert engine.world.values == {"a": 1, "b": 1, "c": 1}
    assert [row.fact.kind for row in engine.store.read()][-1] == e.Finished.kind
