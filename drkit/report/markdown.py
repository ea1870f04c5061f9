"""The report as Markdown, for tickets, chats and diffs: the same order as the page, without pictures."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from drkit.report.contract import Hypothesis, ReportFault
from drkit.report.story import StepStory, Story
from drkit.report.wording import clock, count, day, kept, seconds, took


def as_markdown(story: Story) -> str:
    """The whole report as text."""
    return "\n".join(_lines(story)) + "\n"


def _lines(story: Story) -> Iterator[str]:
    report = story.report
    yield f"# {'Drill' if report.drill else 'Run'} {report.run}: {story.verdict.word}"
    yield ""
    yield f"**{_plain(story.verdict.line)}**"
    yield ""
    for override in report.fence_overrides:
        loss = seconds(override.stated_loss_seconds)
        yield f"> **FENCE OVERRIDDEN** at `{override.step}` by {_plain(' and '.join(override.by))}; stated loss {loss}."
        yield ""
    yield from _table(("", ""), _facts(story))
    yield from _section("Objectives", _table(("", "measured", "objective", "met"), _objectives(story)))
    if report.not_measured:
        yield from _section("Not measured", (f"- {_plain(reason)}" for reason in report.not_measured))
    yield from _section(
        "Timeline (UTC)",
        _table(
            ("at", "what", "detail", "from"),
            ((clock(m.at_s), m.what, m.detail, m.source) for m in story.moments),
        ),
    )
    yield from _section("Steps", _table(("#", "step", "status", "took", "owner", "observed"), map(_step, story.steps)))
    yield from _section(
        "Critical path", [f"{' → '.join(report.critical_path) or 'no step ended'}", "", _lengths(story)]
    )
    yield from _section("Who approved what", _approvals(story))
    if report.faults:
        rows = (
            (f.id, f.fault, f.injected_at or "-", _reverted(f), f.reverted_by or "-", _clean(f)) for f in report.faults
        )
        yield from _section("Faults", _table(("id", "fault", "injected", "reverted", "by", "verified clean"), rows))
    if report.data_loss.lost_ids:
        ids = ", ".join(f"`{id}`" for id in report.data_loss.lost_ids)
        yield from _section(f"Lost writes ({count(len(report.data_loss.lost_ids), 'id')})", [ids])
    if story.shortened:
        rows5 = ((s.name, str(s.default), str(s.value), s.by) for s in story.shortened)
        yield from _section("Changed parameters", _table(("parameter", "default", "here", "by"), rows5))
    yield from _section("Evidence", _evidence(story))


def _facts(story: Story) -> Iterator[tuple[str, ...]]:
    report = story.report
    yield "Moved", f"{report.source} → {report.target}"
    yield "Environment", f"{report.environment} ({story.plan.environment_kind}), account {story.plan.account}"
    yield "Kind", f"{report.kind}, {'a drill' if report.drill else 'real'}, {story.plan.mode}"
    yield "Runbook", f"{report.runbook.name} `{report.runbook.digest}`"
    if report.scenario:
        yield "Scenario", f"{report.scenario}: {story.plan.hypothesis or ''}"
    if report.hypothesis is not None:
        yield "Hypothesis", _held(report.hypothesis)
    if report.abort is not None:
        took_s = report.abort.latency_seconds
        left = "not all healed by this run" if report.abort.broken else "nothing was broken"
        healed = left if took_s is None else f"all healed {seconds(took_s)} later"
        yield "Stopped", f"{report.abort.at} by {report.abort.by} ({report.abort.how}): {report.abort.reason}; {healed}"
    yield "Started", f"{day(story.began_s)} by {story.opened_by} on {story.host}"
    if report.deadline is not None:
        yield "Deadline", f"{seconds(report.deadline.seconds)} after the go: {kept(report.deadline.passed)}"
    if story.incident:
        yield "Incident", story.incident


def _held(hypothesis: Hypothesis) -> str:
    if hypothesis.held is None:
        return "not looked at to the end"
    return "held" if hypothesis.held else f"FALSE: {'; '.join(hypothesis.deviations)}"


def _objectives(story: Story) -> Iterator[tuple[str, ...]]:
    recovery, loss = story.report.recovery_time, story.report.data_loss
    yield "Recovery time", seconds(recovery.seconds), _objective(recovery.objective_seconds), _yes(recovery.met)
    yield "Data-loss window", seconds(loss.window_seconds), _objective(loss.objective_seconds), _yes(loss.met)
    if loss.lost is not None:
        yield "Acknowledged writes lost", f"{loss.lost:,} of {loss.acknowledged:,}", "", ""
    for name, value in recovery.phases.model_dump().items():
        yield f"- {name}", seconds(value), "", ""


def _step(step: StepStory) -> tuple[str, ...]:
    marks = [
        mark
        for mark, holds in (
            ("critical", step.critical), ("simulated", step.simulated), ("irreversible", step.irreversible),
        )
        if holds
    ]  # fmt: skip
    observed = "; ".join(
        f"{seen.name}: {f'{seen.before} → ' if seen.changed else ''}{seen.after}" for seen in step.seen[:6]
    )
    status = f"{step.status} ({', '.join(marks)})" if marks else step.status
    said = "; ".join(part for part in (step.remark, observed) if part)
    return str(step.number or ""), f"{step.title} (`{step.id}`)", status, took(step.seconds), step.owner, said


def _lengths(story: Story) -> str:
    report = story.report
    return f"{seconds(report.critical_path_seconds)} of a makespan of {seconds(report.makespan_seconds)}."


def _approvals(story: Story) -> Iterable[str]:
    if not story.approvals:
        return ["Nothing in this run asked for an approval."]
    rows = (
        (
            a.at,
            a.step,
            a.answer,
            f"{a.name} as {a.role or 'a person'}",
            a.identity,
            a.reason,
            "yes" if a.counted else "no",
        )
        for a in story.approvals
    )
    return _table(("at", "step", "answer", "by", "identified by", "reason", "counted"), rows)


def _evidence(story: Story) -> Iterator[str]:
    evidence = story.report.evidence
    yield f"- Journal: {count(evidence.events, 'event')}, head `{evidence.journal_head}`, "
    yield f"  chain {'verified' if evidence.verified else '**does not verify**'}"
    for ref in evidence.readings:
        yield f"- {ref.kind}: {count(ref.count, 'line')}, head `{ref.head}`, `{ref.path}`"
    if evidence.readings_verified is not None:
        yield f"- Readings: {'verified' if evidence.readings_verified else '**do not verify**'}"
    known = f"at least up to {story.anchor}" if story.anchor else "not known from the journal"
    yield f"- Copied outside this machine: {known}; `drkit evidence verify {story.report.run}` asks the state store"
    yield f"- Plan `{story.plan_hash}`, drkit {story.drkit}"


def _section(title: str, body: Iterable[str]) -> Iterator[str]:
    yield ""
    yield f"## {title}"
    yield ""
    yield from body


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(_cell(text) for text in row)} |"


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|").replace("<", "&lt;")


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("<", "&lt;").replace("*", "\\*")


def _objective(of: float | None) -> str:
    return "none set" if of is None else seconds(of)


def _reverted(fault: ReportFault) -> str:
    return fault.reverted_at or ("-" if fault.injected_at is None else "not")


def _clean(fault: ReportFault) -> str:
    return fault.simulated if fault.verified_clean is None and fault.simulated else _yes(fault.verified_clean)


def _yes(met: bool | None) -> str:
    return {True: "yes", False: "**no**", None: "not measured"}[met]
