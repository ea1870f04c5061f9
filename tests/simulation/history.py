"""One run from beginning to end: processes that live and die, weather, people; all of it follows the seed."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from contextvars import Context
from dataclasses import dataclass, field

import anyio
from anyio.abc import TaskGroup

from drkit.engine.identity import ProcessId
from drkit.engine.simulated import Chance, simulate
from drkit.engine.state import RunState
from drkit.model.values import Json
from simulation import machines, people, plans
from simulation.bucket import TROUBLE, Bucket
from simulation.machines import Fate, Machine, Process
from simulation.runner import Runner
from simulation.world import LATE, READS, WRITES, World

HORIZON_S = 6000.0
"""A run that has not ended by then never will: people have looked after it hundreds of times."""
STEPS_MAX = 200_000
"""As many awaits mean that somebody turns in a circle."""
RUN = "k7qd"


@dataclass
class History:
    """What happened. `current`: the process that carries the run, or did last."""

    seed: int
    processes: list[Process] = field(default_factory=list)
    runners: dict[int, Runner] = field(default_factory=dict)
    current: Runner | None = None
    two_holders: list[str] = field(default_factory=list)
    acquired: list[tuple[float, Process]] = field(default_factory=list)
    """Who got the lease, and when."""
    errors: list[str] = field(default_factory=list)
    steps: int = 0

    def __post_init__(self) -> None:
        self.r = r = random.Random(self.seed)
        hesitates = r.random() < 0.12
        self.plan = plans.random_plan(r, on_failure="rollback" if hesitates else None)
        self.policy: dict[str, Json] | None = {"name": "nightly", "*": "approve"} if r.random() < 0.2 else None
        cut_at = r.uniform(0, 30) if r.random() < 0.3 else math.inf
        writes, reads = r.choices([({}, {}), (WRITES, READS), (LATE, READS)], [15, 70, 15])[0]
        self.world = World(self.chance(writes), self.chance(reads), cut_at)
        self.bucket = Bucket(down=spells(r, 0.35, 60))
        self.trouble = self.chance(TROUBLE)
        slow_s = r.choice([0.0, 0.0, 0.0, 0.1, 0.6])
        self.machines = [
            Machine(name, r.uniform(0, 1e5), full=spells(r, 0.2, 30), slow_s=slow_s) for name in ("m1", "m2", "m3")
        ]
        self.people = people.People(random.Random(r.random()), self.world)
        self.returns_at = r.uniform(1, 25) if r.random() < 0.25 else math.inf
        """When somebody decides to take the run back."""
        self.pauses_at = r.uniform(0.2, 5) if hesitates else math.inf
        """When somebody wants to think first, while the runbook would go back by itself if a step failed."""
        self.talkative_s = r.choice([2.0, 6.0, 15.0, 1e9])
        self.deaths_left = r.choice([0, 1, 2, 4, 7])
        self.takeovers_left = r.choice([0, 1, 1, 2])

    def chance(self, mishaps: dict[str, float]) -> Chance:
        """Luck of its own for somebody."""
        return Chance(self.r.randrange(2**32), mishaps=mishaps)

    def process(self, machine: Machine) -> Process:
        """A new process, with whatever will happen to it."""
        r, process = self.r, Process(machine, len(self.processes), copied=self.bucket.copied)
        if self.deaths_left and r.random() < 0.8:
            self.deaths_left -= 1
            self._death(process)
        if r.random() < 0.35:
            process.fates += [Fate(int(2 ** r.uniform(3, 10)), r.choice([3.0, 12.0, 26.0, 60.0]))]
        if r.random() < (0.35 if self.takeovers_left else 0.1):
            process.freezes_at_send = r.randint(1, 3)
        if r.random() < 0.08:
            process.freezes_at_apply = r.randint(1, 3)
        process.fates.sort(key=lambda fate: fate.step)
        self.processes.append(process)
        return process

    def _death(self, process: Process) -> None:
        """Where it will be killed, if it lives that long."""
        r = self.r
        where = r.choices(["append", "question", "apply", "anywhere"], [30, 12, 18, 40])[0]
        if where == "append":
            process.dies_at_append, process.dies_after = r.randint(1, 25), r.random() < 0.5
        elif where == "question":
            process.dies_at_question, process.dies_after = True, r.random() < 0.5
        elif where == "apply":
            process.dies_at_apply = r.randint(1, 3)
        else:
            process.fates.append(Fate(int(2 ** r.uniform(1, 10.5))))

    @property
    def state(self) -> RunState | None:
        """The run, as the process that carries it sees it."""
        return None if self.current is None or self.current.driver is None else self.current.driver.state

    @property
    def over(self) -> bool:
        """Whether its end is durable."""
        return self.current is not None and self.current.over

    def is_dead(self, process: ProcessId, *, seen_from: str) -> bool:
        """What a machine knows of a holder's process: only of its own."""
        return process.machine == seen_from and self.processes[process.pid].gone

    def look_at_leases(self) -> None:
        """Called whenever one may have changed."""
        live = [process for process in self.processes if not process.gone and process.lease_s() > 0]
        if len(live) > 1:
            self.two_holders.append(f"{' and '.join(map(str, live))} both hold the lease")

    def overtaken(self, process: Process, at: float) -> bool:
        """Whether somebody else had the lease by then, since this process got it."""
        since = next((t for t, who in self.acquired if who is process), math.inf)
        return any(since <= t <= at and who is not process for t, who in self.acquired)

    # Living

    def live(self) -> None:
        """All of it."""
        simulate(self._live, seed=self.seed, on_step=self._on_step)

    def _on_step(self, context: Context) -> None:
        self.steps += 1
        assert self.steps < STEPS_MAX, "it turns in a circle"
        machines.on_step(context)

    async def _live(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._talk)
            tasks.start_soon(self._care)
            tasks.start_soon(self._return)
            tasks.start_soon(self._weather)
            with anyio.move_on_after(HORIZON_S):
                await self._operate(tasks)
            tasks.cancel_scope.cancel()
        self.world.finish()

    async def _operate(self, tasks: TaskGroup) -> None:
        """Somebody starts a process when there is none, and another one elsewhere when the first looks dead."""
        while not self.over:
            if self.current is None or self.current.process.gone:
                if self.current is not None and self.takeovers_left and self.r.random() < 0.5:
                    await self._take_over(tasks)
                else:
                    machine = self.machines[0] if self.current is None else self.current.process.machine
                    waits = self.current is not None and self.current.locked
                    self.current = self._start(tasks, Runner(self, self.process(machine), waits=waits))
            elif self.takeovers_left and (self.current.process.frozen or self.r.random() < 0.02):
                await self._take_over(tasks)
            await anyio.sleep(self.r.uniform(0.8, 4.0))

    def _start(self, tasks: TaskGroup, runner: Runner) -> Runner:
        self.runners[runner.process.number] = runner
        tasks.start_soon(runner.live)
        return runner

    async def _take_over(self, tasks: TaskGroup) -> None:
        """Go on with the run on another machine, from the state store."""
        self.takeovers_left -= 1
        assert self.current is not None
        others = [machine for machine in self.machines if machine is not self.current.process.machine]
        rival = self._start(tasks, Runner(self, self.process(self.r.choice(others)), elsewhere=True))
        while not rival.process.gone:
            if rival.carries:
                self.current = rival
                return
            if self.over:
                rival.process.die()
            await anyio.sleep(0.5)
        if rival.carries:
            self.current = rival

    async def _talk(self) -> None:
        """People say whatever they like, for the first minutes."""
        while anyio.current_time() < 240:
            await anyio.sleep(self.r.expovariate(1 / self.talkative_s))
            if (state := self.state) is not None and state.seq:
                self._say(self.people.anything(state))

    async def _return(self) -> None:
        """And somebody wants to think first, or everything as it was before."""
        for at, verb, args in sorted([(self.pauses_at, "pause", {}), (self.returns_at, "abort", {"rollback": True})]):
            await anyio.sleep(at - anyio.current_time())
            self._say(people.order(verb, None, people.DANA, **args))

    async def _care(self) -> None:
        """And somebody looks after a run that rests."""
        rested = 0
        while True:
            await anyio.sleep(self.r.uniform(3, 8))
            state = self.state
            resting = state is not None and state.seq and not state.busy and not state.backing_off
            rested = rested + 1 if resting else 0
            if state is not None and rested >= 2:
                for fact in self.people.careful(state):
                    self._say(fact)

    def _say(self, fact: object) -> None:
        runner = self.current
        if fact is not None and runner is not None and not runner.process.gone and runner.inbox is not None:
            runner.inbox.put(fact)  # type: ignore[arg-type]

    async def _weather(self) -> None:
        """Wall clocks jump."""
        while True:
            await anyio.sleep(self.r.expovariate(1 / 30))
            self.r.choice(self.machines).skew_s = self.r.uniform(-1e5, 1e5)


def spells(r: random.Random, probability: float, longest_s: float) -> list[tuple[float, float]]:
    """Times of trouble: from, to."""
    found: list[tuple[float, float]] = []
    while r.random() < probability:
        start = r.expovariate(1 / 20)
        found.append((start, start + r.uniform(0.5, longest_s)))
    return found


def journals(history: History) -> Iterator[tuple[Machine, list[bytes]]]:
    """What every machine has on its disk."""
    return ((machine, machine.disk.texts()) for machine in history.machines if len(machine.disk))
