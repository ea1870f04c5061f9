# ruff: noqa: E501 - the contract reads better in long lines
from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import report_made_up as made_up
from report_made_up import DANA, WALL

from drkit.errors import JournalError
from drkit.model.events import Asked, Finished, Noted, Ordered, Row
from drkit.model.measurements import Findings
from drkit.model.values import Json, utc
from drkit.report import build, render
from drkit.report.story import Story

#: The contract with scripts, as the command line's manual shows it.
CONTRACT: dict[str, Any] = {
    "schema": "drkit.report/1", "kind": "drill", "run": "k7qd", "runbook": {"name": "", "digest": ""}, "environment": "",
    "source": "", "target": "", "outcome": "", "started_at": "", "finished_at": "",
    "recovery_time": {
        "seconds": 0, "objective_seconds": 0, "met": True, "outage_started_at": "", "recovered_at": "",
        "phases": {"detect": 0, "decide": 0, "execute": 0, "converge": 0}, "probe_interval_seconds": 0, "failed_probes": 0,
    },
    "data_loss": {
        "window_seconds": 0, "objective_seconds": 0, "met": True, "acknowledged": 0, "survived": 0, "lost": 0, "lost_ids": [],
        "unacknowledged_present": 0, "holes": 0,
    },
    "steps": [{
        "id": "", "status": "", "owner": "", "started_at": "", "finished_at": "", "attempts": 0, "region": "", "why": None,
    }],
    "critical_path": [], "makespan_seconds": 0, "critical_path_seconds": 0,
    "faults": [{
        "id": "", "fault": "", "injected_at": "", "reverted_at": "", "reverted_by": "", "verified_clean": True,
    }],
    "leaks": [], "evidence": {"journal_head": "", "events": 0, "verified": True},
}  # fmt: skip


def story(**how: Any) -> Story:
    made = made_up.drill(**how)
    return build(made.rows, made.state, made.findings)


def as_json(told: Story) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(render(told, "json"))
    return found


def missing(contract: object, found: object, at: str = "") -> list[str]:
    """Keys of the contract that are not there."""
    if isinstance(contract, dict) and isinstance(found, dict):
        gone = [f"{at}.{key}" for key in contract if key not in found]
        return gone + [m for key in contract if key in found for m in missing(contract[key], found[key], f"{at}.{key}")]
    if isinstance(contract, list) and contract and isinstance(found, list):
        return [m for item in found for m in missing(contract[0], item, f"{at}[]")]
    return []


def test_json_has_every_key_of_the_contract_whatever_was_measured() -> None:
    assert missing(CONTRACT, as_json(story())) == []
    bare = as_json(story(alter=lambda _: Findings(), finish=False))
    assert missing(CONTRACT, bare) == []
    assert bare["recovery_time"]["seconds"] is bare["data_loss"]["lost"] is bare["finished_at"] is None
    assert bare["recovery_time"]["phases"] == dict.fromkeys(("detect", "decide", "execute", "converge"))
    assert bare["recovery_time"]["objective_seconds"] == 60
    assert bare["not_measured"] == ["the run names no readings: recovery time and data loss were not measured"]


def test_a_drill_that_met_its_objectives() -> None:
    told = story()
    report = told.report
    assert (report.kind, report.outcome, report.verdict, told.verdict.tone) == ("drill", "done", "met", "good")
    assert report.recovery_time.met is True and report.recovery_time.seconds == pytest.approx(15.8, abs=0.11)
    assert report.data_loss.lost == 7 and report.data_loss.holes == 0 and report.data_loss.met is True
    assert report.summary == (
        "Users were served again after 15.8 s (objective 60 s); 7 of 927 acknowledged writes lost, a window of 0.17 s "
        "(objective 5 s); 9 of 9 steps done, 1 of them simulated."
    )
    assert report.started_at == utc(WALL)
    assert report.evidence.verified and report.evidence.events == len(made_up.drill().rows)
    assert told.anchor is not None and told.anchor.startswith("event ")


