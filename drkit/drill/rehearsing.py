"""Run one cell of the matrix on the simulator: the real driver, executor, fold and journal, in a made-up world.

Whoever is killed is started again; where the run stops, the next command it names is followed once the fault is over.
"""

from __future__ import annotations

import shlex
import socket
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import anyio

from drkit.catalog import Action, Catalog
from drkit.context import Providers
from drkit.drill import judging
from drkit.drill.matrix import Cell, Ending, Fault, Moment, Result, applies, happening, indispensable
from drkit.drill.pretend import WHOLE, WRITE_S, Killed, Trouble, World
from drkit.drill.reach import Reach, reach
from drkit.drill.standins import LOOK, WAITS, stand_in_plan, stand_ins
from drkit.engine.driver import Driver
from drkit.engine.executor import Executor, Report
from drkit.engine.fold import Run, replay
from drkit.engine.memory import MemoryStore
from drkit.engine.scene import Scene
from drkit.engine.simulated import Chance, JsonExecutor, SeededInbox, VirtualClock, simulate
from drkit.engine.state import RunState
from drkit.errors import Refused
from drkit.model import events as e
from drkit.model.environment import Environment, Site
from drkit.model.events import Command, Fact
from drkit.model.plan import Plan
from drkit.model.values import Json
from drkit.plan.files import Loaded
from drkit.plan.graph import ancestors
from drkit.plan.resolve import resolve
from drkit.providers.secrets import Secrets

RUN = "matrix"
TWO_REGIONS = Environment(
    name="simulator", kind="sandbox", account="123456789012", state_store="file:///nowhere",
    sites=(Site(name="east", kind="region"), Site(name="west", kind="region"), Site(name="onprem", kind="on-prem")),
    dns={"zone": "shop.example", "authorities": []},
)  # fmt: skip
HANGS_S = 6 * 3600.0
"""A run that is not over by then, on its own clock, hangs."""
PERSON: dict[str, Json] = {"name": "on call", "uid": 1000, "how": "unix socket peer", "roles": []}
EVERYBODY: dict[str, Json] = {"name": "matrix", "*": "approve"}
LATENCY_S = 0.2


def prepare(loaded: Loaded, parameters: Mapping[str, Json], seed: int) -> Stage:
    """A runbook between two regions that are made up. FileError and UsageError as for any plan."""
    source, target, *_ = [*loaded.spec.metadata.regions, "east", "west"]
    sites = [
        {"name": source, "kind": "region"},
        {"name": target, "kind": "region"},
        {"name": "onprem", "kind": "on-prem"},
    ]
    environment = TWO_REGIONS.model_copy(update={"sites": tuple(Site.model_validate(site) for site in sites)})
    plan = resolve(loaded, environment, Catalog(), source=source, target=target, parameters=parameters)
    return Stage(plan, seed)


@dataclass(frozen=True)
class Stage:
    """A runbook's plan, prepared for being run over and over."""

    real: Plan
    seed: int = 0

    @cached_property
    def reaches(self) -> Mapping[str, Reach]:
        """By step: which ways it goes to the world."""
        known = Catalog()
        return {step.id: reach(known.entry(step.uses)) for step in happening(self.real)}

    @cached_property
    def plan(self) -> Plan:
        """The same graph on stand-ins. Refused if it is not known before it runs."""
        later = [step.id for step in self.real.steps if step.join is not None and step.join.over is not None]
        if later:
            raise Refused(f"{', '.join(later)} becomes steps only while the run goes on; the matrix needs all of them",
                          hint=f"drkit graph {self.real.runbook}")  # fmt: skip
        return stand_in_plan(self.real)

    @cached_property
    def catalog(self) -> Catalog:
        """The stand-ins."""
        known, catalog = Catalog(), Catalog()
        used = {step.uses: known.entry(step.uses) for step in self.real.steps if step.kind == "action"}
        catalog.admit([LOOK, WAITS, *stand_ins(entry for entry in used.values() if isinstance(entry, Action))])
        return catalog

    @cached_property
    def builds_on(self) -> Mapping[str, frozenset[str]]:
        """By step: the actions before it that must be in effect."""
        actions = {step.id for step in self.plan.steps if step.kind == "action" and indispensable(step)}
        every = ancestors({step.id: step.needs for step in self.plan.steps})
        return {step: before & actions for step, before in every.items()}

    def undisturbed(self) -> Result:
        """The run without a fault. Wrong if even that does not end as it should."""
        return _Rehearsal(self, None).result()

    def play(self, cell: Cell) -> Result:
        """The run in which this cell's fault strikes."""
        if not applies(cell, self.reaches[cell.step]):
            return Result(cell, Ending.NOT_APPLICABLE)
        return _Rehearsal(self, cell).result()


class _Moments(JsonExecutor):
    """Knows the moments of questions, which no provider sees."""

    def __init__(self, executor: Executor, plan: Plan, trouble: Trouble) -> None:
        super().__init__(executor)
        self._gates = {step.id for step in plan.steps if step.kind == "gate"}
        self._trouble = trouble

    async def carry_out(self, command: Command, report: Report) -> None:
        """As `Executor.carry_out`."""
        if command.step not in self._gates:
            await super().carry_out(command, report)
            return
        asks = command.verb == "ask"
        self._trouble.meet(command.step, Moment.BEFORE if asks else Moment.DURING)
        facts: list[Fact] = []
        await super().carry_out(command, facts.append)
        if not asks:
            self._trouble.meet(command.step, Moment.AFTER)
        for fact in facts:
            report(fact)


