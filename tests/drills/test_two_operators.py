"""Two people fail over at once, from homes that share nothing: one run begins, the other is told who has it."""

from __future__ import annotations

import subprocess

import pytest
from worlds import RUNBOOK, SOURCE, TARGET, Drill, Seat, Struck, until


def words(*more: str) -> list[str]:
    """A failover that stands still before its first step, so that it holds the environment and changes nothing."""
    return [
        "failover", "--region", TARGET, "--env", "sandbox", "-r", RUNBOOK, "--confirm", TARGET,
        "--despite-evidence", SOURCE, "--accept-data-loss", "1h", "--step", "--detach", *more,
    ]  # fmt: skip


def end(run: Drill) -> None:
    """Abort it, and wait until its runner is gone."""
    run.seat.expect(0, "abort", run.id, "--reason", "the test is over")
    runner = run.runner
    until(lambda: runner is None or not runner.alive, within_s=60)


@pytest.mark.soak
def test_of_two_failovers_at_once_one_begins_and_the_other_is_told_by_whom(struck: Struck) -> None:
    seats = [struck.world.seat("one"), struck.world.seat("two")]
    assert seats[0].home != seats[1].home
    both = [seat.start(*words()) for seat in seats]
    said = [(process.communicate(timeout=120)[0], process.returncode) for process in both]
    assert sorted(code for _, code in said) == [0, 7], said
    winner = next(number for number, (_, code) in enumerate(said) if code == 0)
    run = Drill(seats[winner], last(seats[winner]))
    try:
        told = said[1 - winner][0]
        assert "Traceback" not in told
        assert "(exit 7)" in told and "Nothing was changed." in told
        assert f"Run {run.id} by " in told, "names the holder"
        assert f"drkit status {run.id} --watch" in told, "names a way to join it"
        assert not Drill(seats[1 - winner], "any").folder.parent.joinpath(run.id).exists()
        assert not run.facts("step.intent"), "nothing was touched yet"
    finally:
        end(run)
    seat = seats[1 - winner]
    seat.expect(0, *words())
    end(Drill(seat, last(seat)))


def last(seat: Seat) -> str:
    """The id of this person's last run."""
    return seat.expect(0, "runs", "-o", "json", "--query", "[-1].run").stdout.strip().strip('"')


@pytest.mark.soak
def test_a_drill_does_not_begin_while_somebody_fails_over(struck: Struck) -> None:
    seat = struck.world.seat("four")
    seat.expect(0, *words())
    run = Drill(seat, last(seat))
    try:
        other = struck.world.seat("five")
        refused = other.drkit("drill", "run", "region-loss", "--env", "sandbox", "--detach")
        assert refused.returncode == 7, refused.stdout + refused.stderr
        assert f"Run {run.id} by " in refused.stderr
        assert struck.world.control("GET", "/status")["outages"] == [], "nothing was broken"
    finally:
        end(run)


@pytest.mark.soak
def test_of_many_failovers_at_once_one_begins(struck: Struck) -> None:
    seats = [struck.world.seat(f"many-{number}") for number in range(6)]
    both: list[subprocess.Popen[str]] = [seat.start(*words()) for seat in seats]
    codes = [process.wait(timeout=240) for process in both]
    for process in both:
        process.communicate()
    assert sorted(codes) == [0, 7, 7, 7, 7, 7]
    seat = seats[codes.index(0)]
    end(Drill(seat, last(seat)))
