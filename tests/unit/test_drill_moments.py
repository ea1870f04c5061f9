"""When a real drill is struck: the journal says when, is held still meanwhile, and nothing of it is lost."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from engine_fakes import step
from journal_fakes import rows

from drkit.drill.matrix import Moment
from drkit.drill.moments import come, held, in_time
from drkit.engine.journal import SqliteStore, read_rows
from drkit.engine.state import StepState
from drkit.errors import DrkitError


@pytest.mark.parametrize(
    ("intent", "over", "moments"),
    [
        (False, False, {Moment.BEFORE, Moment.DURING, Moment.AFTER}),
        (True, False, {Moment.DURING, Moment.AFTER}),
        (True, True, set()),
        (False, True, set()),
    ],
)
def test_a_moment_is_over_once_the_step_is_sent_or_has_a_result(intent: bool, over: bool, moments: set[Moment]) -> None:
    state = StepState(step("a"), 0, intent=intent, finished_t=1.0 if over else None)
    assert {moment for moment in Moment if in_time(state, moment)} == moments


def test_the_command_of_a_step_is_waited_for_and_nothing_else(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "j.db") as store:
        store.append(rows(3))
        assert come(store.path, "apply", "a", within_s=5)
        assert not come(store.path, "apply", "b", within_s=0.05)
        assert not come(store.path, "prepare", "a", within_s=0.05)


def test_nothing_is_written_while_the_journal_is_held_and_all_of_it_after(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "j.db") as store:
        store.append(rows(2))
        begun, every = threading.Event(), rows(4)

        def write() -> None:
            begun.set()
            store.append(every)

        writer = threading.Thread(target=write)
        with held(store.path):
            writer.start()
            assert begun.wait(5)
            writer.join(0.3)
            assert writer.is_alive() and len(list(read_rows(store.path))) == 2
        writer.join(10)
        assert [row.hash for row in read_rows(store.path)] == [row.hash for row in every]


def test_a_journal_that_somebody_else_holds_cannot_be_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drkit.drill.moments.WAITS_S", 0.1)
    with SqliteStore(tmp_path / "j.db") as store, held(store.path):
        second = held(store.path)
        with pytest.raises(DrkitError, match="held still"):
            second.__enter__()
