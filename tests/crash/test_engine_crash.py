"""The engine killed at every journal write and around every effect: it always converges, and repeats nothing.

Killed means: the driver's task group dies at that instant, whatever the journal had not kept and whatever lay in the
inbox is gone, and a new driver starts from the journal alone. The world stays as it was left.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from engine_fakes import Engine, World, gate, order, plan, step
from trio.testing import MockClock

from drkit.engine.decisions import compare
from drkit.engine.memory import MemoryStore
from drkit.engine.state import RunState, Status
from drkit.model import events as e
from drkit.model.events import Row
from drkit.model.plan import Plan

BACKENDS = ["asyncio", "trio"]


class Killed(BaseException):
    """The process is gone."""


@dataclass
class DyingStore(MemoryStore):
    """Dies at the n-th append, before or after it is durable."""

    dies_at: int = 0
    durable: bool = False
    appends: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def append(self, rows: Sequence[Row]) -> None:
        self.appends += 1
        if self.appends != self.dies_at:
            super().append(rows)
            return
        if self.durable:
            super().append(rows)
        raise Killed


@dataclass
class DeadlyWorld(World):
    """Kills whoever makes the n-th write, before or after it takes effect."""

    dies_at: int = 0
    after: bool = False
    calls: list[str] = field(default_factory=list)

    async def write(self, name: str, value: int, token: str, *, once: bool = False) -> None:
        self.calls.append(name)
        deadly = len(self.calls) == self.dies_at
        if deadly and not self.after:
            raise Killed
        await super().write(name, value, token, once=once)
        if deadly:
            raise Killed


def twelve() -> Plan:
    """One of each kind: safe, token, ask, fence, gate, irreversible, probe, optional, skipped."""
    return plan(
        step("assess", uses="fake.value", verify=None),
        gate("go", "assess"),
        step("scale", "assess", optional=True),
        step("stop", "go", uses="fake.put-ask"),
        step("fence", "stop", uses="fake.fence"),
        step("note", "fence", uses="fake.put-once"),
        step("promote", "fence", uses="fake.final"),
        step("warm", "promote", "scale"),
        step("already", "promote"),
        step("smoke", "warm", "already", uses="fake.value"),
        step("traffic", "smoke", "note"),
        step("tell", "traffic", uses="fake.put-ask"),
    )


def run(backend: str, body: Callable[[], Awaitable[RunState]]) -> RunState:
    """On trio with a virtual clock, on asyncio with the real one."""
    options: dict[str, Any] = {"clock": MockClock(autojump_threshold=0)} if backend == "trio" else {}
    return anyio.run(body, backend=backend, backend_options=options)


def killed(backend: str, body: Callable[[], Awaitable[RunState]]) -> bool:
    """Whether it died on the way."""
    try:
        run(backend, body)
    except BaseExceptionGroup as group:
        dead, other = group.split(Killed)
        assert dead is not None and other is None, other
        return True
    return False


def engine(world: World, store: MemoryStore) -> Engine:
    return Engine(twelve(), world=world, store=store)


POLICY = {"name": "nightly", "ic": "approve"}


def finish(backend: str, dead: Engine) -> Engine:
    """Resume with a sound store; what only a person can know is looked up in the world and resolved."""
    store = MemoryStore()
    store.append(list(dead.store.read()))
    alive = Engine(dead.plan, world=sound(dead.world), store=store, catalog=dead.catalog)
    opening = {} if len(store) else {"policy": POLICY}
    state = run(backend, lambda: alive.start(**opening) if opening else alive.resume())
    for _ in range(12):
        if state.outcome is not None:
            break
        unknown = state.having(Status.UNCERTAIN)
        assert unknown, (state.phase, state.blocks())
        looked = alive.world.values.get(unknown[0].id) == 1
        said = order("resolve", unknown[0].id, as_="done" if looked else "not-done")
        state = run(backend, lambda said=said: alive.order(said))  # type: ignore[misc]
    return alive


def sound(world: World) -> World:
    return World(values=world.values, writes=world.writes, seen_tokens=world.seen_tokens)


def converged(alive: Engine) -> None:
    """The same end as without a crash, nothing done twice, no decision that a replay would not make."""
    rows = list(alive.store.read())
    assert isinstance(rows[-1].fact, e.Finished) and rows[-1].fact.outcome == "done"
    names = [s.id for s in alive.plan.steps if s.kind == "action"]
    assert alive.world.values == dict.fromkeys(names, 1)
    twice = {name for name, count in alive.world.written().items() if count > 1}
    assert not twice, twice
    ended: set[str] = set()
    for row in rows:
        if isinstance(row.fact, e.Done | e.AlreadySo):
            ended.add(row.fact.step)
        assert not [c for c in row.commands if c.verb == "apply" and c.step in ended], row.seq
    started = {c.step: row.seq for row in reversed(rows) for c in row.commands if c.verb in ("prepare", "observe")}
    settled = {row.fact.step: row.seq for row in rows if isinstance(row.fact, e.Done | e.AlreadySo | e.Answered)}
    for planned in alive.plan.steps:
        for need in planned.needs:
            assert settled[need] <= started.get(planned.id, 10**6), (need, planned.id)
    assert list(compare(rows)) == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_a_crash(backend: str) -> None:
    whole = engine(World(values={"already": 1}), MemoryStore())
    state = run(backend, lambda: whole.start(policy=POLICY))
    assert state.steps["already"].status is Status.SKIPPED
    converged(whole)


@pytest.mark.parametrize("durable", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_killed_at_every_journal_write(backend: str, durable: bool) -> None:
    for count in range(1, 200):
        store = DyingStore(dies_at=count, durable=durable)
        dead = engine(World(values={"already": 1}), store)
        if not killed(backend, lambda dead=dead: dead.start(policy=POLICY)):  # type: ignore[misc]
            break
        converged(finish(backend, dead))
    else:
        pytest.fail("the run has more writes than this test allows for")
    assert count > 15


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_killed_around_every_effect(backend: str, after: bool) -> None:
    for count in range(1, 20):
        world = DeadlyWorld(values={"already": 1}, dies_at=count, after=after)
        dead = engine(world, MemoryStore())
        if not killed(backend, lambda dead=dead: dead.start(policy=POLICY)):  # type: ignore[misc]
            break
        converged(finish(backend, dead))
    assert count == 9  # eight steps write


def test_killed_again_and_again_while_resuming() -> None:
    """Each new runner lives for three more appends."""
    world = World(values={"already": 1})
    store = DyingStore(dies_at=4)
    dead = Engine(twelve(), world=world, store=store)
    assert killed("trio", lambda: dead.start(policy=POLICY))
    for _ in range(30):
        reborn = DyingStore(dies_at=4)
        MemoryStore.append(reborn, list(dead.store.read()))
        dead = Engine(twelve(), world=world, store=reborn)
        if not killed("trio", lambda dead=dead: dead.resume()):  # type: ignore[misc]
            break
    converged(finish("trio", dead) if not isinstance(list(dead.store.read())[-1].fact, e.Finished) else dead)
