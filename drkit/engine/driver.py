"""Carry a run out: one task owns journal and fold, everything else reports to it.

The loop is: drain the inbox, fold, one commit, then (and only then) start what the fold asked for. Whoever works for
the run only puts facts into the inbox, which cannot be cancelled; so what was done is reported even by a task that is
being stopped, and no event is written twice. A commit that fails starts nothing: its rows are kept and offered again
until there is room.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol

import anyio
import anyio.lowlevel
import anyio.to_thread
from anyio.abc import TaskGroup

from drkit.context import Secrets
from drkit.engine.clock import RunClock
from drkit.engine.crew import Crew
from drkit.engine.executor import Report
from drkit.engine.fold import Run
from drkit.engine.redaction import redacted
from drkit.engine.refusals import why_not
from drkit.engine.state import RunState
from drkit.errors import JournalError, Locked
from drkit.model import events as e
from drkit.model.events import GENESIS, Command, Fact, Row
from drkit.model.ports import Clock, Copier, Inbox, Lease, Store
from drkit.model.values import utc

RENEW_S = 2.0
"""How often the lease is renewed."""
COMMIT_RETRY_S = 1.0
"""How long to wait before a commit that failed is tried again."""


InThread = Callable[[Callable[[], None]], Awaitable[None]]


async def in_place(work: Callable[[], None]) -> None:
    """Do it here and now: for tests that need no thread."""
    work()


class CarriesOut(Protocol):
    """Does what a command says and reports what happened; `Executor`, or one that wraps it."""

    async def carry_out(self, command: Command, report: Report) -> None:
        """Report facts; raise nothing but cancellation."""


class Driver:
    """Carries out one run. `await run()` returns when the run has ended, or when `leave` was called and it rests.

    The first facts (Opened, Began; or Resumed) are put into the inbox by whoever starts it. `head` is the hash of the
    journal's last row. `on_trouble` is told when the journal cannot be written, and with None when it can again.
    """

    def __init__(
        self,
        run: Run,
        store: Store,
        inbox: Inbox,
        executor: CarriesOut,
        clock: Clock,
        *,
        head: str = GENESIS,
        lease: Lease | None = None,
        copier: Copier | None = None,
        secrets: Secrets | None = None,
        stay: bool = True,
        in_thread: InThread = anyio.to_thread.run_sync,
        on_trouble: Callable[[str | None], None] = lambda text: None,
        on_rows: Callable[[Sequence[Row]], None] = lambda rows: None,
    ) -> None:
        """`secrets` are taken out of every fact. `stay`: wait for orders while the run is paused.

        `in_thread`: where commits are made (`in_place` blocks the event loop). `on_rows` is called after each commit,
        from the event loop; it must not block.
        """
        self._run, self._store, self._inbox, self._executor, self._clock = run, store, inbox, executor, clock
        self._lease, self._copier, self._secrets, self._in_thread = lease, copier, secrets, in_thread
        self._on_trouble, self._on_rows = on_trouble, on_rows
        self._leaving = not stay
        self._times = RunClock(clock, since=run.state.t)
        self._head = head
        self._tasks: TaskGroup | None = None
        self._crew: Crew | None = None
        self._waiting: anyio.CancelScope | None = None
        self.trouble: str | None = None
        """Why the journal cannot be written, while it cannot."""

    @property
    def state(self) -> RunState:
        """The run now; it may be ahead of the journal by what is being committed."""
        return self._run.state

    @property
    def head(self) -> str:
        """Hash of the last durable row."""
        return self._head

    def leave(self) -> None:
        """Return from `run` as soon as nobody is at work. From the event loop's thread."""
        self._leaving = True
        if self._waiting is not None:
            self._waiting.cancel()

    async def run(self) -> RunState:
        """Carry it out."""
        async with anyio.create_task_group() as tasks:
            self._tasks, self._crew = tasks, Crew(tasks, self._carry_out)
            if self._lease is not None:
                tasks.start_soon(self._keep_lease, self._lease)
            await self._loop()
            tasks.cancel_scope.cancel()
        return self.state

    async def _loop(self) -> None:
        while self.state.outcome is None:
            # A runner that is being stopped writes nothing more: what steps say about having been stopped with it is
            # not about them, and a resume looks at what was under way anyway.
            await anyio.lowlevel.checkpoint_if_cancelled()
            facts = self._inbox.drain()
            if facts:
                rows = self._fold(facts)
                await self._commit(rows)
                for row in rows:
                    for command in row.commands:
                        self._start(command)
            elif self._leaving and self._resting():
                return
            else:
                with anyio.CancelScope() as self._waiting:
                    await self._inbox.wait()
                self._waiting = None

    def _resting(self) -> bool:
        """Whether nothing will happen unless a person says so."""
        state, at_work = self.state, self._crew is not None and self._crew.at_work
        return state.seq > 0 and not at_work and state.phase in ("opened", "paused", "waiting")

    # Facts to rows

    def _fold(self, facts: Sequence[Fact]) -> list[Row]:
        rows: list[Row] = []
        head, at = self._head, utc(self._clock.wall())
        for reported in facts:
            fact, text = self._taken_in(reported)
            commands = self._run.take(fact)
            row = Row.link(self.state.seq, at, fact, commands, head, text)
            head = row.hash
            rows.append(row)
            if self.state.outcome is not None:
                break  # nothing follows the last event; what came too late changed nothing
        return rows

    def _taken_in(self, reported: Fact) -> tuple[Fact, str]:
        """What is folded and journaled of it, and its text: as of now, without secrets, refused if it must be."""
        stamped = reported.at(self._times.now())
        text = stamped.to_text()
        clean = stamped if self._secrets is None else redacted(stamped, text, self._secrets)
        fact = self._admitted(clean)
        return fact, text if fact is stamped else fact.to_text()

    def _admitted(self, fact: Fact) -> Fact:
        """The fact, or the refusal of what somebody ordered."""
        refused = why_not(fact, self.state)
        if refused is None:
            return fact
        if isinstance(fact, e.Ordered):
            return e.Refusal(t=fact.t, verb=fact.verb, by=fact.by, why=refused, step=fact.step)
        assert isinstance(fact, e.Answered)  # nothing else is ever refused
        return e.Refusal(t=fact.t, verb=fact.answer, by=fact.by, why=refused, step=fact.step)

    async def _commit(self, rows: Sequence[Row]) -> None:
        """Make the rows durable, however long it takes. Until then no command of theirs, and no later one, starts."""
        while True:
            try:
                with anyio.CancelScope(shield=True):
                    await self._in_thread(partial(self._store.append, rows))
                break
            except JournalError as error:
                if self.trouble is None:
                    self.trouble = str(error)
                    self._on_trouble(self.trouble)
            await self._clock.sleep(COMMIT_RETRY_S)
        self._head = rows[-1].hash
        if self.trouble is not None:
            text = f"the journal could not be written for a while ({self.trouble}); nothing was started meanwhile"
            self._inbox.put(e.Noted(text=text, by={"name": "drkit", "how": "runner"}))
            self.trouble = None
            self._on_trouble(None)
        if self._copier is not None:
            self._copier.committed(rows)
        self._on_rows(rows)

    # Commands to tasks

    def _start(self, command: Command) -> None:
        assert self._tasks is not None and self._crew is not None  # only called from `_loop`
        args = command.args
        if command.verb == "timer":
            self._tasks.start_soon(self._fire, str(args["timer"]), args["at_t"])
        elif command.verb == "cancel":
            self._crew.cancel(command.step)
        elif command.verb == "copy":
            self._copy(args["upto"])
        elif command.verb == "finish":
            self._inbox.put(e.Finished(outcome=str(args["outcome"]), why=command.why))
        else:
            self._crew.give(command)

    def _copy(self, upto: object) -> None:
        assert isinstance(upto, int)  # the fold counts rows
        if self._copier is not None:
            self._copier.want(upto)
        else:
            self._inbox.put(e.Copied(upto=upto))  # no state store: this journal is all there is

    def _carry_out(self, command: Command) -> Awaitable[None]:
        return self._executor.carry_out(command, self._inbox.put)

    async def _fire(self, timer: str, at_t: object) -> None:
        assert isinstance(at_t, int | float)  # the fold computes it
        await self._clock.sleep(max(at_t - self._times.now(), 0.0))
        self._inbox.put(e.Fired(timer=timer))

    async def _keep_lease(self, lease: Lease) -> None:
        """Renew it; say so when it is lost, and when it is held again after the state store was away."""
        held = True
        while True:
            await self._clock.sleep(RENEW_S)
            try:
                await lease.renew()
            except Locked as error:
                self._inbox.put(e.LeaseChanged(state="lost", token=self.state.fencing_token, detail=str(error)))
                return
            except JournalError as error:
                if held and lease.remaining_s() <= 0:
                    held = False
                    self._inbox.put(e.LeaseChanged(state="lost", token=self.state.fencing_token, detail=str(error)))
                continue
            if not held:
                held = True
                self._inbox.put(e.LeaseChanged(state="held", token=self.state.fencing_token))
