"""The report as people read it: what the journal tells, in the order they ask. Frozen data; `build` makes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from drkit.model.measurements import Findings
from drkit.model.plan import Plan, Shortened
from drkit.report.contract import Report

Tone = Literal["good", "bad", "doubtful", "plain"]


@dataclass(frozen=True, slots=True)
class Seen:
    """One field of an observation; `before` is None where it was not seen before, and `changed` where it moved."""

    name: str
    before: str | None
    after: str
    changed: bool


@dataclass(frozen=True, slots=True)
class StepStory:
    """One step: what was meant, what was seen, what came of it."""

    id: str
    number: int | None
    """Place in the runbook, from 1; None for what a scenario put around it."""
    title: str
    owner: str
    status: str
    tone: Tone
    uses: str
    region: str | None
    part: str
    started_s: float | None
    """UTC seconds since the epoch."""
    finished_s: float | None
    seconds: float | None
    attempts: int
    critical: bool
    irreversible: str | None
    fences: bool
    simulated: str | None
    params: tuple[tuple[str, str], ...]
    seen: tuple[Seen, ...]
    seen_by: str | None
    """Who answered, and when."""
    remark: str | None
    """Why it is skipped, failed, adopted, or by whose word it counts as done."""


@dataclass(frozen=True, slots=True)
class Approval:
    """Somebody answered a question, and how it is known who that was."""

    at: str
    step: str
    purpose: str
    answer: str
    name: str
    role: str
    identity: str
    reason: str
    shown: tuple[tuple[str, str], ...]
    counted: bool
    """It was bound to the plan and to what was shown."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One line of the timeline."""

    at_s: float
    what: str
    detail: str
    tone: Tone
    source: Literal["users", "journal"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The first thing anybody reads. `code` is for scripts: met, missed, unproven, or how else the run stands."""

    code: str
    word: str
    line: str
    tone: Tone


@dataclass(frozen=True, slots=True)
class Story:
    """Everything a rendering needs."""

    report: Report
    plan: Plan
    findings: Findings
    verdict: Verdict
    opened_by: str
    host: str
    drkit: str
    plan_hash: str
    incident: str | None
    began_s: float
    steps: tuple[StepStory, ...]
    approvals: tuple[Approval, ...]
    moments: tuple[Moment, ...]
    shortened: tuple[Shortened, ...]
    anchor: str | None
    """Up to which event a copy outside this machine was known to exist: a cut behind it would be noticed."""
