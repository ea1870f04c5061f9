"""Carry a run out in this process: compose journal, lease, orders, copy and driver, and run to the end.

How it ended is in `exit.json`; if the process is killed there is none, and `resume` goes on where the journal ends.
Composition only: who may what is in the fold, who holds what in the lease, what is durable in the journal.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from drkit.catalog import Catalog
from drkit.context import Providers, Secrets
from drkit.engine import outcome
from drkit.engine.clock import SystemClock
from drkit.engine.closing import ClosingInbox, attach
from drkit.engine.copy import Extent, JournalCopier, extent, hash_at, put_request, reconcile
from drkit.engine.driver import Driver
from drkit.engine.executor import Executor
from drkit.engine.guard import Guard
from drkit.engine.identity import hostname
from drkit.engine.inbox import ThreadInbox
from drkit.engine.journal import SqliteStore
from drkit.engine.lease import LONGEST_CALL_S, EnvironmentLease
from drkit.engine.news import Heard, heard
from drkit.engine.orders import OrderDesk, identity
from drkit.engine.runs import Request, RunFolder, Start
from drkit.engine.scene import Scene
from drkit.engine.state import RunState
from drkit.errors import DrkitError, Exit, JournalError, PreflightFailed, Refused
from drkit.model import events as e
from drkit.model.events import Fact, Row
from drkit.model.plan import Plan
from drkit.model.ports import Holder, Objects, Teller

_COPY_LEFT_S: Final = 5.0
_CLOSE_S: Final = 5.0
_TELL_LEFT_S: Final = 5.0


@dataclass(frozen=True)
class Means:
    """What a run is carried out with; it enters from above, because the engine knows no provider."""

    catalog: Catalog
    providers: Providers
    secrets: Secrets
    objects: Objects
    attach: Callable[[], Sequence[Fact]] = tuple
    """The readings that belong to the run, as they are now; called in a thread, when it begins and before it ends."""
    settle: Callable[[], None] = lambda: None
    """Waits (in a thread) until the readings can show the end: a recovery counts only after its window."""
    judge: Callable[[RunFolder, RunState], Exit | None] = lambda folder, state: None
    """After the end, in a thread: writes the report and says whether objectives were met (None: not its business)."""
    lever: Callable[[], str | None] = lambda: None
    """Why everything that was broken on purpose is to be healed now (asked in a thread); None: it is not."""
    papers: Mapping[str, bytes] = field(default_factory=dict)
    """Further objects to keep in the state store beside the request (`manual.md`)."""
    teller: Teller | None = None
    """Tells people what happens; None: nobody is told."""


async def carry_out(folder: RunFolder, means: Means, *, stay: bool = True) -> Exit:
    """Carry a run out, from its request or from where its journal ends; the exit code, also in `exit.json`.

    `stay`: while it is paused or waits for people, wait with it. DrkitError (Locked, Refused, JournalError, …) if it
    could not begin: this process has touched nothing, and `outcome.failure` tells others why.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with SqliteStore(folder.journal) as store:  # its lock: one runner a run
            run = _fold_of(store, folder)
            try:
                folder.claim()
                folder.end(None)
            except OSError as error:
                raise JournalError(
                    f"{folder.path} cannot be written: {error.strerror}", hint=f"df -h {folder.path}",
                    state="Nothing was changed.",
                ) from error  # fmt: skip
            try:
                return await _Runner(folder, means, stay, store, run).run()
            except DrkitError as error:
                outcome.could_not_begin(folder, error)
                raise
    finally:
        with anyio.CancelScope(shield=True), anyio.move_on_after(_CLOSE_S):
            await means.providers.aclose()


