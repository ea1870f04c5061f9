"""The report as scripts read it: `drkit.report/1`, a contract with users. Only ever added to.

Every key is always there. What was not measured is null, never a guess, and the `reason` beside it says why.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Outcome = Literal["done", "failed", "aborted", "rolled_back", "paused", "running"]


class Part(BaseModel):
    """Base of the report's parts."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class RunbookName(Part):
    """Which reviewed procedure was run."""

    name: str
    digest: str


class PhaseSeconds(Part):
    """Where the recovery time went."""

    detect: float | None = None
    decide: float | None = None
    execute: float | None = None
    converge: float | None = None


class Relapse(Part):
    """Users saw errors again after the recovery."""

    started_at: str
    recovered_at: str | None
    seconds: float | None
    failed_probes: int


class RecoveryTime(Part):
    """What users' probes saw, against the RTO."""

    seconds: float | None = None
    objective_seconds: float | None = None
    met: bool | None = None
    outage_started_at: str | None = None
    recovered_at: str | None = None
    phases: PhaseSeconds = PhaseSeconds()
    probe_interval_seconds: float | None = None
    failed_probes: int | None = None
    reason: str | None = None
    """Why `seconds` is null."""
    confirmed_for_seconds: float | None = None
    """W: how long users had to be served well before it counted as recovered."""
    success_objective: float | None = None
    largest_gap_seconds: float | None = None
    relapses: tuple[Relapse, ...] = ()


class DataLoss(Part):
    """Which acknowledged writes are missing, against the RPO."""

    window_seconds: float | None = None
    objective_seconds: float | None = None
    met: bool | None = None
    acknowledged: int | None = None
    survived: int | None = None
    lost: int | None = None
    lost_ids: tuple[str, ...] | None = None
    unacknowledged_present: int | None = None
    holes: int | None = None
    reason: str | None = None
    """Why `window_seconds` is null."""


class ReportStep(Part):
    """One step of the run."""

    id: str
    status: str
    owner: str | None
    started_at: str | None
    finished_at: str | None
    attempts: int
    region: str | None
    why: str | None
    number: int | None
    """Place in the runbook, from 1; null for what a scenario put around it."""
    title: str
    uses: str
    seconds: float | None
    simulated: str | None
    """Why nothing real stands behind it in this environment; null: it is real."""
    part: str
    """`runbook`, or the part of a drill around it: steady, inject, detect, heal, after."""


class Deadline(Part):
    """How long the run might take before somebody had to decide whether to go on."""

    seconds: float
    passed: bool


class Hypothesis(Part):
    """What a scenario claimed, and what came of it."""

    claim: str
    held: bool | None
    """null: it was not looked at to the end."""
    deviations: tuple[str, ...]


class Abort(Part):
    """The run was stopped, by a person or by what watched it."""

    at: str
    by: str
    how: str
    """`stop_when`, `chaos lever`, or how a person is known."""
    reason: str | None
    broken: int
    """How many faults were, or may have been, injected."""
    healed_at: str | None
    """When the last fault was seen to be gone; null: nothing was broken, or not all is healed by this run."""
    latency_seconds: float | None
    """From the order to `healed_at`."""


class ReportFault(Part):
    """One fault of a drill, from injection to proven absence."""

    id: str
    fault: str
    injected_at: str | None
    reverted_at: str | None
    reverted_by: Literal["drkit", "lease", "sweep"] | None
    """As the target said, or because its lease was not over yet; null: it is not reverted, or nobody saw by whom."""
    verified_clean: bool | None
    """Null: it was not injected, or nothing real was broken."""
    simulated: str | None
    """Why nothing real was broken; null: it was."""


class Override(Part):
    """A fence that two persons passed without its being observed."""

    step: str
    by: tuple[str, ...]
    stated_loss_seconds: float | None


class ReadingsEvidence(Part):
    """A readings file the report was made from."""

    kind: str
    path: str
    head: str
    count: int


class Evidence(Part):
    """What to compare to know that nothing was changed since."""

    journal_head: str
    events: int
    verified: bool
    readings: tuple[ReadingsEvidence, ...] = ()
    readings_verified: bool | None = None


class Report(Part):
    """`drkit report RUN --format json`."""

    schema_: Literal["drkit.report/1"] = Field("drkit.report/1", alias="schema")
    kind: Literal["failover", "failback", "drill", "run", "heal"]
    run: str
    runbook: RunbookName
    environment: str
    source: str
    target: str
    outcome: Outcome
    started_at: str
    finished_at: str | None
    recovery_time: RecoveryTime
    data_loss: DataLoss
    steps: tuple[ReportStep, ...]
    critical_path: tuple[str, ...]
    makespan_seconds: float | None
    critical_path_seconds: float | None
    faults: tuple[ReportFault, ...]
    leaks: tuple[str, ...]
    evidence: Evidence
    verdict: str
    """`met`, `missed`, `unproven`, or the outcome where the run did not end done."""
    summary: str
    """The verdict in one line, simulated steps counted."""
    drill: bool
    scenario: str | None
    simulated_steps: int
    fence_overrides: tuple[Override, ...]
    not_measured: tuple[str, ...]
    """Why figures are missing."""
    deadline: Deadline | None = None
    """null: the runbook sets none."""
    hypothesis: Hypothesis | None = None
    """null: there is no scenario."""
    abort: Abort | None = None
    """null: it was not stopped."""
