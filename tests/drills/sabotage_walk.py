"""Carry out rows of the sabotage table in one world: one step at a time, with the real engine and the real providers.

The runbook is walked in its own order. Before a step's rows, everything it needs is done for real; each row then gets a
run of its own in which those steps are taken as they were found, the row's step is carried out, and the steps that
wait for it must be left waiting. At last the step is done for real, with nothing broken: so a row that was refused for
some other reason than its own does not pass for noticed.
"""

from __future__ import annotations

import copy
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal
from sabotage_hands import SOURCE, TARGET, Hands
from sabotage_rows import Reply, Row

from drkit.catalog import Action, Catalog, Entry
from drkit.context import Context, Providers
from drkit.engine.clock import SystemClock
from drkit.engine.driver import CarriesOut, Driver, in_place
from drkit.engine.executor import Executor, Report
from drkit.engine.fold import Run
from drkit.engine.memory import MemoryInbox, MemoryStore
from drkit.engine.scene import Scene
from drkit.engine.state import RunState, Status
from drkit.model import events as e
from drkit.model.environment import Environment
from drkit.model.events import Command
from drkit.model.events import Row as Event
from drkit.model.plan import Plan, PlanStep
from drkit.model.values import Json
from drkit.plan.files import load_runbook
from drkit.plan.resolve import resolve
from drkit.providers.routing import Routing
from drkit.providers.secrets import Secrets
from drkit.providers.ssh import Ssh
from drkit.sandbox import world

RUNBOOK = Path(__file__).resolve().parents[2] / "runbooks" / "reliabletech.yaml"
#: From this step on the source region is dark; before, it is cut off from users and its cloud does not answer, so that
#: what is done to it can be seen to be done.
DARK_FROM = "network"
RUN_WITHIN_S = 180.0
ALL_AGREE: dict[str, Json] = {"name": "sabotage table", "*": "approve"}
ME: dict[str, Json] = {"name": "tester", "uid": None, "how": "runner"}


@dataclass(frozen=True)
class Outcome:
    """How a row ended."""

    step: str
    what: str
    status: str
    said: str
    """Why the step did not end done, as an operator is told; empty if it did."""
    complaint: str | None
    """What is wrong with that; None: the sabotage was noticed, and told as it should be."""
    seconds: float


@dataclass(frozen=True)
class Past:
    """A step that was done for real in this world: its parameters, and what was seen at the end."""

    kind: str
    params: dict[str, Json]
    seen: dict[str, Json] | None