class _Runner:
    """One run in this process."""

    def __init__(self, folder: RunFolder, means: Means, stay: bool, store: SqliteStore, run: Heard) -> None:
        self.folder, self.means, self.stay, self.store, self.fold = folder, means, stay, store, run
        self.request, self.start = folder.request(), folder.take_start()
        self.clock = SystemClock()
        self.lease = EnvironmentLease(
            means.objects, _locked_name(self.request), self.clock, longest_call_s=_longest(run.state.plan)
        )
        self.driver: Driver | None = None
        self.inbox: ThreadInbox | None = None
        self.signalled: int | None = None

    async def run(self) -> Exit:
        teller = self.means.teller
        try:
            async with anyio.create_task_group() as telling:
                if teller is not None:
                    teller.begin(self.store.seq)
                    for notice in self.fold.news(lambda seq: hash_at(self.store, seq)):
                        teller.tell(notice)
                    telling.start_soon(self._tell, teller)
                await self._run()
                code = await self._end()
                # All is done and on disk. Of a run that can be resumed the next runner tells the rest.
                within_s = _TELL_LEFT_S if self.fold.state.outcome is not None else _TELL_LEFT_S / 5
                if teller is not None and (left := await teller.finish(within_s)) is not None:
                    self._say(f"not everybody was told: {left}")
                telling.cancel_scope.cancel()
        except ExceptionGroup as group:
            raise outcome.known(group) or group from group.exceptions[0]
        return code

    async def _tell(self, teller: Teller) -> None:
        try:
            await teller.run()
        except Exception as error:  # noqa: BLE001 - whatever it is, a run never ends over a message
            self._say(f"nobody is told any more: {type(error).__name__}: {error}")

    async def _run(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._signals, tasks)
            try:
                if self.fold.state.outcome is None:
                    await self._begin_and_carry()
                else:
                    await self._tidy_up()
            finally:
                await self._give_back()
            tasks.cancel_scope.cancel()

    async def _begin_and_carry(self) -> None:
        request, start, store = self.request, self.start, self.store
        copied = await self._first_contact()
        # What heals is never shut out by who healed before and is stuck, or dead: a revert may be sent twice.
        holder = await self.lease.acquire(
            request.run, drill=request.drill, take_over=bool(start and start.take_over), urgent=request.kind == "heal"
        )
        if store.seq:  # who held the lease until now may have gone on with this run
            copied = await anyio.to_thread.run_sync(self._known_copy)
        with ThreadInbox() as self.inbox:
            inbox = self.inbox
            for fact in self._beginning(holder):
                inbox.put(fact)
            copier = JournalCopier(
                self.means.objects, request.run, inbox, self.clock, token=holder.token, upto=copied.seq
            )
            copier.committed(list(store.read(copied.seq)))
            await self._carry(inbox, holder.token, copier)
            if not await copier.finish(_COPY_LEFT_S):
                self._say(f"the state store has events up to {copier.upto} only: {copier.trouble or 'it is slow'}")

    async def _tidy_up(self) -> None:
        """The run is over, and its runner was killed before it had copied everything and given back the lease.

        Whatever of that cannot be done now is said, and stops nobody from making the report.
        """
        run = self.request.run
        try:
            copied = await self._first_contact()
            with ThreadInbox() as inbox:
                token = self.fold.state.fencing_token  # under which the rows were written
                copier = JournalCopier(self.means.objects, run, inbox, self.clock, token=token, upto=copied.seq)
                copier.committed(list(self.store.read(copied.seq)))
                await copier.finish(_COPY_LEFT_S)
            await self.lease.acquire(run, drill=self.request.drill)
        except DrkitError as error:
            self._say(f"the state store was left as it is: {error.message}")

    async def _first_contact(self) -> Extent:
        """Make sure that the copy is this run's, and how far it goes. PreflightFailed if the store does not answer."""

        def look() -> Extent:
            first = put_request(self.means.objects, self.request)
            return Extent() if first else self._known_copy()

        try:
            return await anyio.to_thread.run_sync(look)
        except JournalError as error:
            raise PreflightFailed(
                f"the environment cannot be locked, so nothing may be started: {error.message}", hint=error.hint
            ) from error

    def _known_copy(self) -> Extent:
        """How far the copy goes. Refused if it tells another story than our journal."""
        found = extent(self.means.objects, self.request.run)
        reconcile(self.store, found)
        return found

    def _beginning(self, holder: Holder) -> list[Fact]:
        """The facts that begin or resume a run."""
        held = e.LeaseChanged(state="held", token=holder.token, lock_id=holder.lock_id)
        request, wall = self.request, self.clock.wall()
        if self.store.seq:
            by = self.start.by if self.start else identity(request.environment.people, os.getuid(), "runner")
            from_copy = bool(self.start and self.start.from_copy)
            resumed = e.Resumed(
                by=by, host=hostname(), wall=wall, fencing_token=holder.token, from_copy=from_copy
            )  # fmt: skip
            return [resumed, held, *_orders(self.start)]
        plan = request.plan
        opened = e.Opened(
            run=request.run, run_kind=request.kind, plan=plan.model_dump(mode="json", by_alias=True),
            plan_hash=plan.hash, drkit=plan.drkit, catalog=plan.catalog, by=request.by, host=hostname(), wall=wall,
            drill=request.drill, parent=request.parent, policy=request.policy, incident=request.incident,
        )  # fmt: skip
        began = e.Began(by=request.by, confirmed=request.confirmed, accepted_loss_s=request.accepted_loss_s)
        # Orders given with the command count before anything starts: the first step may be the one to leave out.
        return [opened, held, *_orders(self.start), began]

    async def _carry(self, inbox: ThreadInbox, token: int, copier: JournalCopier) -> None:
        """Until the run has ended, or rests and is not to be stayed with."""
        request, run = self.request, self.fold
        scene = Scene(
            run.state.plan, self.means.catalog, self.means.providers, self.means.secrets, self.clock, request.run,
            drill=request.drill, lease=self.lease, fencing_token=token,
        )  # fmt: skip
        executor = Executor(scene, log=self._say)
        desk = OrderDesk(self.folder, request.environment.people, inbox, trouble=lambda: driver.trouble)

        def saw(rows: Sequence[Row]) -> None:
            desk.saw(rows)
            if self.means.teller is not None:
                for notice in run.news(lambda seq: rows[seq - rows[0].seq].hash):
                    self.means.teller.tell(notice)
            if self.lease.holder is None and run.state.lease_lost:
                driver.leave()  # somebody else has it: going on takes a new acquisition, so a new runner

        async with anyio.create_task_group() as tasks:
            driver = self.driver = Driver(
                run, self.store, ClosingInbox(inbox, tasks, self.means), executor, self.clock, head=self.store.head,
                lease=self.lease, copier=copier, secrets=self.means.secrets, stay=self.stay,
                on_trouble=self._trouble, on_rows=saw,
            )  # fmt: skip
            await tasks.start(desk.serve)
            tasks.start_soon(desk.watch_spool)
            tasks.start_soon(copier.run)
            tasks.start_soon(attach, self.means, inbox)
            tasks.start_soon(self._file_papers)
            if request.drill and run.state.plan.injects:
                tasks.start_soon(Guard(scene, run.state, inbox.put, self.means.lever).run)
            await driver.run()
            desk.close(f"run {request.run} has ended" if run.state.outcome else "its runner ends; the run is paused")
            tasks.cancel_scope.cancel()

    async def _file_papers(self) -> None:
        def put() -> None:
            for name, data in self.means.papers.items():
                self.means.objects.put(f"runs/{self.request.run}/{name}", data)

        try:
            await anyio.to_thread.run_sync(put)
        except JournalError as error:
            self._say(f"{', '.join(self.means.papers)} could not be put into the state store: {error.message}")

    async def _signals(self, tasks: TaskGroup) -> None:
        """The first asks for a pause, and to leave when it is reached; the second leaves as a crash would."""
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for number in signals:
                name = signal.Signals(number).name
                if self.signalled is not None or self.driver is None or self.inbox is None:
                    self.signalled = number
                    self._say(f"{name}: leaving at once; what is under way is looked at on resume")
                    tasks.cancel_scope.cancel()
                    return
                self.signalled = number
                self._say(f"{name}: pausing")
                by = identity(self.request.environment.people, os.getuid(), f"signal {name}")
                self.inbox.put(e.Ordered(verb="pause", by=by, reason=name))
                self.driver.leave()

    async def _give_back(self) -> None:
        """A run that has ended, or never began, frees its environment; one that can be resumed keeps it."""
        if self.lease.holder is None or (self.fold.state.outcome is None and self.store.seq):
            return
        with anyio.CancelScope(shield=True):
            try:
                await self.lease.release()
            except JournalError as error:
                self._say(f"the lease was not given back and runs out by itself: {error.message}")

    async def _end(self) -> Exit:
        state, store = self.fold.state, self.store
        code = outcome.exit_of(state, self.signalled)
        if state.outcome is not None:
            judged = await anyio.to_thread.run_sync(self._judged, state)
            code = judged if judged is not None and code is Exit.DONE else code
        try:
            self.folder.end(outcome.ended(state, code, head=store.head, events=store.seq))
        except OSError as error:
            self._say(f"exit.json could not be written ({error.strerror}); the journal is complete")
        return code

    def _judged(self, state: RunState) -> Exit | None:
        try:
            return self.means.judge(self.folder, state)
        except Exception:  # noqa: BLE001 - the run is over and on disk; only its report could not be made
            self._say(f"the report could not be made; drkit report {state.run} tries again")
            self._say(traceback.format_exc())
            return None

    def _trouble(self, text: str | None) -> None:
        self._say("the journal can be written again" if text is None else f"nothing new is started: {text}")

    def _say(self, line: str) -> None:
        """Into the run's log (or the terminal, in the foreground), without any secret."""
        with suppress(OSError):  # the disk that is full for the journal is full for the log too
            print(self.means.secrets.redact(line), file=sys.stderr, flush=True)


def _locked_name(request: Request) -> str:
    """What the run locks: its environment, or, to heal what others broke there, only the healing."""
    name = request.environment.name
    return f"{name}.heal" if request.kind == "heal" else name


def _fold_of(store: SqliteStore, folder: RunFolder) -> Heard:
    """The fold as the journal leaves it, or a new one. Refused if the run has ended and nothing is left to do."""
    if store.seq == 0:
        return Heard(folder.request().plan)
    run = heard(store.read())
    if run.state.outcome is not None and folder.ended() is not None:
        raise Refused(
            f"run {folder.id} has ended ({run.state.outcome}): there is nothing to resume",
            hint=f"drkit report {folder.id}",
        )
    return run


def _orders(start: Start | None) -> list[Fact]:
    return [Fact.from_json({**order, "t": 0.0}) for order in start.orders] if start else []


def _longest(plan: Plan) -> float:
    """How long a call of this plan may last: what a rival waits for on top of the term."""
    return max([LONGEST_CALL_S, *(step.timeout_s for step in plan.steps if step.kind == "action")])
