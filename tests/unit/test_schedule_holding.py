"""One scheduler an environment, by a lease in the state store."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from drkit.chaos import holding
from drkit.chaos.holding import Holding
from drkit.engine.identity import this_process
from drkit.engine.lease import Record, lock_key
from drkit.errors import Locked
from drkit.model.ports import Holder
from drkit.providers.objects import FileObjects

KEY = lock_key("lab.schedule")


@pytest.fixture
def objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileObjects:
    monkeypatch.setattr(holding, "LONGEST_CALL_S", 0.1)
    return FileObjects(tmp_path)


def elsewhere(counter: int = 0) -> Record:
    """The place, held by a process that cannot be seen from here."""
    holder = Holder("schedule", "lee", "bastion-2", "2026-11-25T03:00:00.000Z", 7, "l7", counter, False, 0.3)
    return Record(7, holder, replace(this_process(), machine="another"), 0.1)


def test_a_second_one_on_this_machine_is_refused_at_once_and_the_place_is_free_afterwards(objects: FileObjects) -> None:
    with Holding(objects, "lab") as first:
        first.check()
        with pytest.raises(Locked, match="another scheduler of lab runs"), Holding(objects, "lab"):
            pass
        first.check()
        with Holding(objects, "staging") as other:
            other.check()
    with Holding(objects, "lab") as second:
        second.check()


def test_one_that_went_silent_elsewhere_is_replaced_after_its_term(objects: FileObjects) -> None:
    objects.put(KEY, elsewhere().to_bytes())
    began = time.monotonic()
    with Holding(objects, "lab", term_s=5) as mine:
        mine.check()
    assert time.monotonic() - began > 0.4


def test_one_that_lives_elsewhere_keeps_its_place(objects: FileObjects, monkeypatch: pytest.MonkeyPatch) -> None:
    objects.put(KEY, elsewhere().to_bytes())
    looks = iter(range(1, 100))
    get = objects.get
    # Its heart beats between any two of our looks.
    monkeypatch.setattr(
        objects, "get", lambda key: (elsewhere(next(looks)).to_bytes(), "tag") if key == KEY else get(key)
    )
    with pytest.raises(Locked, match="lee@bastion-2"), Holding(objects, "lab"):
        pass


def test_a_place_that_was_taken_is_noticed_before_anything_more_is_started(objects: FileObjects) -> None:
    with Holding(objects, "lab", term_s=0.3) as mine:
        mine.check()
        objects.put(KEY, elsewhere().to_bytes())  # as after a long freeze of ours
        deadline = time.monotonic() + 5
        with pytest.raises(Locked, match="no longer ours"):
            while time.monotonic() < deadline:
                mine.check()
                time.sleep(0.02)
    found = objects.get(KEY)
    assert found is not None and found[0] == elsewhere().to_bytes()  # theirs was not given back
