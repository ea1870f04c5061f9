"""What the scheduler decides, and what it writes down about it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import pytest
from schedule_fakes import Fate, Starts, Store, World, decisions, scheduler, table

from drkit.chaos.calendar import Facts, Hold
from drkit.chaos.choose import Candidate
from drkit.chaos.ledger import KEPT, Decision, Ledger
from drkit.chaos.unattended import check_unattended
from drkit.errors import Locked, Refused
from drkit.model.plan import Plan, PlanStep
from drkit.model.schedule import Calendar

THREE = datetime(2026, 11, 25, 3, tzinfo=UTC).timestamp()
DAY = 86400.0


def last(world: World, scenario: str = "night") -> Decision:
    found = Ledger(Store(world, Fate()), "lab").read(scenario)
    assert found is not None
    return found[0].decisions[-1]


def test_what_was_due_before_a_scenario_was_first_seen_does_not_count_but_for_what_is_on_time() -> None:
    world = World()
    scheduler(world).tick([table()], THREE + 301)
    assert decisions(world) == []
    world = World()
    scheduler(world).tick([table()], THREE + 299)  # CronJob and GitHub begin a little late, also the first time
    assert decisions(world) == [("03:00", "started")]


def test_missed_occurrences_are_one_line_and_catch_up_starts_the_last_of_them_once() -> None:
    world = World()
    scheduler(world).tick([table(cron="0 * * * *")], THREE - 1800)
    scheduler(world).tick([table(cron="0 * * * *")], THREE + 5 * 3600 + 900)
    assert decisions(world) == [("08:00", "missed")]
    assert "6 occurrences from 2026-11-25T03:00:00.000Z" in last(world).why[0]
    world = World()
    hourly = table(cron="0 * * * *", catch_up="once")
    scheduler(world).tick([hourly], THREE - 1800)
    scheduler(world).tick([hourly], THREE + 5 * 3600 + 900)
    assert decisions(world) == [("07:00", "missed"), ("08:00", "started")]
    assert last(world).why[0] == "caught up 15:00 late"


def test_what_is_caught_up_is_judged_by_when_it_would_really_start() -> None:
    world, it = World(), table(window="02:00-04:00", catch_up="once")
    scheduler(world).tick([it], THREE - 3600)
    scheduler(world).tick([it], THREE + 7200)
    assert decisions(world) == [("03:00", "refused")]
    assert "outside 02:00-04:00" in last(world).why[-1]


def test_while_a_real_run_is_open_nothing_starts_whatever_the_scenario_skips() -> None:
    world = World(facts=Facts(open_run="Run k7qd by dana"))
    scheduler(world).tick([table(skip_when=[])], THREE + 1)
    assert decisions(world) == [("03:00", "refused")] and world.asked == []
    assert last(world).why == ("a real run is open: Run k7qd by dana",)
    world = World(facts=Facts(lever="the chaos lever was engaged by dana"))
    scheduler(world).tick([table(skip_when=[])], THREE + 1)
    assert last(world).why == ("the chaos lever was engaged by dana",) and world.asked == []


def test_holds_keep_back_only_what_skips_them_and_end_by_themselves() -> None:
    freeze = Hold("change_freeze", "year's end", "dana@bastion", THREE + 10)
    both = ["open_incident", "change_freeze"]
    for hold, skips, outcome in (
        (freeze, both, "refused"),
        (freeze, ["open_incident"], "started"),
        (Hold("open_incident", "INC-7", "pager", None), both, "refused"),
        (Hold("change_freeze", "over", "dana", THREE - 1), both, "started"),
    ):
        world = World(facts=Facts(holds=(hold,)))
        scheduler(world).tick([table(skip_when=skips)], THREE + 1)
        assert decisions(world) == [("03:00", outcome)], hold


def test_the_second_of_two_that_are_due_at_once_finds_the_first_about_to_begin() -> None:
    world = World(stillborn=1)
    process = scheduler(world)
    process.tick([table("b"), table("a")], THREE + 1)
    assert [at for at, _ in world.asked] == ["a 2026-11-25T03:00:00.000Z"]
    assert last(world, "b").outcome == "refused"
    assert last(world, "b").why == ("another drill is open: a (r1) is about to begin",)


def test_gaps_count_from_start_to_start_and_not_from_what_failed() -> None:
    world, it = World(), table(min_gap="24h")
    process = scheduler(world)
    process.tick([it], THREE + 100)
    process.tick([it], THREE + DAY + 1)  # by occurrence, not by how late it was decided
    assert decisions(world) == [("03:00", "started"), ("03:00", "started")]
    world.failing = Locked("lab is locked")
    process.tick([it], THREE + 2 * DAY + 1)
    assert last(world).outcome == "failed" and last(world).why[-1] == "lab is locked"
    world.failing = None
    thirty = table(cron="30 3 * * *", min_gap="24h")
    process.tick([thirty], THREE + 2 * DAY + 1801)
    assert last(world).outcome == "started"


def test_a_calendars_gap_is_between_any_two_of_its_scenarios() -> None:
    world, calendar = World(), Calendar(min_gap=7200.0)
    process = scheduler(world)
    both = [table("a", calendar=calendar), table("b", "0 4 * * *", calendar=calendar)]
    process.tick(both, THREE + 1)
    process.tick(both, THREE + 3601)
    assert last(world, "b").outcome == "refused"
    assert last(world, "b").why[0].startswith("1:00:00 since a started")


def test_what_is_drawn_stands_in_the_ledger_with_what_it_was_drawn_from() -> None:
    hosts = [Candidate("web-1", ("ok",)), Candidate("web-2", ("ok", "fragile")), Candidate("db")]
    world = World(facts=Facts(inventory={"hosts": hosts}))
    calendar = Calendar(seed="7", opt_in=("ok",), opt_out=("fragile",))
    it = table(calendar=calendar, tags=["ok"], choose={"parameters": {"host": "hosts", "size": ["s", "l"]}})
    scheduler(world).tick([it], THREE + 1)
    assert last(world).drawn["host"] == "web-1" and last(world).drawn["size"] in ("s", "l")
    assert (last(world).inventory or "").startswith("sha256:")
    first = last(world).seed
    scheduler(world).tick([it], THREE + DAY + 1)
    assert last(world).seed != first, "every occurrence picks its targets anew"
    world = World(facts=Facts(inventory={"hosts": hosts[1:]}))
    scheduler(world).tick([it], THREE + 1)
    assert last(world).why == ("host cannot be drawn: no candidate opts in",)


def test_a_scenario_opts_in_and_out_by_its_tags() -> None:
    for tags, why in ((["x"], "it does not opt in: it has no tag ok"), (["ok", "no"], "it opts out by the tag no")):
        world = World()
        scheduler(world).tick([table(calendar=Calendar(opt_in=("ok",), opt_out=("no",)), tags=tags)], THREE + 1)
        assert last(world).why == (why,)


def test_the_ledger_keeps_the_last_decisions_only() -> None:
    world, it = World(facts=Facts(open_run="x")), table(cron="* * * * *")
    process = scheduler(world)
    for n in range(KEPT + 3):
        process.tick([it], THREE + n * 60)
    assert len(decisions(world)) == KEPT


def test_a_start_that_is_refused_is_failed_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise Refused("cut cannot be taken back")

    monkeypatch.setattr(Starts, "start", refuse)
    world = World()
    process = scheduler(world)
    process.tick([table()], THREE + 1)
    assert last(world).outcome == "failed" and last(world).why[-1] == "cut cannot be taken back"
    process.tick([table()], THREE + 2)
    assert len(decisions(world)) == 1


def test_what_cannot_be_taken_back_never_starts_unattended() -> None:
    def plan(part: Literal["inject", "runbook"], irreversible: str | None) -> Plan:
        step = PlanStep(id="cut", number=1, uses="db.cut", kind="action", part=part, irreversible=irreversible)
        return Plan(
            schema="drkit.plan/1", runbook="x", runbook_digest="x", scenario="night", environment="lab",
            environment_kind="staging", account="x", source="a", target="b", steps=(step,), catalog="x", drkit="x",
        )  # fmt: skip

    check_unattended(plan("inject", None))
    check_unattended(plan("runbook", "a promotion is what a drill rehearses"))
    with pytest.raises(Refused, match=r"cut \(db.cut\) cannot be taken back"):
        check_unattended(plan("inject", "the database fails over"))
