"""A region dies while users place orders, and one command brings the service back: what it says is counted again.

One drill for all tests of this file, at a replication link of 200 ms, asynchronous; the others (synchronous, other
delays) are in `make soak`.
"""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from recovery_by_hand import calculate
from worlds import RUNBOOK, SOURCE, TARGET, Drill, Seat, Struck, psql, world

HERE = Path(__file__).parent
STEPS = 47

#: Every key that scripts rely on, as the command line's contract has them.
CONTRACT = """
schema kind run runbook.name runbook.digest environment source target outcome started_at finished_at
recovery_time.seconds recovery_time.objective_seconds recovery_time.met recovery_time.outage_started_at
recovery_time.recovered_at recovery_time.phases.detect recovery_time.phases.decide recovery_time.phases.execute
recovery_time.phases.converge recovery_time.probe_interval_seconds recovery_time.failed_probes
data_loss.window_seconds data_loss.objective_seconds data_loss.met data_loss.acknowledged data_loss.survived
data_loss.lost data_loss.lost_ids data_loss.unacknowledged_present data_loss.holes
steps.0.id steps.0.status steps.0.owner steps.0.started_at steps.0.finished_at steps.0.attempts steps.0.region
steps.0.why critical_path makespan_seconds critical_path_seconds
faults.0.id faults.0.fault faults.0.injected_at faults.0.reverted_at faults.0.reverted_by faults.0.verified_clean
leaks evidence.journal_head evidence.events evidence.verified
"""

#: What a run may ask the region left for, once it is lost: each with a short deadline, each recorded as unreachable.
TOLERATED = {
    ("sts", "GetCallerIdentity"): "does the region's API answer? (detection, step 1)",
    ("ssm", "GetParameter"): "is it frozen over there, and its workers off? (steps 4 and 11)",
    ("ssm", "PutParameter"): "freeze deployments, should it still hear (step 4)",
    ("dynamodb", "Scan"): "how far was the copy of the table? (step 7)",
    ("s3", "GET"): "how far was the copy of the bucket? (step 7)",
    ("secretsmanager", "DescribeSecret"): "which version had the original? (step 16)",
}


def test_the_drill_ends_with_its_objectives_met(struck: Struck) -> None:
    assert struck.said.returncode == 0, struck.said.stdout + struck.said.stderr
    report = struck.drill.report
    assert report["verdict"] == "met"
    assert (report["kind"], report["outcome"], report["runbook"]["name"]) == ("drill", "done", RUNBOOK)
    assert (report["source"], report["target"]) == (SOURCE, TARGET)
    recovery = report["recovery_time"]
    assert 0 < recovery["seconds"] <= 60, "longer than the objective, or no outage at all"
    assert sum(recovery["phases"].values()) == pytest.approx(recovery["seconds"], abs=0.001)
    assert struck.world.order() == TARGET, "users are served by the region entered"


def test_every_step_was_done_and_none_was_left_out(struck: Struck) -> None:
    steps = [step for step in struck.drill.report["steps"] if step["part"] == "runbook"]
    assert len(steps) == STEPS
    assert {step["status"] for step in steps} <= {"done", "skipped"}
    assert not [s["id"] for s in steps if s["status"] == "skipped" and s["why"] != "already so"]
    assert struck.drill.report["faults"][0]["verified_clean"] is True
    assert struck.drill.report["leaks"] == []


def test_the_report_has_every_key_of_the_contract(struck: Struck) -> None:
    said = struck.drill.seat.expect(0, "report", "last", "--format", "json")
    report = json.loads(said.stdout)
    assert [key for key in CONTRACT.split() if not has(report, key.split("."))] == []
    assert report["schema"] == "drkit.report/1"
    assert report["evidence"]["verified"] and report["evidence"]["readings_verified"]
    assert report["evidence"]["events"] == len(struck.drill.events())
    assert report == struck.drill.report, "made again from the journal and its readings: the same"


def has(value: Any, path: list[str]) -> bool:
    """The key is there; a list's first element stands for all."""
    for key in path:
        if isinstance(value, list):
            if not value:
                return False
            value = value[int(key)]
        elif key in value:
            value = value[key]
        else:
            return False
    return True


def test_data_loss_equals_a_recount_without_drkit(struck: Struck) -> None:
    loss = struck.drill.report["data_loss"]
    assert recount(struck.drill) == {
        **{key: loss[key] for key in ("acknowledged", "survived", "lost", "unacknowledged_present")},
        "window": pytest.approx(loss["window_seconds"], abs=1e-6),
        "lost_ids": sorted(loss["lost_ids"]),
    }
    assert loss["lost"] > 0, "asynchronous at 200 ms: a tool that says 0 here is lying"
    assert loss["acknowledged"] == loss["survived"] + loss["lost"]
    assert 0 < loss["window_seconds"] < 5
    assert loss["holes"] == 0


