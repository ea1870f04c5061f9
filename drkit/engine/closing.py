"""The readings that belong to a run are journaled when it begins, and again before its end is. Never in its way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from drkit.context import Secrets
from drkit.engine.inbox import ThreadInbox
from drkit.model import events as e
from drkit.model.events import Fact


class Measures(Protocol):
    """What of `Means` is needed here."""

    @property
    def secrets(self) -> Secrets:
        """For redaction."""

    @property
    def attach(self) -> Callable[[], Sequence[Fact]]:
        """The readings as they are now."""

    @property
    def settle(self) -> Callable[[], None]:
        """Waits until the readings can show the end."""


async def attach(means: Measures, inbox: ThreadInbox) -> None:
    """Report the readings as they are now."""
    for fact in await anyio.to_thread.run_sync(attached, means):
        inbox.put(fact)


def attached(means: Measures) -> Sequence[Fact]:
    """The readings, or the remark that there are none: what measures must never stop what recovers."""
    try:
        return means.attach()
    except Exception as error:  # noqa: BLE001 - whatever is wrong with readings, the report will say what is missing
        text = f"the readings could not be attached: {means.secrets.redact(str(error))}"
        return [e.Noted(text=text, by={"name": "drkit", "how": "runner"})]


class ClosingInbox:
    """The driver's inbox, in which the end waits until the readings that show it are journaled. Port `Inbox`."""

    def __init__(self, inbox: ThreadInbox, tasks: TaskGroup, means: Measures) -> None:
        self._inbox, self._tasks, self._means = inbox, tasks, means
        self.drain, self.wait = inbox.drain, inbox.wait

    def put(self, fact: Fact) -> None:
        """Accept a fact. From the event loop's thread only."""
        if isinstance(fact, e.Finished):
            self._tasks.start_soon(self._close, fact)
        else:
            self._inbox.put(fact)

    async def _close(self, finished: e.Finished) -> None:
        def look() -> Sequence[Fact]:
            self._means.settle()
            return attached(self._means)

        for fact in await anyio.to_thread.run_sync(look, abandon_on_cancel=True):
            self._inbox.put(fact)
        self._inbox.put(finished)
