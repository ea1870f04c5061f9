"""One process that carries the run: the composition of `engine.runner`, of parts that have no threads and no files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import anyio

from drkit.context import Providers
from drkit.engine.copy import JournalCopier, extent, restore
from drkit.engine.driver import Driver
from drkit.engine.executor import Executor, Report
from drkit.engine.fold import Run, replay
from drkit.engine.identity import ProcessId
from drkit.engine.lease import EnvironmentLease
from drkit.engine.scene import Scene
from drkit.engine.simulated import JsonExecutor
from drkit.errors import JournalError, Locked, UsageError
from drkit.model import events as e
from drkit.model.environment import Environment, SecretRef, Site
from drkit.model.events import Command, Fact, Row
from drkit.model.ports import Holder
from simulation.actions import catalog
from simulation.bucket import Door
from simulation.machines import PROCESS, Disk, Killed, MachineClock, Process, ProcessInbox
from simulation.people import DANA
from simulation.world import SECRET, Link, World

if TYPE_CHECKING:
    from simulation.history import History

RUN = "k7qd"
LONGEST_CALL_S = 15.0
ENVIRONMENT = Environment(
    name="test", kind="sandbox", account="none", state_store="file:///nowhere",
    sites=(Site(name="east", kind="region"), Site(name="west", kind="region")),
)  # fmt: skip


class OneSecret:
    """Nobody asks for it, and some errors quote it."""

    def get(self, ref: SecretRef | str) -> str:
        raise AssertionError("nobody asks for secrets here")

    def redact(self, text: str) -> str:
        return text.replace(SECRET, "[redacted]")


class Hands(JsonExecutor):
    """Whoever carries out what a process wants, and may be stopped just then."""

    def __init__(self, executor: Executor, process: Process, world: World) -> None:
        super().__init__(executor)
        self._process, self._world = process, world

    async def carry_out(self, command: Command, report: Report) -> None:
        if command.verb == "apply":
            await self._process.about_to_apply()
        await super().carry_out(command, report if command.args.get("once") else self._noting(command, report))

    def _noting(self, command: Command, report: Report) -> Report:
        """Whoever looks just `once` lets a person judge, and nothing follows from what is said without the lease."""

        def note(fact: Fact) -> None:
            absent = isinstance(fact, e.Failed) and fact.world == "unknown" and fact.seen is not None
            heard = not self._process.gone and self._process.lease_s() > 0
            if command.step is not None and (absent or isinstance(fact, e.NotDone)) and heard:
                self._world.note_absence(command.step)
            report(fact)

        return note


class Runner:
    """`live` until the run has ended, the lease is lost, or the process dies."""

    def __init__(self, history: History, process: Process, *, elsewhere: bool = False, waits: bool = False) -> None:
        """`elsewhere`: goes on from the state store; `waits`: for the lease, until its holder is silent."""
        self._history, self.process, self._elsewhere, self._waits = history, process, elsewhere, waits
        self._clock = MachineClock(process)
        self._objects = Door(history.bucket, process, history.trouble)
        self._in_thread = process.in_thread(history.trouble)
        self.carries = not elsewhere
        """It is this process that goes on with the run."""
        self.locked = False
        """Somebody else holds the lease."""
        self.inbox: ProcessInbox | None = None
        self.driver: Driver | None = None

    @property
    def over(self) -> bool:
        """Whether the run's end is in its journal."""
        return self.driver is not None and self.driver.state.outcome is not None and self.process.machine.disk.ended

    async def live(self) -> None:
        """All of its life."""
        PROCESS.set(self.process)
        disk = self.process.machine.disk
        with self.process.scope:
            try:
                await self._live()
            except BaseExceptionGroup as group:
                _, other = group.split((Killed, JournalError))
                if other is not None:
                    raise other from None
            except Locked:
                self.locked = True
            except (Killed, JournalError, UsageError):  # UsageError: nothing was copied yet
                pass
        if self.process.dead:
            disk.crash()
        self.process.ended = True

    async def _live(self) -> None:
        process, history = self.process, self._history
        lease = EnvironmentLease(
            self._objects, ENVIRONMENT.name, self._clock, longest_call_s=LONGEST_CALL_S, who="dana",
            host=process.machine.name, process=ProcessId(process.number, 1, process.machine.name),
            in_thread=self._in_thread, is_dead=lambda one: history.is_dead(one, seen_from=process.machine.name),
            new_lock_id=lambda: f"lock{process.number}",
        )  # fmt: skip
        if self._elsewhere:
            rows = await self._in_thread(lambda: restore(self._objects, RUN))
        holder = await lease.acquire(RUN, drill=False, take_over=self._elsewhere or self._waits)
        process.lease = lease
        history.acquired.append((anyio.current_time(), process))
        history.look_at_leases()
        upto = (await self._in_thread(lambda: extent(self._objects, RUN))).seq
        if self._elsewhere:
            if upto != rows[-1].seq or isinstance(rows[-1].fact, e.Finished):
                return await lease.release()  # it went on meanwhile
            process.machine.disk = process.disk = Disk(process.machine)
            process.disk.append(rows)
        process.disk.process = process
        self.carries = True
        await self._carry(lease, holder, upto)
        return None

    async def _carry(self, lease: EnvironmentLease, holder: Holder, upto: int) -> None:
        process, history, disk = self.process, self._history, self.process.disk
        rows = list(disk.read())
        run = replay(rows) if rows else Run(history.plan)
        self.inbox = inbox = ProcessInbox(history.chance({}), process)
        copier = JournalCopier(
            self._objects, RUN, inbox, self._clock, token=holder.token, upto=upto, in_thread=self._in_thread
        )
        copier.committed(rows[upto:])
        secrets = OneSecret()
        scene = Scene(
            history.plan, catalog(), Providers(ENVIRONMENT, secrets, {Link: Link(history.world, process)}),
            secrets, self._clock, RUN, lease=lease, fencing_token=holder.token,
        )  # fmt: skip
        executor = Executor(scene)

        def saw(rows: Sequence[Row]) -> None:
            history.look_at_leases()
            if lease.holder is None and run.state.lease_lost:
                driver.leave()

        for fact in self._beginning(rows, holder):
            inbox.put(fact)
        async with anyio.create_task_group() as tasks:
            driver = self.driver = Driver(
                run, disk, inbox, Hands(executor, process, history.world), self._clock,
                head=rows[-1].hash if rows else e.GENESIS, lease=lease, copier=copier, secrets=secrets,
                in_thread=process.commit, on_rows=saw,
            )  # fmt: skip
            tasks.start_soon(copier.run)
            await driver.run()
            tasks.cancel_scope.cancel()
        if run.state.outcome is not None:
            await copier.finish(5.0)
            await lease.release()

    def _beginning(self, rows: Sequence[Row], holder: Holder) -> list[Fact]:
        held = e.LeaseChanged(state="held", token=holder.token, lock_id=holder.lock_id)
        history, wall = self._history, self._clock.wall()
        if rows:
            resumed = e.Resumed(
                by=DANA, host=self.process.machine.name, wall=wall, fencing_token=holder.token,
                from_copy=self._elsewhere,
            )  # fmt: skip
            began = any(isinstance(row.fact, e.Began) for row in rows)
            return [resumed, held] + [e.Began(by=DANA)] * (not began)
        plan = history.plan
        opened = e.Opened(
            run=RUN, run_kind="run", plan=plan.model_dump(mode="json", by_alias=True), plan_hash=plan.hash, drkit="0",
            catalog="sha256:0", by=DANA, host=self.process.machine.name, wall=wall, policy=history.policy,
        )  # fmt: skip
        return [opened, held, e.Began(by=DANA)]
