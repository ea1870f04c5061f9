"""Files and journal in, findings out; and what is missing or was touched becomes a reason, not a guess."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drkit.measure import ledgers, readings
from drkit.measure.findings import Instants, findings, instants, journaled
from drkit.measure.readings import ReadingsWriter
from drkit.model.events import GENESIS, Answered, Began, Done, Fact, Measured, Opened, Ordered, Prepared, Resumed, Row
from drkit.model.measurements import ReadingsRef
from drkit.model.plan import Plan, PlanStep
from drkit.model.values import Json, utc

T0 = 1000.0  # of the boot clock, and the wall clock at the same time:
WALL = 1e9
HERE = frozenset({socket.gethostname()})


def stamp(t: float) -> dict[str, Json]:
    return {"t": round(T0 + t, 6), "at": utc(WALL + t)}


def outage(folder: Path, *, down: tuple[float, float] = (20.0, 40.0), lost: int = 7) -> list[ReadingsRef]:
    """Sixty seconds of readings around an outage; the last `lost` canaries before it did not survive."""
    settings: dict[str, Any] = {"window_s": 5.0, "objective": 0.99, "timeout_s": 2.0}
    with ReadingsWriter(folder / "probes-a.jsonl", id="a", kind="probes", interval_s=0.1, settings=settings) as probes:
        for number in range(600):
            t = number / 10
            kind = "order" if (number + number // 20) % 2 else "browse"
            probes.write({**stamp(t), "what": "sent", "j": number, "kind": kind, "client": number % 20})
            if number < 598:  # the last two are still on their way
                outcome = "error" if down[0] <= t < down[1] else "ok"
                probes.write({**stamp(t + 0.01), "what": "result", "j": number, "outcome": outcome})
    survivors: list[int] = []
    with ReadingsWriter(folder / "canary-a.jsonl", id="a", kind="canary") as canary:
        writes = [t for t in range(600) if not down[0] <= t / 10 < down[1]]
        for number in range(600):
            canary.write({**stamp(number / 10), "what": "alive"})
            if number in writes:
                entry: dict[str, Json] = {
                    "what": "write",
                    "outcome": "acknowledged",
                    "n": number,
                    "site": "east" if number < 300 else "west",
                }
                canary.write({**stamp(number / 10 + 0.005), **entry})
                if not down[0] * 10 - lost <= number < down[0] * 10:
                    survivors.append(number)
    with ReadingsWriter(folder / "orders-a.jsonl", id="a", kind="orders") as orders:
        orders.write({**stamp(1.0), "what": "order", "outcome": "acknowledged", "order_id": "x", "j": 10, "client": 10})
    present = folder / "present-a.jsonl"
    ledgers.write_present(present, id="a", canary=survivors, orders=["x"], source={"answered_by": "7412"})
    return [readings.head(folder / f"{kind}-a.jsonl") for kind in ("probes", "canary", "orders", "present")]


WHEN = Instants(
    opened_s=WALL + 21.0,
    detected_s=WALL + 21.0,
    decided_s=WALL + 22.0,
    fenced_s=WALL + 25.0,
    caused_s=None,
    changes_s=(WALL + 25.0, WALL + 38.0, WALL + 44.0),
    hosts=HERE,
)


@pytest.fixture(autouse=True)
def _long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are written as if both clocks stood a second before the story."""
    monkeypatch.setattr(readings, "boottime", lambda: T0 - 1)
    monkeypatch.setattr(time, "time", lambda: WALL - 1)


def test_recovery_and_loss_come_out_of_the_files_alone(tmp_path: Path) -> None:
    found = findings(outage(tmp_path), WHEN)
    assert found.reasons == () and found.verified is True
    assert found.recovery is not None and found.recovery.seconds == pytest.approx(20.0)
    assert found.recovery.relapses == ()  # two unanswered journeys at the end of the file are not an outage
    split = found.recovery.phases
    assert split is not None and (split.detect, split.decide, split.execute, split.converge) == (1.0, 1.0, 16.0, 2.0)
    assert found.loss is not None
    assert (found.loss.acknowledged, found.loss.lost, found.loss.holes) == (401, 7, 0)
    assert found.loss.window_seconds == pytest.approx(0.7)
    assert (found.journeys[0].sent_t, found.journeys[-1].sent_t) == (T0 + 10.0, T0 + 50.0)
    assert sum(point.lost for point in found.writes) == 7


