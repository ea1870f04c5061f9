"""Heals of a run that is aborted, in trouble: cut off, held back, behind another, the journal's end lost."""

from __future__ import annotations

from engine_fakes import Folding, order, step

from drkit.model import events as e


def broken() -> Folding:
    """`break` does damage, `heal` takes it away."""
    return Folding(step("break", part="inject"), step("heal", "break", part="heal", heals="break", skippable=False))


def test_a_heal_that_a_crash_cut_off_and_is_absent_is_sent_again_though_the_run_is_aborted() -> None:
    f = broken()
    f.whole("break")
    f.prepared("heal")
    assert f.resumed() == ["recover heal"]
    f.take(order("abort"))
    assert f.absent("heal") == ["apply heal"]
    assert f.done("heal") == ["finish"]
    assert f.status("heal") == "done"


def test_a_heal_that_a_pause_held_back_goes_on_where_it_stood() -> None:
    f = broken()
    f.whole("break")
    f.take(order("pause"))
    assert f.prepared("heal") == []
    assert f.take(order("abort")) == ["apply heal"]


def test_what_may_have_been_broken_in_the_lost_end_of_the_journal_is_healed() -> None:
    f = broken()
    f.resumed(from_copy=True)
    f.take(e.Failed(step="break", attempt=1, error="could not be observed", world="untouched"))
    assert f.take(order("abort")) == ["prepare heal"]


def test_a_heal_behind_another_one_waits_for_its_own_fault_too() -> None:
    f = Folding(
        step("break1", part="inject"), step("break2", "break1", part="inject"),
        step("heal1", "break2", heals="break1"), step("heal2", "heal1", heals="break2"),
    )  # fmt: skip
    f.whole("break1")
    f.prepared("break2")
    assert f.take(order("abort")) == ["prepare heal1"]
    assert f.whole("heal1") == []
    assert f.done("break2") == ["prepare heal2"]
