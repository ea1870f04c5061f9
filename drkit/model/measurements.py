"""What was measured: readings files and what they say about recovery and loss. Frozen data, no I/O.

`t` is seconds on the measuring machine's CLOCK_BOOTTIME (durations come from it alone), `at` is UTC for people. A
figure that was not measured is None, and `reason` says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from drkit.model.values import Json

ReadingsKind = Literal["probes", "canary", "orders", "present"]


class Measurement(BaseModel):
    """Base of what is journaled and reported: immutable, unknown keys are mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ReadingsRef(Measurement):
    """A readings file as it was at one instant: what a run journals. Later lines do not change `head` or `count`."""

    id: str
    kind: ReadingsKind
    path: str
    head: str
    """Digest of line `count`, which carries the digest of the one before, and so on to the header."""
    count: int
    """Lines the digest covers, header included."""
    host: str
    boot_id: str
    """`t` of two files can be compared only if this is the same."""
    started_at: str
    summary: dict[str, Json] = Field(default_factory=dict)


class Attached(Measurement):
    """The environment's current readings files; what is missing is None and `reasons` says why."""

    probes: ReadingsRef | None = None
    orders: ReadingsRef | None = None
    canary: ReadingsRef | None = None
    reasons: tuple[str, ...] = ()

    @property
    def refs(self) -> tuple[ReadingsRef, ...]:
        """Those that are there."""
        return tuple(ref for ref in (self.probes, self.orders, self.canary) if ref is not None)


@dataclass(frozen=True, slots=True)
class Journey:
    """One journey of one simulated user. Without an answer it stays `pending`, and counts as failed when sent."""

    number: int
    kind: Literal["browse", "order"]
    client: int
    sent_t: float
    sent_at: str
    outcome: Literal["ok", "error", "timeout", "pending"]
    reason: str | None = None
    status: int | None = None
    latency_s: float | None = None
    address: str | None = None
    served_by: str | None = None
    order_id: str | None = None

    @property
    def ok(self) -> bool:
        """The user got what they came for."""
        return self.outcome == "ok"


@dataclass(frozen=True, slots=True)
class Write:
    """One entry of a ledger: a write somebody outside the database made, and what they were told."""

    id: str
    """`canary:17` or `order:<id>`."""
    t: float
    """When the answer came; of an unanswered write, when waiting for it ended."""
    at: str
    acknowledged: bool
    site: str | None = None
    """Which database server answered, where the ledger knows."""
    order: int | None = None
    """Place in a sequence in which each write began after the one before was answered; None: concurrent."""


class Outage(Measurement):
    """A stretch in which users were served below the objective. `recovered_*` None: it had not ended."""

    started_t: float
    started_at: str
    recovered_t: float | None = None
    recovered_at: str | None = None
    failed_probes: int

    @property
    def seconds(self) -> float | None:
        """How long it lasted; None while it lasts."""
        return None if self.recovered_t is None else self.recovered_t - self.started_t


class Phases(Measurement):
    """Where the recovery time went, in seconds; they add up to it where all four are known."""

    detect: float | None = None
    """Outage start until somebody or something saw it."""
    decide: float | None = None
    """Until it was decided to go."""
    execute: float | None = None
    """Until the last step that had to be done for users was done."""
    converge: float | None = None
    """Until users were served again."""


class Recovery(Measurement):
    """What users' probes saw of an outage and its end."""

    seconds: float | None = None
    reason: str | None = None
    """Why `seconds` is None."""
    outage_started_at: str | None = None
    outage_started_t: float | None = None
    recovered_at: str | None = None
    recovered_t: float | None = None
    failed_probes: int | None = None
    """Probes sent from outage start to recovery that got no good answer."""
    journeys: int = 0
    """Probes in the readings."""
    probe_interval_s: float
    window_s: float
    """W: how long the good period had to last before it counted."""
    objective: float
    largest_gap_s: float | None = None
    """Longest time between two probes from the outage's start to the end of W: what nobody looked at."""
    relapses: tuple[Outage, ...] = ()
    """Further outages after the recovery."""
    phases: Phases | None = None


class Loss(Measurement):
    """Which acknowledged writes are missing from the database."""

    window_seconds: float | None = None
    reason: str | None = None
    """Why `window_seconds` is None."""
    acknowledged: int
    survived: int
    lost: int
    lost_ids: tuple[str, ...] = ()
    unacknowledged_present: int
    """In the database although nobody was told so: neither lost nor promised."""
    holes: int
    """Lost writes with a survivor behind them on the same server: not a cut tail but a gap in the middle."""
    first_lost_at: str | None = None
    last_lost_at: str | None = None


class LossPoint(Measurement):
    """Acknowledged writes of one bucket of time, for a chart."""

    t: float
    at: str
    survived: int
    lost: int


class Findings(Measurement):
    """All that the readings of a run say: what a report is made from, beside the journal."""

    recovery: Recovery | None = None
    loss: Loss | None = None
    reasons: tuple[str, ...] = ()
    """Why a figure is missing altogether: no prober, no ledger, readings that do not verify."""
    readings: tuple[ReadingsRef, ...] = ()
    verified: bool | None = None
    """Every readings file named continues its chain up to the journaled head. None: there is none."""
    journeys: tuple[Journey, ...] = ()
    writes: tuple[LossPoint, ...] = ()