def recount(drill: Drill) -> dict[str, Any]:
    """What psql and text tools say about the data loss of a run."""
    report = drill.seat.world.project / "reports" / drill.id / "report.json"
    done = subprocess.run(
        [str(HERE / "recount.sh"), str(report), str(drill.folder)],
        env=drill.seat.environ | {"PSQL": str(psql())}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pairs = [line.split(" ") for line in done.stdout.splitlines()]
    figures: dict[str, Any] = {
        name: None if figure == "null" else float(figure) for name, figure in pairs if name != "lost_id"
    }
    return figures | {"lost_ids": sorted(figure for name, figure in pairs if name == "lost_id")}


def test_recovery_time_equals_the_calculation_by_hand(struck: Struck) -> None:
    recovery = struck.drill.report["recovery_time"]
    by_hand = calculated(struck.drill)
    assert by_hand["seconds"] == pytest.approx(recovery["seconds"], abs=recovery["probe_interval_seconds"])
    assert by_hand["outage_started_at"] == recovery["outage_started_at"]
    assert by_hand["recovered_at"] == recovery["recovered_at"]


def calculated(drill: Drill) -> dict[str, Any]:
    """When the outage began and ended, from the prober's raw log."""
    report = drill.report
    path = Path(next(r["path"] for r in report["evidence"]["readings"] if r["kind"] == "probes"))
    with (path if path.exists() else drill.folder / path.name).open() as log:
        recovery = report["recovery_time"]
        return calculate(log, recovery["confirmed_for_seconds"], recovery["success_objective"], report["started_at"])


def test_nobody_asks_the_lost_region_or_a_global_write_api_for_anything(struck: Struck) -> None:
    asked, elsewhere = asked_of_the_source(struck.drill)
    assert not set(asked) - set(TOLERATED), f"asked of {SOURCE} while it was lost: {asked}"
    assert not elsewhere, f"global writes: {elsewhere}"


def asked_of_the_source(drill: Drill) -> tuple[Counter[tuple[str, str]], list[str]]:
    """What drkit asked of the lost region's API between outage and healing, counted; and its global writes anywhere."""
    fault = drill.report["faults"][0]
    calls = [
        call for call in drill.seat.world.log("aws-calls")
        if call["caller"] == "drkit" and fault["injected_at"] < call["at"] < fault["reverted_at"]
        and not (call["status"] == 200 and call["gateway"] == SOURCE)  # in the instant before it fell dark
    ]  # fmt: skip
    assert len(calls) > 100, "the log of calls is not that of a recovery"
    of_source = [call for call in calls if SOURCE in (call["gateway"], call["region"])]
    assert {call["status"] for call in of_source} == {"refused"}
    asked = Counter((call["service"], call["operation"].split(" ")[0]) for call in of_source)
    return asked, [call["operation"] for call in calls if call["global_write"]]


def test_the_evidence_holds_and_is_noticed_when_it_does_not(struck: Struck) -> None:
    seat = struck.drill.seat
    seat.expect(0, "evidence", "verify", struck.drill.id)
    ledger = next(struck.drill.folder.glob("canary-*.jsonl"))
    original = Path(next(r["path"] for r in struck.drill.report["evidence"]["readings"] if r["kind"] == "canary"))
    for path in {ledger, original}:
        edit(path, b'"site":"us', b'"site":"eu')
    try:
        assert seat.drkit("evidence", "verify", struck.drill.id).returncode != 0
    finally:
        for path in {ledger, original}:
            edit(path, b'"site":"eu', b'"site":"us')
    seat.expect(0, "evidence", "verify", struck.drill.id)


def edit(path: Path, old: bytes, new: bytes) -> None:
    """Change the first `old` in place: the ledger's writer goes on appending to the same file."""
    with path.open("r+b") as file:
        file.seek(file.read(200_000).index(old))
        file.write(new)


@pytest.mark.soak
@pytest.mark.parametrize(
    ("delay", "replication", "loses"),
    [("200ms", "sync", False), ("0ms", "sync", False), ("500ms", "async", True), ("50ms", "async", None)],
)
def test_what_is_lost_follows_from_how_the_copy_is_made(delay: str, replication: str, loses: bool | None) -> None:
    """At 50 ms some two writes are under way at any instant: none of them may be, so none need be lost."""
    with world() as made:
        seat = made.seat()
        drill = rehearsed(seat, f"link_delay={delay}", f"replication={replication}")
        loss = drill.report["data_loss"]
        assert recount(drill)["lost"] == loss["lost"]
        if loses is not None:
            assert (loss["lost"] > 0) is loses, f"{loss['lost']} writes lost over a link of {delay}, {replication}"
        assert (loss["window_seconds"] == 0) is (loss["lost"] == 0)
        assert made.order() == TARGET


def rehearsed(seat: Seat, *settings: str) -> Drill:
    """A whole drill, watched to its end."""
    words = [word for setting in settings for word in ("--set", setting)]
    seat.expect(0, "drill", "run", "region-loss", "--env", "sandbox", *words)
    run = seat.expect(0, "runs", "-o", "json", "--query", "[-1].run").stdout.strip().strip('"')
    return Drill(seat, run)
