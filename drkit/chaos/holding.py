"""Be the one scheduler of an environment, for as long as a lease in its state store is ours."""

from __future__ import annotations

import threading
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from drkit.engine.clock import SystemClock
from drkit.engine.identity import hostname, login, this_process
from drkit.engine.lease import POLL_S, TERM_S, LeaseProtocol, Record, look
from drkit.errors import JournalError, Locked
from drkit.model.ports import Holder, Objects

LONGEST_CALL_S: Final = 5.0
"""How long asking a runner to begin takes at most; it is idempotent by the run's id all the same."""
_RUN: Final = "schedule"


class Holding:
    """The scheduler's place, renewed by a thread of its own; a context manager.

    Entering raises Locked at once when a scheduler that is alive on this machine holds it; one elsewhere is watched for
    as long as its heartbeat may take, and a silent one is replaced after its term.
    """

    def __init__(self, objects: Objects, environment: str, *, term_s: float = TERM_S) -> None:
        self._objects, self._environment, self._term_s = objects, environment, term_s
        self._name = f"{environment}.schedule"
        self._left, self._lost = threading.Event(), ""
        self._lease = LeaseProtocol(
            objects, self._name, SystemClock(), who=login(), host=hostname(), process=this_process(),
            term_s=term_s, drill_term_s=term_s, longest_call_s=LONGEST_CALL_S,
        )  # fmt: skip
        self._renewing = threading.Thread(target=self._renew, name="schedule-lease", daemon=True)

    def __enter__(self) -> Self:
        found = look(self._objects, self._name)
        if found is not None and _lives_here(found[0]):
            raise self._taken(found[1])
        while True:
            try:
                if self._lease.attempt(_RUN, drill=False, take_over=True) is not None:
                    break
            except Locked as error:
                now = look(self._objects, self._name)
                raise (error if now is None else self._taken(now[1])) from error
            self._left.wait(POLL_S)
        self._renewing.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._left.set()
        self._renewing.join()
        if not self._lost:
            with suppress(JournalError):  # then it runs out by itself
                self._lease.release()

    def check(self) -> None:
        """Locked if the place is no longer ours for certain."""
        if self._lost or self._lease.remaining_s() <= 0:
            raise Locked(
                f"the schedule of {self._environment} is no longer ours: {self._lost or 'the lease ran out'}",
                state="Nothing more is started from here; what was started goes on.",
                code="E0702",
                hint=f"drkit schedule run --env {self._environment}",
            )

    def _renew(self) -> None:
        while not self._left.wait(self._term_s / 3):
            try:
                self._lease.renew()
            except Locked as error:
                self._lost = error.message
                return
            except JournalError:
                continue  # it runs out by itself, and `check` sees that

    def _taken(self, holder: Holder) -> Locked:
        return Locked(
            f"another scheduler of {self._environment} runs: {holder.who}@{holder.host} since {holder.since}",
            hint=f"drkit schedule next --env {self._environment}",
        )


def _lives_here(record: Record) -> bool:
    return record.process is not None and record.process.here and not record.process.dead
