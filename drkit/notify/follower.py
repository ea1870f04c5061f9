"""Follow a run's journal and tell responders what happens. A dead receiver delays nothing but its own messages.

Each sink has a queue of its own, in the journal's order; what fails is tried again, ever later. The key of a message
(`drkit-RUN.EVENT`) stays the same however often it is sent, so that who has it already can tell.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol

import anyio
import anyio.to_thread

from drkit.errors import DrkitError
from drkit.model.environment import Sink
from drkit.model.notices import Notice
from drkit.notify.outbox import Outbox, Place, undelivered
from drkit.notify.wording import Message

FIRST_WAIT_S: Final = 0.5
LAST_WAIT_S: Final = 30.0
#: While the runner waits for the last messages, nobody is given longer than this to come back.
ENDING_WAIT_S: Final = 0.5

Sleep = Callable[[float], Awaitable[None]]


class Delivers(Protocol):
    """Hands messages over; `Delivery`."""

    async def send(self, sink: Sink, message: Message) -> None:
        """Hand it over. DrkitError."""

    async def arrived(self, sink: Sink, reference: str) -> bool | None:
        """Whether it arrived; None: nobody can say. DrkitError."""


class Follower:
    """Tells the sinks of one run; implements the port `Teller`."""

    def __init__(
        self, delivery: Delivers, sinks: Sequence[Sink], outbox: Outbox, *, sleep: Sleep = anyio.sleep
    ) -> None:
        """`sinks`: those that may be used (`wording.usable`)."""
        self._delivery, self._outbox, self._sleep = delivery, outbox, sleep
        self._lines = [_Line(sink) for sink in sinks]
        self._known = 0
        self._ending = anyio.Event()
        self._saving = anyio.Lock()

    def begin(self, seq: int) -> None:
        """The journal has `seq` events now: news of them may have been delivered by a runner that is gone."""
        self._known = seq
        for line in self._lines:
            self._outbox.places.setdefault(line.sink.name, Place(seq)).waiting = 0
        with suppress(OSError):  # the disk is full: what is told from here on may be told again by the next runner
            self._outbox.save()

    def tell(self, notice: Notice) -> None:
        """Tell it to everybody who does not have it yet."""
        for line in self._lines:
            place = self._outbox.places[line.sink.name]
            if notice.seq > place.upto:
                line.queue.append(notice)
                place.waiting = len(line.queue)
                line.done = anyio.Event()
                line.bell.set()

    async def run(self) -> None:
        """Tell until cancelled."""
        async with anyio.create_task_group() as tasks:
            for line in self._lines:
                tasks.start_soon(self._serve, line)

    async def finish(self, within_s: float) -> str | None:
        """Tell what is left; what could not be delivered in time, in words."""
        self._ending.set()
        with anyio.move_on_after(within_s):
            for line in self._lines:
                await line.done.wait()
        return undelivered(self._outbox.places)

    async def _serve(self, line: _Line) -> None:
        wait_s = FIRST_WAIT_S
        while True:
            if not line.queue:
                line.bell = anyio.Event()
                line.done.set()
                await line.bell.wait()
            notice = line.queue[0]
            if not line.failed:
                await self._save()  # that somebody is still to be told it
            # Told by the runner before us, perhaps, or by an attempt whose answer was lost.
            error = await self._deliver(line.sink, notice, doubtful=line.failed or notice.seq <= self._known)
            line.failed = error is not None
            place = self._outbox.places[line.sink.name]
            place.error = error
            if error is None:
                line.queue.popleft()
                place.upto = notice.seq
                wait_s = FIRST_WAIT_S
            place.waiting = len(line.queue)
            await self._save()
            if error is not None:
                await self._wait(wait_s)
                wait_s = min(2 * wait_s, LAST_WAIT_S)

    async def _deliver(self, sink: Sink, notice: Notice, *, doubtful: bool) -> str | None:
        """Hand it over. None, or why it failed."""
        message = worded(notice)
        try:
            if not (doubtful and await self._delivery.arrived(sink, message.reference)):
                await self._delivery.send(sink, message)
        except DrkitError as error:
            return error.message
        except Exception as error:  # noqa: BLE001 - whatever a receiver answers, the run is none of its business
            return f"{type(error).__name__}: {error}"
        return None

    async def _save(self) -> None:
        """One at a time. On a full disk the file stays behind: the next runner tells more again than it need."""
        async with self._saving:
            with suppress(OSError):
                await anyio.to_thread.run_sync(self._outbox.save)

    async def _wait(self, seconds: float) -> None:
        if self._ending.is_set():
            await self._sleep(min(seconds, ENDING_WAIT_S))
            return
        async with anyio.create_task_group() as tasks:

            async def enough() -> None:
                await self._sleep(seconds)
                tasks.cancel_scope.cancel()

            tasks.start_soon(enough)
            await self._ending.wait()
            tasks.cancel_scope.cancel()


class _Line:
    """What waits for one sink, oldest first."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.queue: deque[Notice] = deque()
        self.bell = anyio.Event()
        self.done = anyio.Event()
        self.failed = False


def worded(notice: Notice) -> Message:
    """The notice as a message; `reference` is its key. What needs somebody is an incident of its own, so it pages."""
    reference = f"drkit-{notice.run}.{notice.seq}"
    needs = notice.urgency == "needs somebody" and not notice.ends
    return Message(
        subject=notice.subject,
        text=f"{notice.text}\nJournal up to event {notice.seq}: {notice.head}",
        reference=reference,
        incident=reference if needs else f"drkit-{notice.run}.run",
        status="resolved" if notice.ends and notice.urgency == "info" else "investigating",
        severity="critical" if notice.urgency == "needs somebody" else "info",
        drill=notice.drill,
    )
