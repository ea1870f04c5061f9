"""Computers and processes: clocks with a zero of their own, disks that fill up, crashes and freezes at any await.

A killed process runs nothing more that matters: its tasks are cancelled, and everything that reaches beyond the process
first asks whether it lives. A frozen one (SIGSTOP, a suspended machine) stands at its next await, for as long as others
go on, and then does whatever it was about to do.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context, ContextVar
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.lowlevel

from drkit.engine.lease import EnvironmentLease
from drkit.engine.memory import MemoryStore
from drkit.engine.simulated import EPOCH, Chance, SeededInbox
from drkit.errors import JournalError
from drkit.model.events import Asked, Row

FROZEN_S = 75.0
"""Longer than any lease lasts, and than it takes others to come."""
PROCESS: ContextVar[Process] = ContextVar("PROCESS")


class Killed(BaseException):
    """The process is gone."""


@dataclass(eq=False)
class Machine:
    """A computer: its clocks and its disk outlive its processes."""

    name: str
    zero_s: float
    """What its monotonic clock said at the beginning."""
    full: Sequence[tuple[float, float]] = ()
    """When its disk is full: from, to."""
    slow_s: float = 0.0
    """How long its disk takes for what is written to be durable; 0: no time."""
    skew_s: float = 0.0
    """By how much its wall clock is wrong; jumps."""
    disk: Disk = field(init=False)

    def __post_init__(self) -> None:
        self.disk = Disk(self)


class Disk(MemoryStore):
    """A journal on a machine's disk."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self._machine = machine
        self.process: Process | None = None

    @property
    def ended(self) -> bool:
        """Whether the run's end is durable here."""
        texts = self.texts()
        return bool(texts) and b'"kind":"run.finished"' in texts[-1]

    def append(self, rows: Sequence[Row]) -> None:
        """Keep them, unless the disk is full or the process dies over it, before or after it is done."""
        process = self.process
        now = anyio.current_time()
        if any(start <= now < end for start, end in self._machine.full):
            raise JournalError("no space left on device")
        if process is None:
            return super().append(rows)
        process.must_live()
        process.appends += 1
        asking = process.dies_at_question and any(
            isinstance(row.fact, Asked) and row.fact.purpose != "gate" for row in rows
        )
        deadly = process.appends == process.dies_at_append or asking
        if not deadly or process.dies_after:
            super().append(rows)
        if deadly:
            process.die()
            raise Killed
        return None


@dataclass(frozen=True, slots=True)
class Fate:
    """What happens to a process before its n-th step: it dies (0 seconds), or is frozen for some time."""

    step: int
    frozen_s: float = 0.0


@dataclass(eq=False)
class Process:
    """One runner."""

    machine: Machine
    number: int
    fates: list[Fate] = field(default_factory=list)
    dies_at_append: int = 0
    dies_at_question: bool = False
    dies_after: bool = False
    dies_at_apply: int = 0
    """When it is told to send for the n-th time, it dies: the intent is durable, and nothing was sent."""
    freezes_at_apply: int = 0
    """Likewise it is frozen, before it looks at its lease, for longer than that lasts."""
    freezes_at_send: int = 0
    """Just before its n-th effect it is frozen, for longer than its lease lasts."""
    disk: Disk = field(init=False)
    """Its journal: others on this machine may begin another one while it is frozen."""
    copied: Callable[[], int] = lambda: 0
    lease: EnvironmentLease | None = None
    steps: int = 0
    appends: int = 0
    applies: int = 0
    sends: int = 0
    dead: bool = False
    ended: bool = False
    froze: float = -math.inf
    """When it was frozen last."""
    frozen_until: float = -math.inf
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)

    def __post_init__(self) -> None:
        self.disk = self.machine.disk

    def __str__(self) -> str:
        return f"process {self.number} on {self.machine.name}"

    @property
    def frozen(self) -> bool:
        """Whether it stands still."""
        return anyio.current_time() < self.frozen_until

    @property
    def gone(self) -> bool:
        """Whether it will never do anything again."""
        return self.dead or self.ended

    def must_live(self) -> None:
        """What follows reaches beyond the process."""
        assert not self.gone, f"{self} is gone and acts"

    def durable(self) -> int:
        """Rows in its journal."""
        return len(self.disk)

    def lease_s(self) -> float:
        """Seconds of its lease that are left, as it believes."""
        return 0.0 if self.lease is None else self.lease.remaining_s()

    def die(self) -> None:
        """As of kill -9."""
        self.dead = True
        self.scope.cancel()

    def on_step(self) -> None:
        """It goes on after an await."""
        self.steps += 1
        while self.fates and self.fates[0].step <= self.steps and not self.gone:
            fate = self.fates.pop(0)
            if fate.frozen_s:
                self._freeze(fate.frozen_s)
            else:
                self.die()

    async def about_to_apply(self) -> None:
        """Before anything is looked at that must be so for an effect to be sent."""
        self.applies += 1
        if self.applies == self.dies_at_apply:
            self.die()
        if self.applies == self.freezes_at_apply:
            self._freeze(FROZEN_S)
        await self.gate()

    async def about_to_send(self) -> bool:
        """Between the check of the lease and the send; whether it was frozen there."""
        self.sends += 1
        if self.sends == self.freezes_at_send:
            self._freeze(FROZEN_S)
        frozen = self.frozen
        await self.gate()
        return frozen

    def _freeze(self, seconds: float) -> None:
        self.froze = anyio.current_time()
        self.frozen_until = self.froze + seconds

    async def gate(self) -> None:
        """Nothing passes here while the process is frozen, and nothing once it is dead."""
        while (left_s := self.frozen_until - anyio.current_time()) > 0:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(left_s)
        if self.dead:
            await anyio.lowlevel.checkpoint()  # raises: its scope is cancelled

    async def sleep(self, seconds: float) -> None:
        """Wait, at least that long."""
        try:
            await anyio.sleep(seconds)
        finally:
            await self.gate()

    def in_thread(self, chance: Chance) -> Callable[[Callable[[], Any]], Awaitable[Any]]:
        """Calls that block, without a thread: they take their time before what they do, or after it."""

        async def call(what: Callable[[], Any]) -> Any:
            after = chance.toss()
            if not after:
                await self.sleep(chance.latency_s() / 2)
            if self.dead:  # whoever waits for a thread with cancellation held off is killed all the same
                raise Killed
            try:
                return what()
            finally:
                if after:
                    await self.sleep(chance.latency_s() / 2)

        return call

    async def commit(self, write: Callable[[], None]) -> None:
        """Write to the disk, however slow that is; what goes on meanwhile goes on before it is durable."""
        if self.machine.slow_s:
            await self.sleep(self.machine.slow_s)
        if self.dead:
            raise Killed
        write()


@dataclass
class MachineClock:
    """A process's clocks; implements the port `Clock`."""

    process: Process

    def monotonic(self) -> float:
        return anyio.current_time() + self.process.machine.zero_s

    def wall(self) -> float:
        return EPOCH + anyio.current_time() + self.process.machine.skew_s

    async def sleep(self, seconds: float) -> None:
        await self.process.sleep(seconds)


class ProcessInbox(SeededInbox):
    """The inbox of one process: a frozen one does not look into it."""

    def __init__(self, chance: Chance, process: Process) -> None:
        super().__init__(chance)
        self._process = process

    async def wait(self) -> None:
        try:
            await super().wait()
        finally:
            await self._process.gate()


def on_step(context: Context) -> None:
    """Some task goes on after an await."""
    process = context.get(PROCESS)
    if process is not None:
        process.on_step()
