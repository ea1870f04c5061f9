"""A small world, the actions that change it, and short ways to write plans and drive them, for tests of the engine.

The world outlives a crash of the engine, as real ones do. Fakes enter where providers enter.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import anyio

from drkit.catalog import Catalog, action, fault, probe
from drkit.context import Context, Provider, Providers, Secrets
from drkit.engine import gates
from drkit.engine.driver import Driver, in_place
from drkit.engine.executor import Executor
from drkit.engine.fold import Run, replay
from drkit.engine.memory import MemoryInbox, MemoryStore
from drkit.engine.scene import Scene
from drkit.engine.state import RunState
from drkit.errors import OutcomeUnknown, ShutOut, StepFailed, Unobservable, Unreachable
from drkit.model import events as e
from drkit.model import written
from drkit.model.environment import Environment, SecretRef, Site
from drkit.model.faults import Leased
from drkit.model.observation import Observation, State
from drkit.model.params import Params, Use
from drkit.model.plan import Plan, PlanStep
from drkit.model.ports import Clock, Copier, Lease
from drkit.model.values import Json, canonical

DANA: dict[str, Json] = {"name": "dana", "uid": 1001, "how": "unix socket peer", "roles": ["ic"]}
LEE: dict[str, Json] = {"name": "lee", "uid": 1002, "how": "unix socket peer", "roles": ["ic", "dba"]}
MAX: dict[str, Json] = {"name": "max", "uid": 1003, "how": "unix socket peer", "roles": []}

ENVIRONMENT = Environment(
    name="test",
    kind="sandbox",
    account="none",
    sites=(Site(name="east", kind="region"), Site(name="west", kind="region")),
    state_store="file:///nowhere",
)


class NoSecrets:
    """Knows one secret, to see that it is redacted."""

    def get(self, ref: SecretRef | str) -> str:
        return "hunter2"

    def redact(self, text: str) -> str:
        return text.replace("hunter2", "[redacted]")


@dataclass
class World(Provider):
    """Named values, who wrote them, and what goes wrong with the next call on a name."""

    values: dict[str, int] = field(default_factory=dict)
    writes: list[tuple[str, str]] = field(default_factory=list)
    """Name and token, in order, of every write that took effect."""
    seen_tokens: set[str] = field(default_factory=set)
    trouble: dict[str, list[str]] = field(default_factory=dict)
    """By name: what happens to coming calls, one word a call: refuse, shut, key, lose, lost-unsent, fail, hang, die."""
    blind: set[str] = field(default_factory=set)
    """Names that cannot be observed now."""
    locked: set[str] = field(default_factory=set)
    """Names that we are not let in to look at."""
    latency_s: float = 0.0

    @classmethod
    def connect(cls, environment: Environment, secrets: Secrets) -> Self:
        return cls()

    async def aclose(self) -> None:
        """Nothing to close."""

    async def write(self, name: str, value: int, token: str, *, once: bool = False) -> None:
        with written.writing(f"{name}={value}"):
            await self._write(name, value, token, once)

    async def _write(self, name: str, value: int, token: str, once: bool) -> None:
        await anyio.sleep(self.latency_s)
        words = self.trouble.get(name) or [""]
        word = words.pop(0)
        if word == "refuse":
            raise StepFailed("permission denied for hunter2", world=written.so_far().world, hint="grant it")
        if word == "fail":
            raise StepFailed("broke half way", world="changed")
        if word == "shut":
            raise Unreachable("nobody answers the door")
        if word == "key":
            raise ShutOut("the key does not fit", hint="cut another one")
        if word == "hang":
            await anyio.sleep_forever()
        if word == "lost-unsent":
            raise OutcomeUnknown("connection reset before it arrived")
        if not (once and token in self.seen_tokens):
            self.values[name] = value
            self.writes.append((name, token))
            self.seen_tokens.add(token)
        if word == "lose":
            raise ConnectionResetError("connection reset by peer")

    async def read(self, name: str) -> int | None:
        await anyio.sleep(self.latency_s / 2)
        if name in self.locked:
            raise ShutOut(f"{name} does not let us look")
        if name in self.blind:
            raise Unobservable(f"{name} does not answer")
        return self.values.get(name)

    def written(self) -> Counter[str]:
        return Counter(name for name, _ in self.writes)


class Named(Params):
    """A name in the world."""

    name: str
    """Which value."""


class Put(Named):
    """Set a named value."""

    to: int = 1
    """What it becomes."""


class Value(Observation):
    """What a name holds."""

    value: int | None = None


@probe("fake.value", side="neither")
async def value(ctx: Context, p: Named) -> Value:
    """What a name holds now."""
    return Value(value=await ctx.use(World).read(p.name), answered_by="world")


class Begins(Params):
    """How names begin."""

    prefix: str
    """Their first letters."""


class Names(Observation):
    """Names of the world."""

    names: list[str] = []


@probe("fake.names", side="neither")
async def names(ctx: Context, p: Begins) -> Names:
    """Which names there are."""
    world = ctx.use(World)
    return Names(names=sorted(name for name in world.values if name.startswith(p.prefix)), answered_by="world")


@action("fake.put", observe=value, repeat="safe", side="neither", poll_s=0.05)
async def put(ctx: Context, p: Put, before: Value) -> None:
    await ctx.use(World).write(p.name, p.to, ctx.token)


@put.check
def is_put(p: Put, now: Value) -> bool:
    return now.value == p.to


@put.undo
def put_back(p: Put, before: Value, after: Value | None) -> Use | None:
    return Use(uses="fake.put", params={"name": p.name, "to": before.value or 0})


@action("fake.put-once", observe=value, repeat="token", side="neither", poll_s=0.05)
async def put_once(ctx: Context, p: Put, before: Value) -> None:
    await ctx.use(World).write(p.name, p.to, ctx.token, once=True)


put_once.check(is_put)
put_once.undo(put_back)


@action("fake.put-ask", observe=value, repeat="ask", side="neither", poll_s=0.05)
async def put_ask(ctx: Context, p: Put, before: Value) -> None:
    await ctx.use(World).write(p.name, p.to, ctx.token)


put_ask.check(is_put)
put_ask.undo(put_back)


@action("fake.put-both", observe=value, repeat="ask", side="neither", poll_s=0.05)
async def put_both(ctx: Context, p: Put, before: Value) -> None:
    """Set `first` at once with one that is called beside it, and then a named value."""
    async with anyio.create_task_group() as group:
        for name in ("first", "beside"):
            group.start_soon(ctx.use(World).write, name, p.to, ctx.token)
    await ctx.use(World).write(p.name, p.to, ctx.token)


put_both.check(is_put)
put_both.undo(put_back)


@action("fake.put-slow", observe=value, repeat="safe", side="neither", poll_s=0.05, settle_s=3.0)
async def put_slow(ctx: Context, p: Put, before: Value) -> None:
    """Set a named value; it may take three seconds to show."""
    await ctx.use(World).write(p.name, p.to, ctx.token)


put_slow.check(is_put)
put_slow.undo(put_back)


@action("fake.final", observe=value, repeat="safe", irreversible="nothing takes it back", side="neither", poll_s=0.05)
async def final(ctx: Context, p: Put, before: Value) -> None:
    await ctx.use(World).write(p.name, p.to, ctx.token)


final.check(is_put)


@action("fake.fence", observe=value, repeat="safe", fences=True, unfenced=False, side="neither", poll_s=0.05)
async def fence(ctx: Context, p: Put, before: Value) -> None:
    await ctx.use(World).write(p.name, p.to, ctx.token)


fence.check(is_put)
fence.undo(put_back)


class Break(Named, Leased):
    """Break a named value."""


@fault("fake.break", observe=value, lease="the world itself", side="neither", poll_s=0.05)
async def break_it(ctx: Context, p: Break, before: Value) -> None:
    """Set a named value to what it should not be."""
    await ctx.use(World).write(p.name, -1, ctx.token)


@break_it.check
def is_broken(p: Break, now: Value) -> State:
    return State.HOLDS if now.value == -1 else State.IN_PROGRESS if now.value else State.ABSENT


@break_it.healed_by
async def mend(ctx: Context, p: Break, before: Value) -> None:
    await ctx.use(World).write(p.name, 0, ctx.token)


def catalog() -> Catalog:
    return Catalog(["engine_fakes"])


def step(id: str, *needs: str, uses: str = "fake.put", **more: Any) -> PlanStep:
    """A step whose parameters are its own name, unless `params` says otherwise."""
    kind = "gate" if uses.startswith("gate.") else "probe" if uses == "fake.value" else "action"
    defaults: dict[str, Any] = {"params": {} if kind == "gate" else {"name": id}, "timeout_s": 1.0, "poll_s": 0.05}
    if kind == "action":
        entry = catalog().entry(uses)
        defaults |= {key: getattr(entry, key) for key in ("repeat", "irreversible", "fences", "skippable")}
    return PlanStep(**(defaults | {"id": id, "number": 1, "uses": uses, "kind": kind, "needs": needs} | more))


def gate(id: str, *needs: str, role: str = "ic", **params: Any) -> PlanStep:
    return step(id, *needs, uses="gate.approve", params={"role": role, **params})


def plan(*steps: PlanStep, **more: Any) -> Plan:
    numbered = tuple(s.model_copy(update={"number": number}) for number, s in enumerate(steps, 1))
    return Plan.model_validate(
        {
            "schema": "drkit.plan/1", "runbook": "test", "runbook_digest": "sha256:0", "environment": "test",
            "environment_kind": "sandbox", "account": "none", "source": "east", "target": "west", "steps": numbered,
            "catalog": "sha256:0", "drkit": "0", **more,
        }
    )  # fmt: skip


def opened(plan: Plan, run: str = "k7qd", **more: Any) -> e.Opened:
    return e.Opened(
        run=run, run_kind="run", plan=plan.model_dump(mode="json", by_alias=True), plan_hash=plan.hash, drkit="0",
        catalog="sha256:0", by=DANA, host="here", wall=1_000_000.0, **more,
    )  # fmt: skip


def began() -> e.Began:
    return e.Began(by=DANA)


class LoopClock:
    """The event loop's own clock: virtual under trio's MockClock."""

    def monotonic(self) -> float:
        return anyio.current_time()

    def wall(self) -> float:
        return 1_000_000.0 + anyio.current_time()

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)


@dataclass
class Engine:
    """The real driver, executor and fold on an in-memory journal, with a world to change."""

    plan: Plan
    world: World = field(default_factory=World)
    store: MemoryStore = field(default_factory=MemoryStore)
    inbox: MemoryInbox = field(default_factory=MemoryInbox)
    lease: Lease | None = None
    copier: Copier | None = None
    clock: Clock = field(default_factory=LoopClock)
    threads: bool = False
    catalog: Catalog = field(default_factory=catalog)
    troubles: list[str | None] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    def driver(self, *, stay: bool = False) -> Driver:
        """A driver for what the journal holds so far."""
        rows = list(self.store.read())
        run = replay(rows) if rows else Run(self.plan)
        providers = Providers(ENVIRONMENT, NoSecrets(), {World: self.world})
        scene = Scene(self.plan, self.catalog, providers, NoSecrets(), self.clock, "k7qd", lease=self.lease)
        executor = Executor(scene, log=self.log.append)
        return Driver(
            run, self.store, self.inbox, executor, self.clock, head=rows[-1].hash if rows else e.GENESIS,
            lease=self.lease, copier=self.copier, secrets=NoSecrets(), stay=stay,
            in_thread=anyio.to_thread.run_sync if self.threads else in_place, on_trouble=self.troubles.append,
        )  # fmt: skip

    async def start(self, **more: Any) -> RunState:
        """Open, begin, and go on until the run has ended or rests."""
        self.inbox.put(opened(self.plan, **more))
        self.inbox.put(began())
        return await self.driver().run()

    async def resume(self, **more: Any) -> RunState:
        """As a new process would: from the journal alone."""
        self.inbox = MemoryInbox()
        if not len(self.store):
            return await self.start()
        self.inbox.put(e.Resumed(by=DANA, host="here", wall=self.clock.wall(), **more))
        if replay(self.store.read()).state.began_t is None:
            self.inbox.put(began())
        return await self.driver().run()

    async def order(self, *facts: e.Fact) -> RunState:
        """What people say to a run that rests."""
        for fact in facts:
            self.inbox.put(fact)
        return await self.driver().run()

    def facts(self, kind: type[e.Fact]) -> list[Any]:
        return [row.fact for row in self.store.read() if isinstance(row.fact, kind)]


def approve(state: RunState, step: str, by: Mapping[str, Json], answer: str = "approve", **more: Any) -> e.Answered:
    """An answer to what `step` shows now."""
    ask = state.steps[step].ask
    assert ask is not None and ask.shown_hash is not None
    return e.Answered(
        step=step, answer=answer, by=dict(by), role=more.get("role", "ic"), reason="looks right",
        plan_hash=more.get("plan_hash", state.plan_hash), shown_hash=more.get("shown_hash", ask.shown_hash),
    )  # fmt: skip


def order(
    verb: str, step: str | None = None, by: Mapping[str, Json] = DANA, *, as_: str | None = None, **args: Json
) -> e.Ordered:  # fmt: skip
    if as_ is not None:
        args["as"] = as_
    return e.Ordered(verb=verb, step=step, by=dict(by), reason="because", args=args)


LOOK: dict[str, Json] = {"at": "2026-01-01T00:00:00.000Z", "origin": "here", "value": {"value": 1}}


class Folding:
    """The fold alone, with the facts a worker would report said by the test."""

    def __init__(
        self, *steps: PlanStep, begin: bool = True, deadline_s: float | None = None,
        scopes: Mapping[str, Any] | None = None, parameters: dict[str, Json] | None = None, **more: Any,
    ) -> None:  # fmt: skip
        self.plan = plan(*steps, deadline_s=deadline_s, scopes=scopes or {}, parameters=parameters or {})
        self.run = Run(self.plan)
        self.facts: list[e.Fact] = []
        self.t = 0.0
        self.copies = True
        self.take(opened(self.plan, **more))
        self.first = self.take(began()) if begin else []

    @property
    def state(self) -> RunState:
        return self.run.state

    def commands(self, fact: e.Fact) -> tuple[e.Command, ...]:
        """Each through JSON, as in a journal."""
        fact = e.Fact.from_json(json.loads(canonical(fact.to_json())) | {"t": self.t})
        self.facts.append(fact)
        return tuple(e.Command.from_json(json.loads(canonical(c.to_json()))) for c in self.run.take(fact))

    def take(self, fact: e.Fact) -> list[str]:
        """`verb step` of each command it causes. If `copies`, a rollback is in the state store at once."""
        commands = list(self.commands(fact))
        if self.copies and commands and (commands[-1].verb, commands[-1].step) == ("copy", None):
            commands[-1:] = self.commands(e.Copied(upto=self.state.seq))
        return [f"{c.verb} {c.step}" if c.step else c.verb for c in commands]

    def attempt(self, step: str) -> int:
        return self.state.steps[step].attempt

    def prepared(self, step: str, undo: dict[str, Json] | None = None) -> list[str]:
        params: dict[str, Json] = {"name": step, "to": 1}
        return self.take(e.Prepared(step=step, attempt=self.attempt(step), params=params, before=LOOK, undo=undo))

    def done(self, step: str, **more: Any) -> list[str]:
        return self.take(e.Done(step=step, attempt=self.attempt(step), after=LOOK, **more))

    def whole(self, step: str, undo: dict[str, Json] | None = None) -> list[str]:
        """Intent and result."""
        self.prepared(step, undo)
        return self.done(step, undo=undo)

    def failed(self, step: str, world: str = "unknown") -> list[str]:
        return self.take(e.Failed(step=step, attempt=self.attempt(step), error="broke", world=world))

    def absent(self, step: str) -> list[str]:
        return self.take(e.NotDone(step=step, attempt=self.attempt(step), seen=LOOK))

    def uncertain(self, step: str) -> list[str]:
        return self.take(e.Uncertain(step=step, attempt=self.attempt(step), reason="no answer", seen=None))

    def asked(self, step: str) -> list[str]:
        """The question is put, as the executor would."""
        ask = self.state.steps[step].ask
        assert ask is not None
        command = next(c for c in reversed(self._all_commands()) if c.verb == "ask" and c.step == step)
        shown = command.args["shown"]
        assert isinstance(shown, dict)
        hash = gates.shown_hash(self.plan.hash, step, ask.purpose, shown)
        return self.take(e.Asked(step=step, shown=shown, shown_hash=hash, purpose=ask.purpose))

    def _all_commands(self) -> list[e.Command]:
        run = Run(self.plan)
        return [command for fact in self.facts for command in run.take(fact)]

    def answered(self, step: str, by: Mapping[str, Json], answer: str = "approve", **more: Any) -> list[str]:
        return self.take(approve(self.state, step, by, answer, **more))

    def resumed(self, **more: Any) -> list[str]:
        return self.take(e.Resumed(by=DANA, host="there", wall=2_000_000.0, **more))

    def status(self, step: str) -> str:
        return str(self.state.steps[step].status)