class Idle(Catalog):
    """The catalog, but one action's effect is a no-op: it is called, and sends nothing."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._idle = name

    def find(self, name: str) -> Entry | None:
        entry = super().find(name)
        if name != self._idle:
            return entry
        assert isinstance(entry, Action), f"{name} is not an action: it has no effect that could be left out"
        idle = copy.copy(entry)
        idle.apply = _nothing
        return idle


async def _nothing(ctx: Context, params: Any, before: Any) -> None:
    """Send nothing."""


@dataclass
class Only:
    """Carries out some steps for real; of the others, those that are past are as they were, and the rest wait."""

    executor: CarriesOut
    steps: frozenset[str]
    past: Mapping[str, Past]

    async def carry_out(self, command: Command, report: Report) -> None:
        """Report what is known, or carry it out."""
        step = command.step or ""
        attempt = command.args.get("attempt")
        number = attempt if isinstance(attempt, int) else 1
        if step in self.steps:
            await self.executor.carry_out(command, report)
        elif (past := self.past.get(step)) is None:
            report(e.Failed(step=step, attempt=number, error=NOT_MEANT, world="untouched"))
        elif past.kind == "probe":
            report(e.Done(step=step, attempt=number, after=past.seen, params=past.params))
        else:
            report(e.AlreadySo(step=step, params=past.params, seen=past.seen or {}))


NOT_MEANT = "it was reached, although the step before it was sabotaged"


@dataclass
class Walk:
    """A world on its way through the runbook. `fencing_token`: what its runs hold the environment with."""

    folder: Path
    environment: Environment
    portal: BlockingPortal
    providers: Providers
    secrets: Secrets
    plan: Plan
    fencing_token: int = 1
    past: dict[str, Past] = field(default_factory=dict)
    source: str = "well"
    runs: int = 0

    def __post_init__(self) -> None:
        ssh, routing, call = self.providers.use(Ssh), self.providers.use(Routing), self.portal.call
        self.hands = Hands(
            self.folder, self.environment, lambda host, argv: call(ssh.run, host, argv).output,
            lambda wanted: call(partial(routing.set, wanted, last=SOURCE)),
        )  # fmt: skip

    # What is asked of it

    def row(self, step: str, row: Row) -> Outcome:
        """Sabotage a step and see what comes of it."""
        self.prepare(step, well=row.world_well)
        started = time.monotonic()
        try:
            catalog = Idle(self.plan.step(step).uses) if row.idle else Catalog()
            with row.how(self.hands) if row.how else nullcontext():
                state = self._run(self._around(step, row.within_s), {step}, catalog=catalog, replies=row.replies)
        finally:
            self.hands.environment = self.environment
        said, status = _said(state, step), state.steps[step].status
        return Outcome(step, row.what, status, said, _complaint(state, step, row), time.monotonic() - started)

    def for_real(self, step: str) -> Outcome:
        """Do a step with nothing broken: it must end done, or its rows prove nothing."""
        self.prepare(step)
        started = time.monotonic()
        state = self._do({step})
        ended = state.steps[step]
        complaint = None if ended.status is Status.DONE else f"nothing is broken, and it ends {ended.status}"
        return Outcome(step, FOR_REAL, ended.status, _said(state, step), complaint, time.monotonic() - started)

    def prepare(self, step: str, *, well: bool = False) -> None:
        """Bring the world to where the step's turn has come: all that it needs is done."""
        numbers = {each.id: each.number for each in self.plan.steps}
        if self.source == "long gone":
            return
        if well:
            assert self.source == "well", "the source region is not well any more: this row comes before all others"
            return
        self._strike("dark" if numbers[step] >= numbers[DARK_FROM] else "cut off")
        missing = self._ancestors(step) - set(self.past)
        if missing:
            state = self._do(missing)
            failed = [f"{id}: {_said(state, id)}" for id in missing if id not in self.past]
            assert not failed, f"what {step} needs cannot be done: {'; '.join(sorted(failed))}"

    # The world

    def _strike(self, how: str) -> None:
        """Let the source region be cut off from its users, or dark; never better than it is."""
        stages = ["well", "cut off", "dark"]
        while stages.index(self.source) < stages.index(how):
            if self.source == "well":
                self.hands.endpoint(SOURCE, "refuse")
                self.hands.control(f"/links/users-{SOURCE}", {"cut": True})
            else:
                self.hands.control("/outage", {"region": SOURCE})
            self.source = stages[stages.index(self.source) + 1]

    # Runs

    def _do(self, steps: set[str]) -> RunState:
        """Carry steps out for real and remember what they found."""
        state = self._run(
            self.plan.but(steps=tuple(self._picked({*steps, *self._known(steps)}))), steps, policy=ALL_AGREE
        )
        for id in steps:
            ended = state.steps[id]
            if ended.status in (Status.DONE, Status.SKIPPED):
                self.past[id] = Past(ended.plan.kind, ended.params or {}, ended.after)
        return state

    def _around(self, step: str, within_s: float) -> Plan:
        """The part of the plan that a row needs: what is past, the step in a hurry, and those that wait for it."""
        picked = {each.id: each for each in self._picked({step, *self._known({step})})}
        picked[step] = picked[step].model_copy(update={"timeout_s": within_s, "retry": None})
        waiting = {
            each.id: each.model_copy(update={"needs": (step,)}) for each in self.plan.steps if step in each.needs
        }
        return self.plan.but(steps=tuple((picked | waiting).values()))

    def _picked(self, ids: set[str]) -> Iterator[PlanStep]:
        """These steps of the plan; each needs all of them that it needed in the whole plan, however indirectly."""
        for each in self.plan.steps:
            if each.id in ids:
                behind = self._ancestors(each.id) & ids
                yield each.model_copy(update={"needs": tuple(sorted(behind))})

    def _known(self, steps: set[str]) -> set[str]:
        """What these steps need and is past; gates leave nothing that anybody refers to."""
        found = {id for step in steps for id in self._ancestors(step)} - steps
        return {id for id in found if id in self.past and self.past[id].kind != "gate"}

    def _ancestors(self, step: str) -> set[str]:
        found: set[str] = set()
        waiting = list(self.plan.step(step).needs)
        while waiting:
            id = waiting.pop()
            if id not in found:
                found.add(id)
                waiting += self.plan.step(id).needs
        return found

    def _run(
        self, plan: Plan, steps: set[str], *, catalog: Catalog | None = None, replies: Sequence[Reply] = (),
        policy: dict[str, Json] | None = None,
    ) -> RunState:  # fmt: skip
        self.runs += 1
        name = f"sabotage-{self.runs}"
        return self.portal.call(self._carry_out, name, plan, frozenset(steps), catalog or Catalog(), replies, policy)

    async def _carry_out(
        self, name: str, plan: Plan, steps: frozenset[str], catalog: Catalog, replies: Sequence[Reply],
        policy: dict[str, Json] | None,
    ) -> RunState:  # fmt: skip
        lied_to = self.hands.environment is not self.environment
        providers = Providers(self.hands.environment, self.secrets) if lied_to else self.providers
        clock, inbox = SystemClock(), MemoryInbox()
        scene = Scene(plan, catalog, providers, self.secrets, clock, name, drill=True, fencing_token=self.fencing_token)
        executor = Executor(scene)

        def answer(rows: Sequence[Event]) -> None:
            for asked in (row.fact for row in rows if isinstance(row.fact, e.Asked)):
                for reply in replies:
                    inbox.put(_answer(asked, reply, plan))

        driver = Driver(
            Run(plan), MemoryStore(), inbox, Only(executor, steps, self.past), clock, stay=False, in_thread=in_place,
            on_rows=answer,
        )  # fmt: skip
        opened = e.Opened(
            run=name, run_kind="drill", plan=plan.model_dump(mode="json", by_alias=True), plan_hash=plan.hash,
            drkit=plan.drkit, catalog=plan.catalog, by=ME, host="here", wall=clock.wall(), drill=True, policy=policy,
        )  # fmt: skip
        inbox.put(opened)
        inbox.put(e.Began(by=ME))
        try:
            with anyio.fail_after(RUN_WITHIN_S):
                return await driver.run()
        finally:
            if lied_to:
                await providers.aclose()


