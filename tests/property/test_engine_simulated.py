"""The whole engine against a world that refuses, hangs, loses answers, answers late or stale, and kills its runner.

Time is virtual and everything follows the seed: `PYTHONPATH=tests python tests/property/test_engine_simulated.py
SEED` shows one history.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
from engine_fakes import (
    DANA,
    ENVIRONMENT,
    LEE,
    NoSecrets,
    World,
    approve,
    began,
    catalog,
    gate,
    opened,
    order,
    plan,
    step,
)

from drkit.context import Providers
from drkit.engine.decisions import compare
from drkit.engine.driver import Driver
from drkit.engine.executor import Executor
from drkit.engine.fold import Run, replay
from drkit.engine.memory import MemoryStore
from drkit.engine.simulated import Chance, JsonExecutor, SeededInbox, VirtualClock, simulate
from drkit.engine.state import Phase, RunState, Status
from drkit.errors import OutcomeUnknown, StepFailed, Unobservable
from drkit.model import events as e
from drkit.model.plan import Plan

WRITES = {"refuse": 0.05, "fail": 0.03, "hang": 0.03, "lose": 0.08, "lost-unsent": 0.05, "late": 0.08}
READS = {"blind": 0.05, "stale": 0.05}
#: By then everything that was on its way has arrived.
QUIET_S = 120.0


@dataclass
class ChancyWorld(World):
    """Follows the seed."""

    writing: Chance = field(default_factory=lambda: Chance(0))
    reading: Chance = field(default_factory=lambda: Chance(0))
    on_the_way: list[tuple[float, str, int, str, bool]] = field(default_factory=list)
    before: dict[str, int | None] = field(default_factory=dict)
    store: MemoryStore = field(default_factory=MemoryStore)

    def intended(self, name: str) -> bool:
        """Whether the journal, as a crash would leave it now, says that this is about to be sent."""
        return any(isinstance(row.fact, e.Prepared) and row.fact.step == name for row in self.store.read())

    def arrive(self) -> None:
        """What was sent and not yet there takes effect when its time has come."""
        now = anyio.current_time()
        due = [one for one in self.on_the_way if one[0] <= now]
        self.on_the_way = [one for one in self.on_the_way if one[0] > now]
        for _, name, value, token, once in due:
            self.put_now(name, value, token, once)

    def put_now(self, name: str, value: int, token: str, once: bool) -> None:
        if not (once and token in self.seen_tokens):
            self.before[name] = self.values.get(name)
            self.values[name] = value
            self.writes.append((name, token))
            self.seen_tokens.add(token)

    async def write(self, name: str, value: int, token: str, *, once: bool = False) -> None:
        assert self.intended(name), f"{name} is sent without an intent on disk"
        await anyio.sleep(self.writing.latency_s())
        word = self.writing.mishap()
        if word == "refuse":
            raise StepFailed("permission denied", world="untouched")
        if word == "fail":
            raise StepFailed("broke half way", world="changed")
        if word == "hang":
            await anyio.sleep_forever()
        if word == "lost-unsent":
            raise OutcomeUnknown("connection reset before it arrived")
        late_s = 20.0 * self.writing.latency_s() if word == "late" else 0.0
        self.on_the_way.append((anyio.current_time() + late_s, name, value, token, once))
        self.arrive()
        if word in ("lose", "late"):
            raise ConnectionResetError("connection reset by peer")

    async def read(self, name: str) -> int | None:
        await anyio.sleep(self.reading.latency_s() / 2)
        self.arrive()
        word = self.reading.mishap()
        if word == "blind":
            raise Unobservable(f"{name} does not answer")
        return self.before.get(name) if word == "stale" else self.values.get(name)


def random_plan(r: random.Random) -> Plan:
    steps: list[Any] = []
    for n in range(r.randint(2, 12)):
        needs = [s.id for s in steps if r.random() < 0.3]
        uses = r.choice(["fake.put", "fake.put-once", "fake.put-ask", "fake.final", "fake.fence", "gate"])
        if uses == "gate":
            steps.append(gate(f"s{n}", *needs, approvals=r.choice([1, 2])))
        else:
            steps.append(step(f"s{n}", *needs, uses=uses, timeout_s=10.0, poll_s=0.5, settle_s=2.0))
    return plan(*steps)


@dataclass
class Simulation:
    """One history: runners that die, a person who looks at the world and says what is true."""

    seed: int
    store: MemoryStore = field(default_factory=MemoryStore)
    deaths: int = 0

    def __post_init__(self) -> None:
        self.r = random.Random(self.seed)
        self.plan = random_plan(self.r)
        self.world = ChancyWorld(
            writing=Chance(self.seed + 1, mishaps=WRITES), reading=Chance(self.seed + 2, mishaps=READS),
            store=self.store,
        )  # fmt: skip
        self.lives = [self.r.expovariate(0.5) for _ in range(self.r.randint(0, 8))]

    def runner(self) -> tuple[Driver, SeededInbox]:
        rows = list(self.store.read())
        inbox = SeededInbox(Chance(self.r.randrange(2**32)))
        clock = VirtualClock()
        executor = Executor(
            self.plan, catalog(), Providers(ENVIRONMENT, NoSecrets(), {World: self.world}), NoSecrets(), clock,
            run="k7qd",
        )  # fmt: skip
        driver = Driver(
            replay(rows) if rows else Run(self.plan), self.store, inbox, JsonExecutor(executor), clock,
            head=rows[-1].hash if rows else e.GENESIS, stay=False, threads=False,
        )  # fmt: skip
        if not rows:
            inbox.put(opened(self.plan, policy={"name": "n", "ic": "approve"}))
            inbox.put(began())
        return driver, inbox

    async def live(self, said: list[e.Fact]) -> RunState | None:
        """One runner, until the run rests or ends, or the runner dies (None)."""
        driver, inbox = self.runner()
        if driver.state.seq:
            inbox.put(e.Resumed(by=DANA, host="h", wall=VirtualClock().wall()))
            if driver.state.began_t is None:
                inbox.put(began())
        for fact in said:
            inbox.put(fact)
        life_s = self.lives.pop() if self.lives else 1e9
        with anyio.move_on_after(life_s):
            return await driver.run()
        self.deaths += 1
        return None

    async def decide(self, state: RunState) -> list[e.Fact]:
        """A person waits until nothing is on its way, looks, and says what is so."""
        await anyio.sleep(QUIET_S)
        self.world.arrive()
        said: list[e.Fact] = []
        for s in state.steps.values():
            there = self.world.values.get(s.id) == 1
            if s.phase is Phase.ASKED:
                asked_by = {str(person.get("name")) for person in s.ask.approved_by} if s.ask else set()
                said.append(approve(state, s.id, LEE if "dana" in asked_by else DANA))
            elif s.phase is Phase.BLOCKED and s.ended is Status.UNCERTAIN:
                fence_done = there and s.plan.fences
                said.append(order("resolve", s.id, as_="not-done" if fence_done or not there else "done"))
            elif s.phase is Phase.BLOCKED:
                said.append(order("done" if there else "retry", s.id))
        return said

    async def whole(self) -> RunState:
        said: list[e.Fact] = []
        for _ in range(200):
            state = await self.live(said)
            if state is not None and state.outcome is not None:
                return state
            said = [] if state is None else await self.decide(state)
        raise AssertionError("no end")


def check(one: Simulation, state: RunState) -> None:
    rows = list(one.store.read())
    assert state.outcome == "done"
    actions = [s for s in one.plan.steps if s.kind == "action"]
    assert one.world.values == {s.id: 1 for s in actions}
    written = one.world.written()
    for s in actions:
        if s.repeat != "safe":
            assert written[s.id] == 1, f"{s.id} ({s.repeat}) took effect {written[s.id]} times"
    assert not [row for row in rows if isinstance(row.fact, e.Failed) and "without an intent" in row.fact.error]
    needs = {s.id: set(s.needs) for s in one.plan.steps}
    run = Run(one.plan)
    for row in rows:
        ended = {s.id for s in run.state.steps.values() if s.phase is Phase.ENDED}
        run.take(row.fact)
        now = {s.id for s in run.state.steps.values() if s.phase is Phase.ENDED}
        for command in row.commands:
            if command.step is not None and command.verb in ("prepare", "apply", "recover", "ask"):
                assert command.step not in ended, f"{command.verb} {command.step} after it had ended"
                assert needs[command.step] <= now, f"{command.verb} {command.step} before its needs had ended"
    assert list(compare(rows)) == []


def history(seed: int) -> Simulation:
    one = Simulation(seed)
    check(one, simulate(one.whole, seed=seed))
    return one


@pytest.mark.parametrize("seed", range(40))
def test_every_history_ends_with_the_effects_of_an_undisturbed_run(seed: int) -> None:
    history(seed)


def test_the_histories_are_eventful() -> None:
    histories = [history(seed) for seed in range(15)]
    assert sum(one.deaths for one in histories) > 15
    facts = [row.fact for one in histories for row in one.store.read()]
    for kind in (e.Failed, e.NotDone, e.Ordered, e.Resumed):
        assert any(isinstance(fact, kind) for fact in facts), kind


def test_a_seed_gives_the_same_history_byte_for_byte_in_every_process() -> None:
    heads, tests = set(), str(Path(__file__).parent.parent)
    for hash_seed in ("1", "2"):
        variables = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": tests}
        command = [sys.executable, __file__, "7"]
        out = subprocess.run(command, env=variables, capture_output=True, text=True, check=True, timeout=60)
        heads.add(out.stdout.splitlines()[-1])
    assert len(heads) == 1 and next(iter(heads)).startswith("sha256:")


if __name__ == "__main__":
    for row in (shown := list(history(int(sys.argv[1])).store.read())):
        print(f"{row.fact.t:9.2f}", row.fact.kind, getattr(row.fact, "step", ""), [c.verb for c in row.commands])
    print(shown[-1].hash)
