"""The scheduler killed before and after every one of its effects: no occurrence starts twice, none is lost."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schedule_fakes import Fate, Killed, World, decisions, scheduler, table

from drkit.chaos.calendar import Facts, Hold, Timetable, occurrences
from drkit.chaos.ledger import Ledger, seconds
from drkit.errors import Locked

THREE = datetime(2026, 11, 25, 3, tzinfo=UTC).timestamp()
#: More than any tick has effects.
EFFECTS = 8


def live(world: World, tables: list[Timetable], times: list[float], fate: Fate) -> bool:
    """One process, from its start to its end by itself or by its fate; whether it was killed."""
    process = scheduler(world, fate)
    try:
        for now in times:
            process.tick(tables, now)
    except Killed:
        return True
    return False


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("second", [0, 1, 2, 3])
def test_killed_at_any_two_effects_it_starts_one_run_and_not_two(after: bool, second: int) -> None:
    killed = 0
    for first in range(1, EFFECTS):
        world = World()
        live(world, [table()], [THREE - 600], Fate())  # it is known since before
        killed += live(world, [table()], [THREE + 1, THREE + 2], Fate(first, after))
        live(world, [table()], [THREE + 3, THREE + 4], Fate(second, after))
        live(world, [table()], [THREE + 100, THREE + 101], Fate())
        assert len(world.begun) == 1, (first, second)
        assert {run for _, run in world.asked} == set(world.begun), (
            "an occurrence has one run, however often it is asked for"
        )
        assert decisions(world) == [("03:00", "started")]
    assert killed == 3  # decision, start, settling


def test_killed_between_decision_and_start_and_back_too_late_it_is_missed_or_caught_up() -> None:
    for catch_up, outcome, runs in (("skip", "missed", 0), ("once", "started", 1)):
        world = World()
        it = table(catch_up=catch_up)
        live(world, [it], [THREE - 600], Fate())
        assert live(world, [it], [THREE + 1], Fate(2))
        assert decisions(world) == [("03:00", "allowed")]
        live(world, [it], [THREE + 3600], Fate())
        assert decisions(world) == [("03:00", outcome)]
        assert len(world.begun) == runs


def test_what_was_allowed_and_did_not_begin_is_judged_again_before_it_is_asked_for_again() -> None:
    freeze = Facts(holds=(Hold("change_freeze", "INC-7", "dana"),))
    for back, facts, outcome in (
        (3.0, Facts(), "started"),
        (3.0, freeze, "allowed"),  # a runner may be about to begin it
        (100.0, freeze, "refused"),
        (7200.0, Facts(), "refused"),  # caught up, and its window is over
    ):
        world = World()
        it = table(catch_up="once", window="02:00-04:00", min_gap="24h")
        live(world, [it], [THREE - 86400, THREE - 86400 + 1], Fate())
        assert live(world, [it], [THREE + 1], Fate(2))
        world.facts = facts
        live(world, [it], [THREE + back], Fate())
        assert decisions(world)[1:] == [("03:00", outcome)], back
        assert len(world.begun) == (2 if outcome == "started" else 1)


def test_a_runner_that_dies_before_it_begins_is_asked_again_for_the_same_run() -> None:
    world = World(stillborn=2)
    process = scheduler(world)
    process.tick([table()], THREE + 1)
    process.tick([table()], THREE + 2)
    assert len(world.asked) == 1  # it may still be about to begin
    process.tick([table()], THREE + 62)
    process.tick([table()], THREE + 123)
    assert len(world.asked) == 3
    assert len(set(world.asked)) == len(world.begun) == 1
    assert decisions(world) == [("03:00", "started")]


def test_a_runner_that_never_begins_is_given_up_with_the_reason() -> None:
    world = World(stillborn=9)
    process = scheduler(world)
    for now in (1, 62, 123, 184, 245):
        process.tick([table()], THREE + now)
    assert len(world.asked) == 3
    assert decisions(world) == [("03:00", "failed")]


def test_a_scheduler_that_lost_its_place_while_frozen_starts_nothing() -> None:
    world = World()
    lost: list[bool] = []

    def held() -> None:
        if len(lost) == 2:  # the third look is the one before the start
            raise Locked("somebody else schedules now")
        lost.append(True)

    process = scheduler(world, held=held)
    with pytest.raises(Locked):
        process.tick([table()], THREE + 1)
    assert world.asked == []
    assert decisions(world) == [("03:00", "allowed")]
    scheduler(world).tick([table()], THREE + 2)  # the other one
    assert len(world.begun) == 1
    with suppress(Locked):
        process.tick([table()], THREE + 3)
    assert len(world.begun) == 1


def test_of_two_that_decide_at_once_the_slower_one_finds_its_write_refused() -> None:
    world = World()
    one, other = scheduler(world), scheduler(world)
    one.tick([table()], THREE - 10)
    other.tick([table()], THREE - 10)
    one.tick([table()], THREE + 1)
    with pytest.raises(Locked, match="another scheduler decides"):
        other.tick([table()], THREE + 1)
    assert len(world.begun) == 1


lives = st.tuples(st.floats(1, 2000), st.integers(0, 12), st.booleans(), st.integers(0, 2))


@settings(max_examples=150, deadline=None)
@given(st.lists(lives, min_size=1, max_size=12), st.sampled_from(["skip", "once"]))
def test_whatever_happens_each_occurrence_is_decided_once_and_starts_at_most_once(
    story: list[tuple[float, int, bool, int]], catch_up: str
) -> None:
    """Processes live one after the other, each for some ticks, and are killed somewhere or not."""
    world, it = World(), table(cron="*/10 * * * *", catch_up=catch_up, start_within=120)
    now = THREE
    for gap, effect, after, stillborn in story:
        world.stillborn = stillborn
        now += gap
        live(world, [it], [now, now + 1, now + 70], Fate(effect, after))
        now += 70
    world.stillborn = 0
    live(world, [it], [now + 61, now + 130], Fate())
    now += 130

    occurrences_of = list(world.begun.values())
    assert len(occurrences_of) == len(set(occurrences_of)), "twice"
    found = Ledger(scheduler(world).ledger.objects, "lab").read("night")
    assert found is not None
    decided = [each.at for each in found[0].decisions]
    assert len(decided) == len(set(decided))
    assert {f"night {each.at}" for each in found[0].decisions if each.outcome == "started"} == set(occurrences_of)
    assert not found[0].pending
    # Nothing is passed over: what is not decided by itself stands before one that is missed.
    passed_over = set(occurrences(it, seconds(found[0].since), now)) - {seconds(at) for at in decided}
    for at in passed_over:
        later = next(one for one in found[0].decisions if seconds(one.at) > at)
        assert later.outcome == "missed"
