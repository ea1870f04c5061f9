"""What the replicator brings over, and what it keeps its hands off."""

from __future__ import annotations

from drkit.sandbox.parts.replicator import Progress, due


def test_a_change_waits_for_the_lag_counted_from_when_it_was_first_seen() -> None:
    progress = Progress(copied={})
    assert due(progress, {"a": "1"}, now=10.0, lag_s=0.3) == []
    assert due(progress, {"a": "1"}, now=10.2, lag_s=0.3) == []
    assert due(progress, {"a": "1"}, now=10.4, lag_s=0.3) == [("a", "1")]
    assert list(progress.waiting) == ["a"]


def test_a_newer_version_waits_anew() -> None:
    progress = Progress(copied={})
    due(progress, {"a": "1"}, now=10.0, lag_s=0.3)
    assert due(progress, {"a": "2"}, now=10.4, lag_s=0.3) == []
    assert due(progress, {"a": "2"}, now=10.8, lag_s=0.3) == [("a", "2")]


def test_removals_follow_for_what_came_over_and_for_nothing_else() -> None:
    progress = Progress(copied={"ours": "1"})
    assert due(progress, {}, now=10.0, lag_s=0.0) == [("ours", None)]
    assert due(Progress(copied={}), {}, now=10.0, lag_s=0.0) == []


def test_what_is_equal_on_both_sides_is_no_backlog() -> None:
    progress = Progress(copied={"a": "1"})
    assert due(progress, {"a": "1"}, now=10.0, lag_s=0.0) == []
    assert progress.waiting == {}


def test_the_oldest_change_goes_first() -> None:
    progress = Progress(copied={})
    due(progress, {"z": "1"}, now=10.0, lag_s=1.0)
    due(progress, {"z": "1", "a": "1"}, now=10.5, lag_s=1.0)
    assert [key for key, _ in due(progress, {"z": "1", "a": "1"}, now=12.0, lag_s=1.0)] == ["z", "a"]