def test_steps_are_numbered_as_in_the_runbook_and_what_a_scenario_adds_has_no_number() -> None:
    told = story()
    numbers = {step.id: step.number for step in told.report.steps}
    assert (numbers["steady"], numbers["outage"], numbers["heal:outage"]) == (None, None, None)
    assert [numbers[id] for id in ("assess", "declare", "watch")] == [1, 2, 9]


def test_the_critical_path_is_of_the_runbook_alone() -> None:
    report = story().report
    assert report.critical_path == ("assess", "declare", "fence", "promote", "deploy", "traffic", "watch")
    assert report.critical_path_seconds == pytest.approx(0.6 + 0.4 + 6.2 + 0.9 + 4.4 + 0.5 + 5.0, abs=0.1)
    assert report.makespan_seconds is not None and report.critical_path_seconds is not None
    assert report.critical_path_seconds <= report.makespan_seconds < report.critical_path_seconds + 0.5


def test_what_was_seen_before_and_after_is_shown_field_by_field() -> None:
    promote = next(step for step in story().steps if step.id == "promote")
    assert [(s.name, s.before, s.after, s.changed) for s in promote.seen] == [
        ("role", "standby", "primary", True), ("lag_s", "0.1", "0.1", False), ("timeline", None, "2", False),
    ]  # fmt: skip
    assert promote.seen_by is not None and promote.seen_by.startswith("7412 answered at ")
    assert promote.irreversible and promote.critical


def test_who_approved_what_and_how_it_is_known() -> None:
    (approval,) = story().approvals
    assert (approval.step, approval.answer, approval.name, approval.role) == (
        "declare",
        "approve",
        "dana",
        "incident-commander",
    )
    assert approval.identity == "unix socket peer, uid 1000"
    assert approval.shown == (("question", "Go?"), ("loss_s", "0.8")) and approval.counted


def test_an_answer_to_something_else_is_shown_as_void() -> None:
    made = made_up.drill()
    changed = made_up.chained([
        replace(row.fact, shown_hash="sha256:2") if isinstance(row.fact, Asked) else row.fact for row in made.rows
    ])  # fmt: skip
    (approval,) = build(changed, made.state, made.findings).approvals
    assert not approval.counted
    assert "approve, void" in render(build(changed, made.state, made.findings), "html")


def test_the_fault_and_its_healing_are_in_the_ledger() -> None:
    report = story().report
    (fault,) = report.faults
    assert (fault.id, fault.fault, fault.reverted_by, fault.verified_clean) == (
        "outage",
        "region.outage",
        "drkit",
        True,
    )
    assert fault.injected_at is not None and fault.reverted_at is not None and fault.injected_at < fault.reverted_at
    assert report.recovery_time.outage_started_at is not None
    assert fault.injected_at <= report.recovery_time.outage_started_at
    assert report.leaks == ()


def test_a_fault_that_was_not_healed_is_a_leak_and_spoils_the_verdict() -> None:
    told = story(steps=made_up.STEPS[:-1])
    assert told.report.leaks == ("outage",)
    assert told.verdict.tone == "bad" and "1 fault left behind: outage" in told.verdict.line


@pytest.mark.parametrize(
    ("rto_s", "rpo_s", "verdict"), [(60.0, 5.0, "met"), (10.0, 5.0, "missed"), (60.0, 0.1, "missed"), (None, 5.0, "met"), (None, None, "unproven")]
)  # fmt: skip
def test_objectives_decide_the_verdict(rto_s: float | None, rpo_s: float | None, verdict: str) -> None:
    assert story(rto_s=rto_s, rpo_s=rpo_s).report.verdict == verdict


def test_what_was_not_measured_is_never_met() -> None:
    told = story(alter=lambda found: found.model_copy(update={"loss": None}))
    assert told.report.verdict == "unproven" and told.report.data_loss.met is None
    assert "data loss was not measured" in told.verdict.line


def test_users_who_are_never_served_again_miss_the_objective() -> None:
    made = made_up.drill(stop_at="fence", finish=False)
    ended = made_up.chained(
        [*(row.fact for row in made.rows), Finished(t=90.0, outcome="failed", why="the fence failed")]
    )
    from drkit.engine.fold import replay

    told = build(ended, replay(ended).state, made.findings)
    assert (told.report.outcome, told.report.recovery_time.met) == ("failed", False)
    assert told.verdict.word == "FAILED" and "users were not served again" in told.verdict.line.lower()
    fence = next(step for step in told.steps if step.id == "fence")
    assert (fence.status, fence.tone) == ("failed", "bad")
    assert fence.remark is not None and "renew its lease" in fence.remark