FOR_REAL = "nothing is broken"


def _answer(asked: e.Asked, reply: Reply, plan: Plan) -> e.Answered:
    by: dict[str, Json] = {"name": reply.person, "uid": sum(reply.person.encode()), "how": "unix socket peer"}
    return e.Answered(
        step=asked.step, answer=reply.answer, by=by, role=reply.role, reason="sabotage table", plan_hash=plan.hash,
        shown_hash=asked.shown_hash,
    )  # fmt: skip


def _said(state: RunState, step: str) -> str:
    """Why the run does not go on, as far as it is this step's doing."""
    return "; ".join(block.reason for block in state.blocks() if block.step == step)


def _complaint(state: RunState, step: str, row: Row) -> str | None:
    ended = state.steps[step]
    if row.cannot:
        return None if ended.status is Status.DONE else f"it is noticed now ({_said(state, step)}): correct its row"
    if ended.status in (Status.DONE, Status.SKIPPED):
        return f"not noticed: it ends {ended.status}"
    if state.outcome is not None:
        return f"the run ends {state.outcome}"
    blocked = {str(block.step) for block in state.blocks()}
    if blocked != {step}:
        return f"not {step} alone is named, but {', '.join(sorted(blocked)) or 'nothing'}"
    reached = [each.id for each in state.steps.values() if each.error == NOT_MEANT]
    if reached:
        return f"{', '.join(reached)} went on all the same"
    said = _said(state, step)
    if not re.search(row.says, said):
        return f"what it says does not name what is broken ({row.says}): {said}"
    return None


@contextmanager
def walk(folder: Path, *, recovered: bool = False) -> Iterator[Walk]:
    """Begin a walk in the world that is up in `folder`.

    `recovered`: in that world the whole runbook has been carried out already, so nothing has to be done before a row;
    rows then begin with nothing known of the steps before theirs.
    """
    environment = world.load(folder)
    plan = resolve(load_runbook(RUNBOOK), environment, Catalog(), source=SOURCE, target=TARGET)
    with start_blocking_portal() as portal:
        secrets = Secrets(environment)
        providers = Providers(environment, secrets)
        going = Walk(folder, environment, portal, providers, secrets, plan)
        if recovered:
            going.source, going.fencing_token = "long gone", 1000  # newer than whoever recovered it
        try:
            yield going
        finally:
            portal.call(providers.aclose)
