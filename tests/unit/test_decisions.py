"""A journal decided again: what comes out the same, what does not, and what cannot be decided at all. Plain data."""

from __future__ import annotations

import pytest
from engine_fakes import Folding, step

from drkit.engine import fold
from drkit.engine.decisions import Decision, about, compare, decide_again
from drkit.engine.fold import Run
from drkit.engine.state import Phase
from drkit.model import events as e
from drkit.model.events import GENESIS, Command, Row
from drkit.model.values import Json


def command(verb: str, step: str | None = "a", why: str = "because", **args: Json) -> Command:
    return Command(verb=verb, why=why, step=step, args=args)


def decision(then: tuple[Command, ...], now: tuple[Command, ...]) -> Decision:
    return Decision(Row.link(1, "", e.Fired(timer="x"), then, GENESIS), now)


@pytest.fixture
def rows() -> list[Row]:
    """A run of two steps, one after the other, to its end."""
    f = Folding(step("a"), step("b", "a"))
    f.whole("a")
    f.whole("b")
    run, head, made = Run(f.plan), GENESIS, list[Row]()
    for seq, fact in enumerate(f.facts, 1):
        made.append(Row.link(seq, "", fact, run.take(fact), head))
        head = made[-1].hash
    return made


def test_a_journal_of_this_version_comes_out_the_same(rows: list[Row]) -> None:
    assert [d.row.seq for d in decide_again(rows)] == [row.seq for row in rows]
    assert list(compare(rows)) == []


def test_a_changed_rule_shows_at_the_first_event_it_decides_and_not_before(
    rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    def copied_first(run: Run, fact: e.Prepared) -> None:
        found = run.working(fact.step, fact.attempt, (Phase.PREPARING,))
        assert found is not None
        run.go(found, "copy", "every intent is copied first")

    monkeypatch.setitem(fold._HANDLERS, e.Prepared, copied_first)
    first, *later = compare(rows)
    assert about(first.row.fact) == "step.intent a attempt 1"
    (pair,) = first.pairs()[:1]
    assert pair.then is not None and (pair.then.verb, pair.now) == ("apply", None)
    assert [c.verb for c in first.now] == ["copy"]
    assert later  # and the rest is judged all the same


def test_an_event_that_the_rules_cannot_take_is_named_and_ends_the_replay(
    rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    def trips(run: Run, fact: e.Done) -> None:
        raise KeyError("owner")

    monkeypatch.setitem(fold._HANDLERS, e.Done, trips)
    *before, last = decide_again(rows)
    assert all(d.same for d in before)
    assert (type(last.row.fact), last.same, last.broke) == (e.Done, False, "KeyError: 'owner'")


def test_a_journal_without_its_opening_cannot_be_decided(rows: list[Row]) -> None:
    (only,) = decide_again(rows[1:])
    assert only.broke is not None and "begins with" in only.broke


def test_commands_about_the_same_matter_stand_side_by_side_whatever_their_order() -> None:
    then = (command("apply", "a", n=1), command("prepare", "b"), command("timer", "c"))
    now = (command("prepare", "b"), command("apply", "a", n=2), command("finish", None))
    pairs = decision(then, now).pairs()
    assert [(p.then and p.then.verb, p.now and p.now.verb) for p in pairs] == [
        ("apply", "apply"), ("prepare", "prepare"), ("timer", None), (None, "finish"),
    ]  # fmt: skip
    assert [p.same for p in pairs] == [False, True, False, False]


def test_what_differs_between_two_commands_is_named_then_and_now() -> None:
    (pair,) = decision((command("apply", why="old", n=1, m=3),), (command("apply", why="new", n=2, m=3, x=4),)).pairs()
    assert pair.changed() == [("why", "old", "new"), ("n", 1, 2), ("x", None, 4)]


def test_another_order_is_a_difference_too() -> None:
    one, two = command("apply", "a"), command("apply", "b")
    swapped = decision((one, two), (two, one))
    assert not swapped.same
    assert all(pair.same for pair in swapped.pairs())
