"""Nested runbooks and lists that only a step knows, by the real driver: killed anywhere, they converge too.

From files to the end of the run: written, resolved, carried out, killed at every journal write and around every
effect, resumed. What the list holds is seen once; what comes into the world later does not change a run under way.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from engine_fakes import ENVIRONMENT, Engine, World, catalog, order
from test_engine_crash import BACKENDS, DeadlyWorld, DyingStore, killed, run, sound

from drkit.engine.decisions import compare
from drkit.engine.memory import MemoryStore
from drkit.engine.state import RunState, Status
from drkit.model import events as e
from drkit.model.plan import Plan
from drkit.plan.files import read_runbook
from drkit.plan.resolve import resolve

HEAD = "apiVersion: drkit/v1\nkind: Runbook\nmetadata: {name: %s, owner: ops}\n"
MOVE = (
    HEAD % "move"
    + """\
parameters:
  name: {default: none}
steps:
  - {id: stop, uses: fake.put-ask, with: {name: "${ params.name }-stop"}, timeout: 1s}
  - {id: start, uses: fake.put-once, with: {name: "${ params.name }-start"}, timeout: 1s}
"""
)
WHOLE = (
    HEAD % "whole"
    + """\
steps:
  - {id: find, uses: fake.names, with: {prefix: "shop-"}}
  - {id: all, uses: runbook/move, for_each: "${ steps.find.names }", at_once: 2, with: {name: "moved-${ each }"}}
  - {id: some, uses: fake.put, for_each: [x, y], with: {name: "some-${ each }", to: 1}, needs: [find]}
  - {id: back, uses: runbook/move, with: {name: orders}, when: "steps.find.names.size() > 2", needs: [all, some]}
  - {id: never, uses: runbook/move, with: {name: ghost}, when: "steps.find.names.size() > 3", needs: [all]}
  - {id: last, uses: fake.final, with: {name: last}, needs: [back, never]}
"""
)
SHOPS = {"shop-a": 1, "shop-b": 1, "shop-c": 1}
WRITTEN = {f"moved-shop-{shop}-{what}" for shop in "abc" for what in ("stop", "start")} | {
    "some-x", "some-y", "orders-stop", "orders-start", "last",
}  # fmt: skip


@pytest.fixture
def whole(tmp_path: Path) -> Plan:
    (tmp_path / "move.yaml").write_text(MOVE)
    path = tmp_path / "whole.yaml"
    path.write_text(WHOLE)
    return resolve(read_runbook(path), ENVIRONMENT, catalog(), source="east", target="west")


def finish(backend: str, dead: Engine) -> Engine:
    """Resume with a sound store; a person looks for what only a person can know."""
    store = MemoryStore()
    store.append(list(dead.store.read()))
    alive = Engine(dead.plan, world=sound(dead.world), store=store)
    state: RunState = run(backend, alive.resume)
    for _ in range(12):
        if state.outcome is not None:
            break
        unknown = state.having(Status.UNCERTAIN)
        assert unknown, (state.phase, state.blocks())
        params = unknown[0].params or {}
        said = order("resolve", unknown[0].id, as_="done" if params["name"] in alive.world.values else "not-done")
        state = run(backend, lambda said=said: alive.order(said))  # type: ignore[misc]
    return alive


def converged(alive: Engine) -> None:
    """All of it once, nothing else, and decided as a replay decides."""
    rows = list(alive.store.read())
    assert isinstance(rows[-1].fact, e.Finished) and rows[-1].fact.outcome == "done"
    assert alive.world.values == SHOPS | dict.fromkeys(WRITTEN, 1)
    assert set(alive.world.written()) == WRITTEN and set(alive.world.written().values()) == {1}
    assert list(compare(rows)) == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_a_crash_every_entry_is_done_and_what_is_not_needed_is_not(backend: str, whole: Plan) -> None:
    alive = Engine(whole, world=World(values=dict(SHOPS)))
    state = run(backend, alive.start)
    converged(alive)
    assert [f"{state.steps[id].status}" for id in ("all", "all/shop-b/stop", "back", "never", "never/stop")] == [
        "done", "done", "done", "skipped", "skipped",
    ]  # fmt: skip
    assert state.steps["all"].result == [
        {part: {"value": 1, "answered_by": "world"} for part in ("stop", "start")} for _ in SHOPS
    ]


@pytest.mark.parametrize("durable", [False, True], ids=["before", "after"])
def test_killed_at_every_journal_write(durable: bool, whole: Plan) -> None:
    for count in range(1, 200):
        dead = Engine(whole, world=World(values=dict(SHOPS)), store=DyingStore(dies_at=count, durable=durable))
        if not killed("trio", dead.start):
            break
        converged(finish("trio", dead))
    assert 15 < count < 199


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_around_every_effect(after: bool, whole: Plan) -> None:
    for count in range(1, 40):
        dead = Engine(whole, world=DeadlyWorld(values=dict(SHOPS), dies_at=count, after=after))
        if not killed("trio", dead.start):
            break
        converged(finish("trio", dead))
    assert count == len(WRITTEN) + 1


def test_a_run_that_is_taken_back_undoes_every_entry_in_reverse(whole: Plan) -> None:
    alive = Engine(whole, world=World(values=dict(SHOPS), trouble={"orders-start": ["refuse"]}))
    state = run("trio", alive.start)
    assert state.steps["back/start"].status is Status.FAILED
    state = run("trio", lambda: alive.order(order("abort", rollback=True)))
    assert state.outcome == "rolled_back"
    assert {name: value for name, value in alive.world.values.items() if value} == SHOPS
    undone = [name for name, _ in alive.world.writes][-9:]
    for shop in "abc":
        assert undone.index(f"moved-shop-{shop}-start") < undone.index(f"moved-shop-{shop}-stop")
    assert undone[0] == "orders-stop"
