"""The driver on bad days: a full disk, a lost lease, a state store that is down, orders, leaving. Time is virtual."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import anyio
import pytest
from engine_fakes import DANA, LEE, Engine, World, approve, gate, order, plan, step
from trio.testing import MockClock

from drkit.engine.driver import Driver
from drkit.engine.memory import MemoryInbox, MemoryStore
from drkit.engine.state import Status
from drkit.errors import JournalError, Locked
from drkit.model import events as e
from drkit.model.events import Row
from drkit.model.ports import Holder
from drkit.model.runbook import Retry

T = TypeVar("T")


def virtually(body: Callable[[], Awaitable[T]]) -> T:
    return anyio.run(body, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})


@dataclass
class FullDisk(MemoryStore):
    """No room between two instants."""

    full_from: float = 1.0
    full_until: float = 1.0
    refused: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def append(self, rows: Sequence[Row]) -> None:
        if self.full_from <= anyio.current_time() < self.full_until:
            self.refused += 1
            raise JournalError("no space left on device")
        super().append(rows)


def test_a_full_disk_starts_nothing_and_goes_on_when_there_is_room() -> None:
    store = FullDisk()
    engine = Engine(plan(step("a"), step("b", "a")), world=World(latency_s=0.5), store=store)
    seen: list[tuple[str | None, dict[str, int]]] = []

    async def body() -> str | None:
        store.full_from, store.full_until = anyio.current_time() + 0.4, anyio.current_time() + 30
        engine.troubles = Recorder(engine.world, seen)
        return (await engine.start()).outcome

    assert virtually(body) == "done"
    assert store.refused > 10
    # Told once that it is full, once that there is room; in between nothing was written to the world.
    assert [text for text, _ in seen] == ["no space left on device", None]
    assert seen[0][1] == seen[1][1] == {"a": 1}
    assert engine.world.values == {"a": 1, "b": 1}
    (note,) = engine.facts(e.Noted)
    assert "nothing was started meanwhile" in note.text


class Recorder(list[str | None]):
    """What the world held when the operator was told."""

    def __init__(self, world: World, seen: list[tuple[str | None, dict[str, int]]]) -> None:
        super().__init__()
        self._world, self._seen = world, seen

    def append(self, text: str | None) -> None:
        self._seen.append((text, dict(self._world.values)))


@dataclass
class FakeLease:
    """Held until an instant; then lost to somebody else, or its store is down for a while."""

    lost_at: float = 1e9
    down: tuple[float, float] = (1e9, 1e9)
    term_s: float = 8.0
    renewed: float = 0.0

    async def acquire(self, run: str, *, drill: bool, take_over: bool = False) -> Holder:
        raise NotImplementedError

    async def renew(self) -> None:
        now = anyio.current_time()
        if now >= self.lost_at:
            raise Locked("run h2mx holds it now")
        if self.down[0] <= now < self.down[1]:
            raise JournalError("the state store does not answer")
        self.renewed = now

    def remaining_s(self) -> float:
        return self.renewed + self.term_s - anyio.current_time()

    async def release(self) -> None:
        raise NotImplementedError


def test_a_lost_lease_pauses_the_run_and_what_runs_is_still_observed() -> None:
    lease = FakeLease()
    engine = Engine(plan(step("a", timeout_s=20.0), step("b", "a")), world=World(latency_s=4.0), lease=lease)

    async def body() -> None:
        lease.renewed, lease.lost_at = anyio.current_time(), anyio.current_time() + 3
        state = await engine.start()
        assert state.phase == "paused"
        assert [s.status for s in state.steps.values()] == [Status.DONE, Status.PENDING]
        assert "take-over" in state.blocks()[0].command

    virtually(body)
    (lost,) = engine.facts(e.LeaseChanged)
    assert (lost.state, lost.detail) == ("lost", "run h2mx holds it now")


def test_a_state_store_that_is_down_costs_the_lease_only_when_its_term_is_over() -> None:
    lease = FakeLease()
    engine = Engine(plan(*[step(f"s{n}", *([f"s{n - 1}"] if n else []), timeout_s=9.0) for n in range(12)]),
                    world=World(latency_s=1.0), lease=lease)  # fmt: skip

    async def body() -> None:
        now = anyio.current_time()
        lease.renewed, lease.down = now, (now + 5, now + 40)
        driver = engine.driver(stay=True)
        engine.inbox.put(opened_and_began(engine)[0])
        engine.inbox.put(opened_and_began(engine)[1])
        assert (await driver.run()).outcome == "done"
        assert anyio.current_time() - now > 40

    virtually(body)
    assert [(fact.state, round(fact.t)) for fact in engine.facts(e.LeaseChanged)] == [("lost", 12), ("held", 40)]


def opened_and_began(engine: Engine) -> tuple[e.Fact, e.Fact]:
    from engine_fakes import began, opened

    return opened(engine.plan), began()


@dataclass
class FakeCopier:
    """Copies after a while, or cannot."""

    inbox: MemoryInbox
    error: str | None = None
    wanted: list[int] = field(default_factory=list)
    rows: int = 0

    def committed(self, rows: Sequence[Row]) -> None:
        self.rows += len(rows)

    def want(self, upto: int) -> None:
        self.wanted.append(upto)
        self.inbox.put(e.Copied(upto=upto, error=self.error))


def test_an_irreversible_effect_waits_for_its_copy() -> None:
    inbox = MemoryInbox()
    copier = FakeCopier(inbox)
    engine = Engine(plan(step("a", uses="fake.final")), inbox=inbox, copier=copier)
    assert virtually(engine.start).outcome == "done"
    (intent,) = [row for row in engine.store.read() if isinstance(row.fact, e.Prepared)]
    assert copier.wanted == [intent.seq]
    assert copier.rows == len(engine.store)


def test_if_the_copy_fails_a_person_decides() -> None:
    inbox = MemoryInbox()
    engine = Engine(plan(step("a", uses="fake.final")), inbox=inbox, copier=FakeCopier(inbox, "no bucket"))

    async def body() -> None:
        state = await engine.start()
        assert state.phase == "waiting" and not engine.world.writes
        state = await engine.order(approve(state, "a", DANA))
        assert state.outcome == "done"

    virtually(body)


def test_orders_that_are_refused_are_journaled_with_the_reason() -> None:
    engine = Engine(plan(gate("go"), step("a", "go")))

    async def body() -> None:
        state = await engine.start()
        wrong = e.Answered(step="go", answer="approve", by=LEE, role="ic", reason="", plan_hash="x", shown_hash="x")
        state = await engine.order(wrong, order("retry", "a"), approve(state, "go", LEE))
        assert state.outcome == "done"

    virtually(body)
    refused = engine.facts(e.Refusal)
    assert [(r.verb, r.step) for r in refused] == [("approve", "go"), ("retry", "a")]
    assert "another plan" in refused[0].why


def test_no_secret_reaches_the_journal_whoever_wrote_it() -> None:
    engine = Engine(plan(step("a")), world=World(trouble={"a": ["refuse"]}))

    async def body() -> None:
        for fact in opened_and_began(engine):
            engine.inbox.put(fact)
        engine.inbox.put(e.Noted(text="the password is hunter2", by=DANA))
        await engine.driver().run()

    virtually(body)
    assert [fact.text for fact in engine.facts(e.Noted)] == ["the password is [redacted]"]
    assert [fact.error for fact in engine.facts(e.Failed)] == ["permission denied for [redacted]"]
    assert not any(b"hunter2" in text for text in engine.store.texts())


def test_timers_fire_on_the_runs_clock() -> None:
    engine = Engine(
        plan(step("a", retry=Retry(times=3, backoff=10.0, jitter=0.0))),
        world=World(trouble={"a": ["refuse", "refuse"]}),
    )

    async def body() -> float:
        assert (await engine.start()).outcome == "done"
        return anyio.current_time()

    virtually(body)
    assert [round(fact.t) for fact in engine.facts(e.Fired)] == [10, 30]
    assert engine.world.written() == {"a": 1}


def test_a_paused_runner_stays_and_takes_orders_until_it_is_told_to_leave() -> None:
    engine = Engine(plan(step("a"), step("b", "a")), world=World(latency_s=0.5))

    async def body() -> None:
        for fact in opened_and_began(engine):
            engine.inbox.put(fact)
        driver = engine.driver(stay=True)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(driver.run)
            await anyio.sleep(1.2)
            engine.inbox.put(order("pause"))
            await anyio.sleep(100)
            assert driver.state.phase == "paused"
            assert engine.world.values == {"a": 1}
            driver.leave()
        assert driver.state.outcome is None

    virtually(body)
    assert engine.facts(e.Ordered)[0].verb == "pause"


def test_leave_waits_for_those_at_work() -> None:
    engine = Engine(plan(step("a", timeout_s=30.0), step("b", "a")), world=World(latency_s=5.0))

    async def leave_soon(driver: Driver) -> None:
        await anyio.sleep(3.0)
        engine.inbox.put(order("pause"))
        driver.leave()

    async def body() -> None:
        for fact in opened_and_began(engine):
            engine.inbox.put(fact)
        driver = engine.driver(stay=True)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(leave_soon, driver)
            state = await driver.run()
        assert state.having(Status.DONE)[0].id == "a"
        assert state.phase == "paused"

    virtually(body)


def test_abort_stops_what_only_looks_and_waits_for_what_was_sent() -> None:
    engine = Engine(
        plan(step("a", timeout_s=30.0), step("w", uses="fake.value", verify="now.value == 7", timeout_s=600.0),
             step("z", "a")),
        world=World(latency_s=2.0),
    )  # fmt: skip

    async def abort_soon() -> None:
        await anyio.sleep(2.5)
        engine.inbox.put(order("abort"))

    async def body() -> float:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(abort_soon)
            state = await engine.start()
        assert state.outcome == "aborted"
        assert [s.status for s in state.steps.values()] == [Status.DONE, Status.CANCELLED, Status.CANCELLED]
        return state.t

    assert virtually(body) < 10


def test_a_rollback_puts_back_what_was_there() -> None:
    engine = Engine(
        plan(step("a"), step("b", "a"), step("c", "b", on_failure="rollback")),
        world=World(values={"a": 7}, trouble={"c": ["fail"]}),
    )

    async def body() -> None:
        state = await engine.start()
        assert state.outcome == "rolled_back"
        assert state.steps["a"].status is Status.COMPENSATED

    virtually(body)
    assert engine.world.values == {"a": 7, "b": 0}
    order_of = [name for name, _ in engine.world.writes]
    assert order_of == ["a", "b", "b", "a"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_commits_in_a_worker_thread(backend: str) -> None:
    engine = Engine(plan(*[step(f"s{n}") for n in range(20)]), threads=True)
    assert anyio.run(engine.start, backend=backend).outcome == "done"
    assert engine.store.commits < len(engine.store)  # those that come together are committed together


def test_the_runs_clock_stands_still_while_nobody_is_there() -> None:
    engine = Engine(plan(step("a"), gate("go", "a"), step("b", "go")), world=World(latency_s=1.0))

    async def body() -> None:
        state = await engine.start()
        before = state.t
        await anyio.sleep(1000)
        state = await engine.resume()
        assert state.t == pytest.approx(before, abs=0.1)
        assert state.wall(state.t) == pytest.approx(engine.clock.wall(), abs=0.1)

    virtually(body)