def test_readings_that_were_touched_are_not_used(tmp_path: Path) -> None:
    refs = outage(tmp_path)
    path = Path(refs[0].path)
    path.write_bytes(path.read_bytes().replace(b'"outcome":"error"', b'"outcome":"ok"', 50))
    found = findings(refs, WHEN)
    assert found.verified is False and found.recovery is None
    assert any("does not continue the chain" in reason for reason in found.reasons)
    assert found.loss is not None and found.loss.window_seconds is None  # when the outage began is not known


def test_without_a_prober_or_a_comparison_figures_are_none_with_reasons(tmp_path: Path) -> None:
    refs = outage(tmp_path)
    nothing = findings([], WHEN)
    assert (nothing.recovery, nothing.loss, nothing.verified) == (None, None, None)
    assert len(nothing.reasons) == 2
    uncompared = findings(refs[:3], WHEN)
    assert uncompared.loss is None and "was not compared" in uncompared.reasons[0]


def test_two_machines_are_not_compared(tmp_path: Path) -> None:
    found = findings(outage(tmp_path), replace(WHEN, hosts=HERE | {"bastion-2"}))
    assert "not made on one machine" in found.reasons[0]
    assert found.recovery is not None and found.recovery.seconds == pytest.approx(20.0)  # measured on one clock alone
    assert found.recovery.phases is None
    assert found.loss is not None and found.loss.window_seconds is None


def test_a_wall_clock_that_was_set_meanwhile_places_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: WALL + 2)
    found = findings(outage(tmp_path), WHEN)
    assert "the wall clock was set by -3.0" in found.reasons[0]
    assert found.recovery is not None and found.recovery.seconds is not None and found.recovery.phases is None


def test_a_blip_before_the_drill_broke_anything_is_not_the_outage(tmp_path: Path) -> None:
    refs = outage(tmp_path, down=(20.0, 21.0))
    assert findings(refs, replace(WHEN, opened_s=WALL + 15)).recovery.seconds == pytest.approx(1.0)  # type: ignore[union-attr]
    late = findings(refs, replace(WHEN, opened_s=WALL + 15, caused_s=WALL + 30))
    assert late.recovery is not None and late.recovery.seconds is None
    assert late.recovery.reason == "no outage: the success rate never fell below the objective"


def test_an_overridden_or_unobserved_fence_leaves_the_window_open(tmp_path: Path) -> None:
    found = findings(outage(tmp_path, lost=0), replace(WHEN, fenced_s=None))
    assert found.loss is not None and (found.loss.lost, found.loss.window_seconds) == (0, None)
    assert found.loss.reason == "when the old primary was fenced was not observed"


def test_copies_beside_the_report_are_found_and_verified(tmp_path: Path) -> None:
    refs = outage(tmp_path)
    copies = tmp_path / "copies"
    copies.mkdir()
    for ref in refs:
        Path(ref.path).rename(copies / Path(ref.path).name)
    assert findings(refs, WHEN).verified is False
    assert findings(refs, WHEN, folders=[copies]).verified is True


def plan() -> Plan:
    step = {"uses": "x.y", "kind": "action", "number": 1}
    return Plan.model_validate(
        {
            "schema": "drkit.plan/1", "runbook": "r", "runbook_digest": "sha256:0", "environment": "sandbox",
            "environment_kind": "sandbox", "account": "x", "source": "a", "target": "b", "catalog": "c", "drkit": "0",
            "steps": [
                PlanStep.model_validate({**step, "id": "fence", "fences": True}),
                PlanStep.model_validate({**step, "id": "promote", "promotes": True}),
                PlanStep.model_validate({**step, "id": "look", "kind": "probe"}),
            ],
        }
    )  # fmt: skip


def rows(facts: Sequence[Fact]) -> list[Row]:
    made: list[Row] = []
    for seq, fact in enumerate(facts, start=1):
        made.append(Row.link(seq, "", fact, (), made[-1].hash if made else GENESIS))
    return made


