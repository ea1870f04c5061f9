from __future__ import annotations

from pathlib import Path

import pytest

from drkit.measure import ledgers, readings
from drkit.measure.loss import Coverage, expected_loss, loss, loss_over_time
from drkit.measure.readings import ReadingsWriter
from drkit.model.measurements import Loss, Write

COVERED = Coverage([float(t) for t in range(100)])


def canary(number: int, *, acknowledged: bool = True, site: str = "east") -> Write:
    """A canary a tenth of a second, from t=0 on."""
    return Write(f"canary:{number}", number / 10, f"at {number / 10}", acknowledged, site, number)


def compare(
    writes: list[Write], present: set[str], coverage: Coverage = COVERED, fenced_t: float | None = 60.0
) -> Loss:
    return loss(writes, present, coverage=coverage, outage_started_t=50.0, fenced_t=fenced_t)


def test_a_cut_tail_is_counted_named_and_measured_in_time() -> None:
    before = [canary(n) for n in range(400, 500)]
    after = [canary(n, site="west") for n in range(650, 700)]
    found = compare(before + after, {w.id for w in before[:93]} | {w.id for w in after})
    assert (found.acknowledged, found.survived, found.lost) == (150, 143, 7)
    assert found.lost_ids == tuple(f"canary:{n}" for n in range(493, 500))
    assert found.window_seconds == pytest.approx(49.9 - 49.2)
    assert (found.holes, found.unacknowledged_present, found.reason) == (0, 0, None)
    assert (found.first_lost_at, found.last_lost_at) == ("at 49.3", "at 49.9")


def test_orders_that_users_were_promised_count_like_canaries() -> None:
    writes = [canary(n) for n in range(400, 500)] + [Write("order:x", 49.95, "at 49.95", True)]
    found = compare(writes, {w.id for w in writes if w.id != "order:x"})
    assert (found.lost, found.lost_ids) == (1, ("order:x",))
    assert found.window_seconds == pytest.approx(0.05)


def test_a_write_without_an_answer_is_never_lost_and_is_named_if_it_is_there() -> None:
    writes = [canary(n) for n in range(400, 499)] + [canary(499, acknowledged=False), canary(500, acknowledged=False)]
    found = compare(writes, {w.id for w in writes[:100]})
    assert (found.acknowledged, found.survived, found.lost, found.unacknowledged_present) == (99, 99, 0, 1)
    assert found.window_seconds == 0.0


def test_something_missing_in_the_middle_is_a_hole_and_a_cut_tail_is_not() -> None:
    writes = [canary(n) for n in range(400, 500)]
    missing = {"canary:450", "canary:451", "canary:499"}
    found = compare(writes, {w.id for w in writes} - missing)
    assert (found.lost, found.holes) == (3, 2)
    assert found.window_seconds == pytest.approx(49.9 - 44.9)


@pytest.mark.parametrize(
    ("coverage", "fenced_t", "reason"),
    [
        (COVERED, None, "when the old primary was fenced was not observed"),
        (Coverage([51.0, 70.0], silence_s=99), 60.0, "the ledger began after the outage did"),
        (Coverage([0.0, *map(float, range(40, 58))]), 60.0, "the ledger ended before the old primary was fenced"),
        (Coverage([49.0, 50.5, 58.0, 60.0]), 60.0, "the ledger was silent for 7.5 s between outage and fence"),
        (Coverage([]), 60.0, "the ledger began after the outage did"),
    ],
)
def test_nothing_lost_is_zero_only_if_the_ledger_covers_outage_and_fence(
    coverage: Coverage, fenced_t: float | None, reason: str
) -> None:
    writes = [canary(n) for n in range(400, 500)]
    found = compare(writes, {w.id for w in writes}, coverage, fenced_t)
    assert (found.window_seconds, found.reason, found.lost) == (None, reason, 0)


def test_silence_before_the_outage_or_after_the_fence_does_not_matter() -> None:
    writes = [canary(n) for n in range(400, 500)]
    coverage = Coverage([0.0, 49.5, *(50 + n / 2 for n in range(21)), 90.0])
    assert compare(writes, {w.id for w in writes}, coverage).window_seconds == 0.0


