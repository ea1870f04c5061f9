"""Make a report from a run's journal, the state it folds to, and what its readings say. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from drkit.errors import JournalError, Tampered
from drkit.model.events import Copied, Opened, Row, verified
from drkit.model.measurements import Findings, Loss, Recovery
from drkit.model.outline import Place, standings
from drkit.model.values import utc
from drkit.report import breaking
from drkit.report.contract import (
    DataLoss,
    Deadline,
    Evidence,
    Outcome,
    Override,
    PhaseSeconds,
    ReadingsEvidence,
    RecoveryTime,
    Relapse,
    Report,
    ReportStep,
    RunbookName,
)
from drkit.report.critical import Span, critical_path
from drkit.report.folded import RunLike, StepLike
from drkit.report.people import approvals, named
from drkit.report.steps import in_order, numbers, step_story
from drkit.report.story import Story
from drkit.report.timeline import moments
from drkit.report.verdict import verdict

_OUTCOMES: dict[str, Outcome] = {
    "done": "done", "failed": "failed", "aborted": "aborted", "rolled_back": "rolled_back",
}  # fmt: skip


def build(rows: Sequence[Row], run: RunLike, findings: Findings) -> Story:
    """The story of one run.

    `rows` is its whole journal, `run` the state these rows fold to, `findings` what the readings say that it names
    (`Findings()` if it names none). JournalError: the journal does not begin with an opened run.
    """
    if not rows or not isinstance(rows[0].fact, Opened):
        raise JournalError("the journal does not begin with an opened run")
    opened, plan = rows[0].fact, run.plan
    critical = critical_path(_spans(run))
    outcome = _outcome(run)
    places, order = numbers(run), in_order(run)
    stand = standings(order, {id: str(step.status) for id, step in run.steps.items()})
    steps = tuple(_report_step(run, run.steps[place.id], places.get(place.id)) for place in order)
    faults = tuple(breaking.faults(run, rows))
    copied = max((row.fact.upto for row in rows if isinstance(row.fact, Copied) and row.fact.error is None), default=0)
    bare = Report(
        kind="drill" if run.drill else _kind(run.kind),
        run=run.run,
        runbook=RunbookName(name=plan.runbook, digest=plan.runbook_digest),
        environment=plan.environment,
        source=plan.source,
        target=plan.target,
        outcome=outcome,
        started_at=utc(opened.wall),
        finished_at=_at(run, run.finished_t),
        recovery_time=_recovery_time(findings.recovery, plan.rto_s, ended=outcome in _OUTCOMES),
        data_loss=_data_loss(findings.loss, plan.rpo_s),
        steps=steps,
        critical_path=tuple(id for id in critical.path if run.steps[id].plan.join is None),
        makespan_seconds=critical.makespan_s,
        critical_path_seconds=critical.seconds,
        faults=faults,
        leaks=tuple(f.id for f in faults if f.verified_clean is False and run.outcome is not None),
        evidence=_evidence(rows, findings),
        verdict="",
        summary="",
        drill=run.drill,
        scenario=plan.scenario,
        simulated_steps=sum(step.simulated is not None for step in steps),
        fence_overrides=tuple(_overrides(run)),
        not_measured=_not_measured(findings),
        deadline=_deadline(run),
        hypothesis=breaking.hypothesis(run, rows),
        abort=breaking.abort(run, rows),
    )
    said = verdict(bare, run.why)
    report = bare.model_copy(update={"verdict": said.code, "summary": said.line})
    return Story(
        report=report,
        plan=plan,
        findings=findings,
        verdict=said,
        opened_by=named(opened.by),
        host=opened.host,
        drkit=opened.drkit,
        plan_hash=opened.plan_hash,
        incident=run.incident,
        began_s=opened.wall,
        steps=tuple(
            step_story(run, run.steps[at.id], places.get(at.id), critical.path, _below(run, at, stand)) for at in order
        ),
        approvals=tuple(approvals(rows, run)),
        moments=tuple(moments(rows, run, findings, report.faults)),
        shortened=plan.changed_parameters,
        anchor=f"event {copied} of {len(rows)}" if copied else None,
    )


def _below(run: RunLike, place: Place, stand: Mapping[str, str]) -> list[str]:
    """How the steps right below one stand; what only decides whether they are needed is none of them."""
    return [stand[id] for id in place.below if run.steps[id].plan.kind != "when"]


def _deadline(run: RunLike) -> Deadline | None:
    limit_s = run.plan.deadline_s
    return None if limit_s is None else Deadline(seconds=limit_s, passed=run.overdue)


def _kind(kind: str) -> str:
    return kind if kind in ("failover", "failback", "drill", "run", "heal") else "run"


def _outcome(run: RunLike) -> Outcome:
    if run.outcome is not None:
        return _OUTCOMES[run.outcome]
    return "paused" if run.phase in ("paused", "pausing", "opened") else "running"


def _at(run: RunLike, t: float | None) -> str | None:
    return None if t is None else utc(run.wall(t))


def _report_step(run: RunLike, step: StepLike, number: int | None) -> ReportStep:
    plan = step.plan
    whole = step.started_t is not None and step.finished_t is not None
    return ReportStep(
        id=plan.id,
        status=str(step.status),
        owner=plan.owner,
        started_at=_at(run, step.started_t),
        finished_at=_at(run, step.finished_t),
        attempts=step.attempt,
        region=plan.site,
        why=step.error or step.reason,
        number=number,
        title=plan.title,
        uses=plan.uses,
        seconds=round((step.finished_t or 0) - (step.started_t or 0), 6) if whole else None,
        simulated=plan.simulated,
        part=plan.part,
    )


def _spans(run: RunLike) -> Iterable[Span]:
    """The runbook's own steps; one that was skipped unstarted takes no time but hands on what it waited for."""
    for step in run.steps.values():
        if step.plan.part == "runbook" and step.finished_t is not None:
            started = step.finished_t if step.started_t is None else step.started_t
            yield Span(step.plan.id, step.plan.needs, started, step.finished_t)