class _Rehearsal:
    """One run."""

    def __init__(self, stage: Stage, cell: Cell | None) -> None:
        self._stage, self._cell = stage, cell
        self._trouble = Trouble(cell)
        # Not hash(): it differs from process to process.
        self._seed = stage.seed + zlib.crc32(str(cell).encode())
        chance = Chance(self._seed, latency_s=LATENCY_S)
        self._chance = chance
        self._world = World(stage.reaches, stage.builds_on, chance, self._trouble)
        self._store = MemoryStore()
        self._commands: list[str] = []
        self._wrong: list[str] = []
        self._waits = ""

    def result(self) -> Result:
        """Carry it out and say how it ended."""
        cell = self._cell or Cell("", Moment.BEFORE, Fault.KILL)
        try:
            took_s, wrong = simulate(self._live, seed=self._seed), self._at_end()
        except TimeoutError:
            took_s, wrong = None, [f"it hangs: not over after {HANGS_S / 3600:g} h"]
        wrong = [*self._wrong, *wrong]
        if self._cell is not None and self._trouble.struck is None:
            wrong.append("its moment never came, so nothing was shown")
        repeated = judging.repeats(self._world.log)
        if wrong:
            return Result(cell, Ending.WRONG, "; ".join(wrong), tuple(self._commands), repeated, took_s)
        ending = Ending.SAFE_STOP if self._commands else Ending.RESUMED
        return Result(cell, ending, self._waits, tuple(self._commands), repeated, took_s)

    def _at_end(self) -> list[str]:
        stage, world = self._stage, self._world
        return judging.at_end(stage.plan, list(self._store.read()), stage.builds_on, world.parts, world.log)

    async def _live(self) -> float | None:
        with anyio.fail_after(HANGS_S):
            state = await self._from_the_start()
            while state.outcome is None and not self._wrong:
                state = await self._go_on(state)
        self._world.finish()
        return state.finished_t

    async def _from_the_start(self) -> RunState:
        plan = self._stage.plan
        opened = e.Opened(
            run=RUN, run_kind="drill", plan=plan.model_dump(mode="json", by_alias=True), plan_hash=plan.hash,
            drkit=plan.drkit, catalog=plan.catalog, by=PERSON, host=socket.gethostname(), wall=VirtualClock().wall(),
            drill=True, policy=EVERYBODY,
        )  # fmt: skip
        try:
            return await self._drive(opened, e.Began(by=PERSON))
        except BaseExceptionGroup as group:
            _, other = group.split(Killed)
            if other is not None:
                raise
        resumed = e.Resumed(by=PERSON, host=socket.gethostname(), wall=VirtualClock().wall())
        return await self._drive(resumed)

    async def _drive(self, *facts: Fact) -> RunState:
        """A new process on the journal as it stands, until the run is over or rests."""
        plan, clock, secrets = self._stage.plan, VirtualClock(), Secrets()
        kept = list(self._store.read())
        inbox = SeededInbox(self._chance)
        for fact in facts:
            inbox.put(fact)
        providers = Providers(TWO_REGIONS, secrets, {World: self._world})
        executor = Executor(Scene(plan, self._stage.catalog, providers, secrets, clock, RUN, drill=True))
        driver = Driver(
            replay(kept) if kept else Run(plan), self._store, inbox, _Moments(executor, plan, self._trouble), clock,
            head=kept[-1].hash if kept else e.GENESIS, stay=False, in_thread=self._commit,
        )  # fmt: skip
        return await driver.run()

    async def _commit(self, work: Callable[[], None]) -> None:
        if self._trouble.lasts(Fault.DISK):
            await anyio.sleep(WRITE_S)
        work()

    # Where the run stops

    async def _go_on(self, state: RunState) -> RunState:
        """Do as the run says, once the fault is over."""
        blocks = state.blocks()
        self._wrong += judging.at_rest(state, self._world.parts)
        if not blocks:
            self._wrong.append("it stands still and names no next command")
        elif blocks[0].command in self._commands:
            self._wrong.append(f"{blocks[0].command} does not recover it: {blocks[0].reason}")
        if self._wrong:
            return state
        self._waits = self._waits or f"{blocks[0].step}: {blocks[0].reason}"
        await self._trouble.pass_by()
        order = await self._order(blocks[0].command)
        return state if order is None else await self._drive(order)

    async def _order(self, command: str) -> Fact | None:
        """What a person who types this command orders; None if it is nothing that goes on."""
        self._commands.append(command)
        _, verb, _, *rest = shlex.split(command)
        step = rest[0] if rest else None
        say = partial(e.Ordered, by=PERSON, step=step, reason="the fault is over")
        if verb == "inspect" and step is not None:
            seen = await self._inspected(step)
            if self._stage.plan.step(step).fences:
                seen = "not-done"  # a fence is never believed: it is looked at again
            self._commands.append(f"drkit resolve {RUN} {step} --as {seen}")
            return say(verb="resolve", args={"as": seen})
        if verb in ("retry", "resume"):
            return say(verb=verb)
        self._wrong.append(f"its next command, {command}, leads nowhere")
        return None

    async def _inspected(self, step: str) -> str:
        """What a person sees who looks until nothing is at work there any more."""
        while (seen := await self._world.look(step, probes=False)).running:
            await anyio.sleep(LATENCY_S)
        return "done" if seen.parts == WHOLE else "not-done"