def test_an_outage_that_nobody_timed_gives_no_figure() -> None:
    writes = [canary(1)]
    found = loss(writes, {"canary:1"}, coverage=COVERED, outage_started_t=None, fenced_t=60.0)
    assert found.window_seconds is None and found.reason == "when the outage began is not known"


def test_without_acknowledged_writes_or_survivors_there_is_no_figure() -> None:
    none = compare([canary(1, acknowledged=False)], set())
    assert none.window_seconds is None and "no write was acknowledged" in (none.reason or "")
    gone = compare([canary(n) for n in range(400, 500)], set())
    assert gone.window_seconds is None and gone.lost == 100 and "no beginning" in (gone.reason or "")


def test_expected_loss_is_unknown_without_a_canary_and_stops_growing_with_the_writers() -> None:
    assert expected_loss(100.0, None) is None
    assert expected_loss(100.0, 96.0) == 4.0
    assert expected_loss(100.0, 96.0, writers_stopped_s=97.0) == 1.0
    assert expected_loss(100.0, 100.2) == 0.0


def test_writes_over_time_are_split_by_what_became_of_them() -> None:
    writes = [canary(n) for n in range(400, 500)] + [canary(500, acknowledged=False)]
    points = loss_over_time(writes, {w.id for w in writes[:95]}, from_t=48.0, to_t=51.0, bucket_s=1.0)
    assert [(p.t, p.survived, p.lost) for p in points] == [(48.0, 10, 0), (49.0, 5, 5)]


def test_ledgers_give_what_may_be_in_the_database_and_nothing_else(tmp_path: Path) -> None:
    with ReadingsWriter(tmp_path / "canary-a.jsonl", id="a", kind="canary") as ledger:
        ledger.write({"what": "alive"})
        for number, outcome in enumerate(("acknowledged", "unanswered", "refused"), start=7):
            ledger.write({"what": "write", "outcome": outcome, "n": number, "site": "east"})
        ledger.write({"what": "no-writer", "reason": "refused"})
    with ReadingsWriter(tmp_path / "orders-a.jsonl", id="a", kind="orders") as orders:
        orders.write({"what": "order", "outcome": "acknowledged", "order_id": "o-1", "j": 1, "client": 1})
    read = [readings.read(tmp_path / f"{kind}-a.jsonl") for kind in ("canary", "orders")]
    found = ledgers.writes(read)
    assert [(w.id, w.acknowledged) for w in found] == [("canary:7", True), ("canary:8", False), ("order:o-1", True)]
    assert ledgers.first_canary(read) == 7
    assert len(ledgers.coverage(read[0]).instants_t) == 6


def test_what_was_found_in_the_database_is_kept_and_read_back(tmp_path: Path) -> None:
    numbers = [*range(5, 1205, 2), 3000, 3001, 3002]
    orders = {"b": "20261123T094835-edab-17", "a": "20261123T094835-edab-3", "c": "by somebody"}
    ref = ledgers.write_present(
        tmp_path / "present-k7qd.jsonl", id="k7qd", canary=numbers, orders=orders, source={"answered_by": "7412"}
    )
    assert ref.kind == "present"
    found = ledgers.present(readings.read(tmp_path / "present-k7qd.jsonl", upto=ref))
    assert found is not None
    assert found.ids == frozenset({f"canary:{n}" for n in numbers} | {"order:a", "order:b", "order:c"})
    assert found.journeys == {"order:b": 17, "order:a": 3}


def test_what_was_written_after_the_heads_were_taken_is_not_taken_for_unacknowledged() -> None:
    found = ledgers.Present(
        frozenset(
            {"canary:1", "canary:2", "canary:3", "canary:4", "order:told", "order:timeout", "order:later", "order:x"}
        ),
        {"order:told": 5, "order:timeout": 7, "order:later": 9},
    )
    entries = [canary(1), canary(3), Write("order:told", 1.0, "", True)]
    scoped = ledgers.in_scope(found, entries, failed_orders={7})
    assert scoped == frozenset({"canary:1", "canary:2", "canary:3", "order:told", "order:timeout"})


def test_a_comparison_that_was_not_finished_proves_no_absence(tmp_path: Path) -> None:
    path = tmp_path / "present-x.jsonl"
    ledgers.write_present(path, id="x", canary=[1, 2], orders=[], source={})
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert ledgers.present(readings.read(path)) is None
