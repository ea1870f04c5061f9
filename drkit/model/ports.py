"""The seams of the engine: clock, journal store, inbox, lease. Protocols only; drivers choose who implements them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from drkit.model.events import Fact, Row
from drkit.model.notices import Notice


class Clock(Protocol):
    """Where time comes from. Virtual in simulations."""

    def monotonic(self) -> float:
        """Seconds on a clock that only goes forward, suspended time included (CLOCK_BOOTTIME)."""

    def wall(self) -> float:
        """Seconds since the epoch. For people to read; never subtracted to measure, never compared across machines."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


class Store(Protocol):
    """The append-only journal of one run. Implementations are synchronous: the driver calls them in a thread."""

    def append(self, rows: Sequence[Row]) -> None:
        """Make all rows durable, or none. Idempotent by `seq`. JournalError if it cannot."""

    def read(self, after: int = 0) -> Iterator[Row]:
        """Rows with `seq` > `after`, in order. Tampered where the chain does not continue."""

    def close(self) -> None:
        """Release the file."""


class Inbox(Protocol):
    """Where steps and people report facts. Synchronous, so that a cancelled step still reports what it did."""

    def put(self, fact: Fact) -> None:
        """Accept a fact. Never blocks, never raises."""

    def drain(self) -> list[Fact]:
        """Everything accepted since the last drain, in order."""

    async def wait(self) -> None:
        """Return when there is something to drain."""


class Copier(Protocol):
    """Copies journal rows to the state store in the background. Called from the event loop; never blocks or raises."""

    def committed(self, rows: Sequence[Row]) -> None:
        """These rows are durable here: copy them within a second. A success is not reported: it would be a row too."""

    def want(self, upto: int) -> None:
        """Copy everything up to `upto` now, and put `Copied(upto)`, or `Copied(upto, error)`, into the inbox."""


class Teller(Protocol):
    """Tells people, in the background. Called from the event loop; never blocks, never raises, never holds a run up."""

    def begin(self, seq: int) -> None:
        """The journal has `seq` events now. Who was told up to where is known, or begins here."""

    def tell(self, notice: Notice) -> None:
        """Tell it to everybody who does not have it yet."""

    async def run(self) -> None:
        """Tell until cancelled."""

    async def finish(self, within_s: float) -> str | None:
        """Tell what is left; what could not be delivered in time, in words. `run` goes on meanwhile."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds an environment's lease."""

    run: str
    who: str
    host: str
    since: str
    token: int
    lock_id: str
    counter: int
    drill: bool
    term_s: float


class Lease(Protocol):
    """One run per environment at a time, with a fencing token that only grows."""

    async def acquire(self, run: str, *, drill: bool, take_over: bool = False) -> Holder:
        """Hold the lease, or raise Locked naming the holder."""

    async def renew(self) -> None:
        """Extend by one term. Locked if somebody else holds it now."""

    def remaining_s(self) -> float:
        """Seconds for which this process may still start effects; 0 or less: none."""

    async def release(self) -> None:
        """Give it up. The token stays remembered."""


class Objects(Protocol):
    """The environment's state store: small named objects with conditional writes. Synchronous, own timeouts (≤ 5 s).

    JournalError if it cannot be reached.
    """

    def get(self, key: str) -> tuple[bytes, str] | None:
        """Content and version tag, or None if there is no such object."""

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_tag: str | None = None) -> str | None:
        """Write and return the new tag; None if the condition did not hold (somebody else wrote)."""

    def keys(self, prefix: str) -> list[str]:
        """Keys that start with `prefix`, sorted."""

    def describe(self) -> str:
        """Where it is, for screens: `s3://bucket/prefix in us-west-2`, `file:///folder (this machine only)`."""
