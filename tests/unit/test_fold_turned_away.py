"""What was turned away for a reason that passes by itself is sent again by itself, while its time is not over."""

from __future__ import annotations

import itertools

import pytest
from engine_fakes import Folding, order, step

from drkit.model import events as e
from drkit.model.runbook import Retry


def turned_away(f: Folding, step: str = "a") -> list[e.Command]:
    fact = e.Failed(step=step, attempt=f.attempt(step), error="throttled", world="turned-away")
    return list(f.commands(fact))


def wait(f: Folding, command: e.Command) -> list[str]:
    """Until the timer of this command fires."""
    assert command.verb == "timer" and isinstance(command.args["at_t"], float)
    f.t = command.args["at_t"]
    return f.take(e.Fired(timer=str(command.args["timer"])))


@pytest.mark.parametrize("uses", ["fake.put", "fake.put-once", "fake.fence"])
def test_it_is_looked_at_first_and_sent_only_if_it_is_absent(uses: str) -> None:
    f = Folding(step("a", uses=uses, timeout_s=60.0), step("b", "a"))
    f.prepared("a")
    (timer,) = turned_away(f)
    assert f.state.phase == "running" and f.status("b") == "pending"
    assert wait(f, timer) == ["recover a"]  # earlier calls of the same attempt may have been taken
    assert f.absent("a") == ["apply a"]
    assert f.done("a") == ["prepare b"]


def test_what_is_there_by_then_is_not_sent_again() -> None:
    f = Folding(step("a", timeout_s=60.0))
    f.prepared("a")
    (timer,) = turned_away(f)
    wait(f, timer)
    assert f.done("a", adopted=True) == ["finish"]


def test_the_pauses_grow_up_to_a_quarter_of_a_minute_and_end_with_its_time() -> None:
    f = Folding(step("a", timeout_s=60.0))
    f.prepared("a")
    pauses = []
    while commands := turned_away(f):
        began = f.t
        assert wait(f, commands[0]) == ["recover a"]
        pauses.append(f.t - began)
        f.absent("a")
    assert f.status("a") == "failed" and 60.0 <= f.t < 75.0
    assert pauses[0] < 1.3 and max(pauses) == pytest.approx(15.0)
    assert all(after > before - 0.01 for before, after in itertools.pairwise(pauses))
    assert [block.command for block in f.state.blocks()] == ["drkit retry k7qd a"]


def test_a_retry_that_a_person_orders_has_its_time_anew() -> None:
    f = Folding(step("a", timeout_s=1.0))
    f.prepared("a")
    (timer,) = turned_away(f)
    wait(f, timer)
    f.absent("a")
    f.t = 10.0
    assert turned_away(f) == [] and f.status("a") == "failed"
    assert f.take(order("retry", "a")) == ["recover a"]
    f.absent("a")
    assert [command.verb for command in turned_away(f)] == ["timer"]


def test_the_retries_that_the_runbook_permits_are_left_for_other_failures() -> None:
    f = Folding(step("a", timeout_s=60.0, retry=Retry(times=1)))
    f.prepared("a")
    wait(f, turned_away(f)[0])
    f.absent("a")
    (timer,) = f.commands(e.Failed(step="a", attempt=f.attempt("a"), error="broke", world="changed"))
    assert wait(f, timer) == ["recover a"]
    assert f.failed("a") == [] and f.status("a") == "failed"


def test_what_must_not_be_repeated_and_what_is_being_aborted_wait_for_a_person() -> None:
    f = Folding(step("a", uses="fake.put-ask", timeout_s=60.0))
    f.prepared("a")
    assert turned_away(f) == [] and f.status("a") == "failed"
    f = Folding(step("a", timeout_s=60.0))
    f.prepared("a")
    f.take(order("abort"))
    assert [command.verb for command in turned_away(f)] == ["finish"] and f.status("a") == "failed"


def test_a_paused_run_does_not_knock_again() -> None:
    f = Folding(step("a", timeout_s=60.0))
    f.prepared("a")
    (timer,) = turned_away(f)
    f.take(order("pause"))
    assert wait(f, timer) == ["recover a"]  # looking is never held
    assert f.absent("a") == []
    assert f.take(order("resume")) == ["apply a"]