def _recovery_time(found: Recovery | None, objective: float | None, *, ended: bool) -> RecoveryTime:
    if found is None:
        return RecoveryTime(objective_seconds=objective)
    met = None
    if objective is not None and found.seconds is not None:
        met = found.seconds <= objective
    elif objective is not None and ended and found.outage_started_t is not None and found.recovered_t is None:
        met = False  # the run is over and users are still not served
    split = found.phases
    return RecoveryTime(
        seconds=found.seconds,
        objective_seconds=objective,
        met=met,
        outage_started_at=found.outage_started_at,
        recovered_at=found.recovered_at,
        phases=PhaseSeconds(**split.model_dump()) if split is not None else PhaseSeconds(),
        probe_interval_seconds=found.probe_interval_s,
        failed_probes=found.failed_probes,
        reason=found.reason,
        confirmed_for_seconds=found.window_s,
        success_objective=found.objective,
        largest_gap_seconds=found.largest_gap_s,
        relapses=tuple(
            Relapse(
                started_at=relapse.started_at,
                recovered_at=relapse.recovered_at,
                seconds=relapse.seconds,
                failed_probes=relapse.failed_probes,
            )
            for relapse in found.relapses
        ),
    )


def _data_loss(found: Loss | None, objective: float | None) -> DataLoss:
    if found is None:
        return DataLoss(objective_seconds=objective)
    window = found.window_seconds
    return DataLoss(
        window_seconds=window,
        objective_seconds=objective,
        met=None if window is None or objective is None else window <= objective,
        acknowledged=found.acknowledged,
        survived=found.survived,
        lost=found.lost,
        lost_ids=found.lost_ids,
        unacknowledged_present=found.unacknowledged_present,
        holes=found.holes,
        reason=found.reason,
    )


def _overrides(run: RunLike) -> Iterable[Override]:
    for override in run.overrides:
        by, loss_s = override.get("by"), override.get("loss_s")
        persons = [named(person) for person in by if isinstance(person, dict)] if isinstance(by, list) else []
        yield Override(
            step=str(override.get("step")),
            by=tuple(persons),
            stated_loss_seconds=float(loss_s) if isinstance(loss_s, int | float) else None,
        )


def _evidence(rows: Sequence[Row], findings: Findings) -> Evidence:
    try:
        for _ in verified(rows):
            pass
        whole = True
    except Tampered:
        whole = False
    return Evidence(
        journal_head=rows[-1].hash,
        events=len(rows),
        verified=whole,
        readings=tuple(
            ReadingsEvidence(kind=ref.kind, path=ref.path, head=ref.head, count=ref.count) for ref in findings.readings
        ),
        readings_verified=findings.verified,
    )


def _not_measured(findings: Findings) -> tuple[str, ...]:
    reasons = list(findings.reasons)
    if findings.recovery is None and not reasons:
        reasons.append("the run names no readings: recovery time and data loss were not measured")
    if findings.recovery is not None and findings.recovery.reason is not None:
        reasons.append(f"recovery time: {findings.recovery.reason}")
    if findings.loss is not None and findings.loss.reason is not None:
        reasons.append(f"data loss: {findings.loss.reason}")
    return tuple(dict.fromkeys(reasons))