def test_a_run_that_is_not_over_says_how_it_stands() -> None:
    assert story(stop_at="fence", finish=False).report.outcome == "paused"
    assert story(finish=False).report.outcome in ("running", "paused")


def test_an_overridden_fence_is_said_first_and_in_red() -> None:
    lee: dict[str, Json] = {"name": "lee", "uid": 1001, "how": "unix socket peer", "roles": ["database-owner"]}
    made = made_up.drill(stop_at="fence", finish=False)
    t = made.rows[-1].fact.t
    overriding = made_up.chained([
        *(row.fact for row in made.rows),
        Ordered(t=t + 1, verb="override-fence", by=DANA, step="fence", reason="the region is gone", args={"loss_s": 4.0}),
        Asked(t=t + 2, step="fence", shown={"loss_s": 4.0}, shown_hash="sha256:9", purpose="override-fence"),
        made_up.answered(t + 3, "fence", lee, made.state.plan_hash, "sha256:9"),
    ])  # fmt: skip
    from drkit.engine.fold import replay

    told = build(overriding, replay(overriding).state, made.findings)
    (override,) = told.report.fence_overrides
    assert (override.step, override.by, override.stated_loss_seconds) == ("fence", ("dana", "lee"), 4.0)
    assert told.verdict.line.startswith("The fence was overridden by dana and lee") and told.verdict.tone == "bad"
    fence = next(step for step in told.steps if step.id == "fence")
    assert fence.tone == "bad" and "on the word of two persons" in str(fence.remark)
    said = {
        approval.name: (approval.answer, approval.reason) for approval in told.approvals if approval.step == "fence"
    }
    assert said["dana"] == ("override", "the region is gone") and said["lee"][0] == "approve"
    moments = {moment.what: moment.tone for moment in told.moments}
    assert moments["Passed, not fenced: fence"] == "bad" and "Fenced: fence" not in moments
    page = render(told, "html")
    assert '<section class="alarm"><b>Fence overridden.</b>' in page
    assert "FENCE OVERRIDDEN" in render(told, "md")


def test_a_touched_journal_or_touched_readings_do_not_pass_for_evidence() -> None:
    made = made_up.drill()
    rows = list(made.rows)
    rows[4] = Row(rows[4].seq, "2026-01-01T00:00:00.000Z", rows[4].fact, rows[4].commands, rows[4].prev, rows[4].hash)
    told = build(rows, made.state, made.findings)
    assert told.report.evidence.verified is False and told.verdict.tone == "bad"
    assert "the evidence does not verify" in told.verdict.line
    torn = story(alter=lambda found: found.model_copy(update={"verified": False}))
    assert torn.verdict.tone == "bad"


def test_a_journal_without_a_beginning_has_no_report() -> None:
    made = made_up.drill()
    with pytest.raises(JournalError, match="does not begin"):
        build(made.rows[1:], made.state, made.findings)


def test_moments_are_in_order_and_tell_of_users_and_run() -> None:
    told = story(more=[Noted(t=9.0, text="AWS confirms", by=DANA)])
    times = [moment.at_s for moment in told.moments]
    assert times == sorted(times)
    said = [moment.what for moment in told.moments]
    order = ["Fault injected: region.outage", "Users see errors", "Detected", "Approved: declare", "Note", "Fenced: fence",
             "Point of no return: promote", "Promoted: promote", "Users are served again", "Run ended: done"]  # fmt: skip
    assert [what for what in said if what in order] == order


def test_the_report_imports_nothing_that_could_look_further_than_journal_and_readings() -> None:
    folder = Path(build.__code__.co_filename).parent
    imported = {
        name for file in folder.glob("*.py") for name in re.findall(r"from (drkit[\w.]*) import", file.read_text())
    }
    assert {name for name in imported if not name.startswith(("drkit.model", "drkit.report", "drkit.errors"))} == set()
