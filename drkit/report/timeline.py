"""The moments that matter, users' and the run's, on one line of time. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from drkit.model.events import (
    Answered,
    Asked,
    Began,
    Copied,
    Failed,
    Finished,
    Fired,
    LeaseChanged,
    Noted,
    Opened,
    Ordered,
    Prepared,
    Refusal,
    Resumed,
    Row,
    Uncertain,
)
from drkit.model.measurements import Findings
from drkit.report import breaking
from drkit.report.contract import ReportFault
from drkit.report.folded import RunLike
from drkit.report.people import named
from drkit.report.story import Moment, Tone
from drkit.report.wording import count, instant, seconds

_BY: Final = {"drkit": "by drkit", "lease": "by its lease", "sweep": "by a sweep"}
_UNSEEN: Final = "nobody saw whether by drkit or by its lease"


def moments(rows: Sequence[Row], run: RunLike, findings: Findings, faults: Sequence[ReportFault]) -> list[Moment]:
    """In the order they happened. Steps appear only where they decide something; all of them are in the table."""
    found = [*_of_users(findings), *_of_journal(rows, run), *_of_steps(rows, run, faults)]
    return sorted(found, key=lambda moment: moment.at_s)


def _of_users(findings: Findings) -> Iterable[Moment]:
    seen = findings.recovery
    if seen is None:
        return
    if seen.outage_started_at is not None:
        yield Moment(instant(seen.outage_started_at), "Users see errors", "first failed journey", "bad", "users")
    if seen.recovered_at is not None:
        detail = f"{count(seen.failed_probes or 0, 'journey')} failed; held for {seconds(seen.window_s)} after"
        yield Moment(instant(seen.recovered_at), "Users are served again", detail, "good", "users")
    for relapse in seen.relapses:
        detail = "not over when the readings end" if relapse.seconds is None else f"for {seconds(relapse.seconds)}"
        yield Moment(instant(relapse.started_at), "Users see errors again", detail, "bad", "users")
    if findings.loss is not None and findings.loss.first_lost_at is not None:
        what = f"First of {count(findings.loss.lost, 'acknowledged write')} that {_are(findings.loss.lost)} lost"
        yield Moment(instant(findings.loss.first_lost_at), what, "acknowledged, not there afterwards", "bad", "users")


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _of_journal(rows: Sequence[Row], run: RunLike) -> Iterable[Moment]:
    uncopied = False
    standing: set[str] = set()  # gates whose question nobody has answered
    for row in rows:
        _asked(standing, row)
        fact, at_s = row.fact, run.wall(row.fact.t)
        told: tuple[str, str, Tone] | None = None
        match fact:
            case Opened():
                told = ("Run opened", f"by {named(fact.by)} on {fact.host}", "plain")
            case Began():
                told = ("Go", f"{named(fact.by)}{f', typed {fact.confirmed}' if fact.confirmed else ''}", "plain")
            case Resumed():
                told = ("Resumed by a new runner", f"{named(fact.by)} on {fact.host}", "doubtful")
            case LeaseChanged(state="lost"):
                told = ("Lease lost", fact.detail or "", "bad")
            case Copied() if (fact.error is not None) != uncopied:
                uncopied = fact.error is not None
                told = ("State store down", fact.error or "", "bad") if uncopied else ("State store back", "", "plain")
            case Answered():
                word = "Approved" if fact.answer == "approve" else "Rejected"
                told = (
                    f"{word}: {fact.step}",
                    f"{named(fact.by)} as {fact.role or 'a person'}: {fact.reason}",
                    "plain",
                )
            case Ordered():
                about = f" {fact.step}" if fact.step else ""
                tone: Tone = "bad" if fact.verb in ("override-fence", "abort") else "doubtful"
                told = (f"Ordered: {fact.verb}{about}", f"{named(fact.by)}: {fact.reason or 'no reason given'}", tone)
            case Refusal():
                told = (f"Refused: {fact.verb}", f"{named(fact.by)}: {fact.why}", "doubtful")
            case Fired() if fact.timer == "deadline" and run.overdue:
                limit = seconds(run.plan.deadline_s)
                told = ("Deadline passed", f"not over within {limit}: nothing new is begun by itself", "bad")
            case Fired() if (asked := _escalated(fact.timer, run, standing)) is not None:
                told = (f"Nobody has answered: {asked[0]}", f"{asked[1]} is asked too", "doubtful")
            case Failed():
                told = (f"Failed: {fact.step}", f"attempt {fact.attempt}: {fact.error}", "bad")
            case Uncertain():
                told = (f"Outcome unknown: {fact.step}", fact.reason, "bad")
            case Noted():
                told = ("Note", f"{named(fact.by)}: {fact.text}", "plain")
            case Prepared() if fact.step == run.point_of_no_return:
                told = (f"Point of no return: {fact.step}", "its intent is journaled", "doubtful")
            case Finished():
                told = (f"Run ended: {fact.outcome}", fact.why or "", "good" if fact.outcome == "done" else "bad")
            case _:
                pass
        if told is not None:
            yield Moment(at_s, *told, "journal")


def _asked(standing: set[str], row: Row) -> None:
    """Keep track of the questions of the runbook that stand open."""
    fact = row.fact
    if isinstance(fact, Asked) and fact.purpose == "gate":
        standing.add(fact.step)
    elif isinstance(fact, Answered) and fact.answer != "approve":
        standing.discard(fact.step)
    elif isinstance(fact, Fired) and fact.timer.startswith("ask "):
        standing.discard(fact.timer.split()[1])


def _escalated(timer: str, run: RunLike, standing: Collection[str]) -> tuple[str, str] | None:
    """The gate that this timer is about, and who is asked too from now on; None if it does not mean that."""
    verb, *rest = timer.split()
    if verb != "escalate" or rest[0] not in standing:
        return None
    later = run.steps[rest[0]].plan.params.get("escalate")
    asked = later[int(rest[2])] if isinstance(later, list) else None
    return (rest[0], str(asked.get("role"))) if isinstance(asked, dict) else None


def _of_steps(rows: Sequence[Row], run: RunLike, faults: Sequence[ReportFault]) -> Iterable[Moment]:
    never_injected = breaking.never_injected(run, rows)
    by = {fault.id: _BY[fault.reverted_by] for fault in faults if fault.reverted_by is not None}
    unobserved = {override.get("step") for override in run.overrides}
    for step in run.steps.values():
        if step.finished_t is None or str(step.status) not in ("done", "skipped"):
            continue
        plan, at_s = step.plan, run.wall(step.finished_t)
        if plan.part == "inject" and step.started_t is not None:
            yield Moment(run.wall(step.started_t), f"Fault injected: {plan.uses}", plan.id, "bad", "journal")
        elif plan.part == "heal" and plan.heals in never_injected:
            yield Moment(at_s, f"Nothing to heal: {plan.heals}", "it was never injected", "plain", "journal")
        elif plan.heals is not None:
            yield Moment(at_s, f"Fault healed: {plan.heals}", by.get(plan.heals, _UNSEEN), "plain", "journal")
        elif plan.part == "detect":
            yield Moment(at_s, "Detected", plan.title, "plain", "journal")
        elif plan.id in unobserved:
            yield Moment(at_s, f"Passed, not fenced: {plan.id}", "nobody saw the old writer stop", "bad", "journal")
        elif plan.fences:
            yield Moment(at_s, f"Fenced: {plan.id}", plan.title, "good", "journal")
        elif plan.promotes:
            yield Moment(at_s, f"Promoted: {plan.id}", plan.title, "good", "journal")