def opened(t: float) -> Opened:
    return Opened(
        t=t, run="k7qd", run_kind="drill", plan={}, plan_hash="", drkit="0", catalog="", by={}, host="h", wall=WALL + t
    )


def promotion(t: float, step: str = "promote") -> Prepared:
    return Prepared(t=t, step=step, attempt=1, params={}, before=None)


def approval(t: float, answer: str = "approve") -> Answered:
    return Answered(t=t, step="go", answer=answer, by={}, role="ic", reason="", plan_hash="", shown_hash="")


def done(t: float, step: str) -> Done:
    return Done(t=t, step=step, attempt=1, after=None)


def test_instants_of_a_run_are_read_from_its_journal() -> None:
    facts: list[Fact] = [
        opened(1.0), Began(t=2.0, by={}), approval(2.5, "reject"), approval(3.0), done(4.0, "fence"), promotion(5.0),
        done(6.0, "promote"), done(7.0, "look"), approval(9.0),
    ]  # fmt: skip
    found = instants(rows(facts), plan())
    assert (found.opened_s, found.detected_s, found.decided_s) == (WALL + 1, WALL + 1, WALL + 3)
    assert (found.fenced_s, found.caused_s, found.changes_s) == (WALL + 4, None, (WALL + 4, WALL + 6))
    assert found.hosts == {"h"}


def test_the_runs_clock_stands_still_between_two_runners() -> None:
    facts: list[Fact] = [
        opened(1.0), Began(t=2.0, by={}), Resumed(t=3.0, by={}, host="h", wall=WALL + 103.0), done(4.0, "fence"),
    ]  # fmt: skip
    assert instants(rows(facts), plan()).fenced_s == WALL + 104


def test_in_a_drill_what_is_broken_is_no_change_and_detection_decides() -> None:
    drilled = plan()
    parts = {"inject": "inject", "detect": "detect", "heal:inject": "heal"}
    extra = [
        drilled.steps[2].model_copy(update={"id": id, "kind": "action", "part": part}) for id, part in parts.items()
    ]
    drilled = drilled.model_copy(update={"steps": (*extra, *drilled.steps)})
    facts: list[Fact] = [
        opened(1.0), Began(t=2.0, by={}), promotion(3.0, "inject"), done(4.0, "inject"), done(5.0, "detect"),
        done(6.0, "fence"), promotion(7.0), done(8.0, "heal:inject"),
    ]  # fmt: skip
    found = instants(rows(facts), drilled)
    assert (found.caused_s, found.detected_s, found.decided_s) == (WALL + 3, WALL + 5, WALL + 5)
    assert found.changes_s == (WALL + 6,)


def test_an_approval_after_the_promotion_did_not_decide_and_an_overridden_fence_is_no_fence() -> None:
    facts: list[Fact] = [
        opened(1.0), Began(t=2.0, by={}), Ordered(t=3.0, verb="override-fence", by={}, step="fence"),
        done(4.0, "fence"), promotion(5.0), approval(9.0),
    ]  # fmt: skip
    found = instants(rows(facts), plan())
    assert (found.decided_s, found.fenced_s) == (WALL + 2, None)


def test_of_each_readings_file_the_last_reference_counts(tmp_path: Path) -> None:
    refs = outage(tmp_path)
    early = refs[0].model_copy(update={"count": 3, "head": "sha256:x"})
    facts = [opened(1.0), *(Measured(t=2.0, readings=ref.model_dump(mode="json")) for ref in (early, *refs))]
    assert journaled(rows(facts)) == tuple(refs)


def test_ledgers_count_as_they_were_when_the_database_was_compared_with_them(tmp_path: Path) -> None:
    probes, canary, orders, present = outage(tmp_path)
    later = [
        ref.model_copy(update={"count": ref.count + 9, "head": "sha256:later"}) for ref in (probes, canary, orders)
    ]
    refs = (probes, canary, orders, present, *later)
    facts = [opened(1.0), *(Measured(t=2.0, readings=ref.model_dump(mode="json")) for ref in refs)]
    assert sorted(journaled(rows(facts)), key=str) == sorted([later[0], canary, orders, present], key=str)
