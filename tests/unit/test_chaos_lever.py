"""The safety lever: one object, whoever was first stays the one who engaged it, and who released it is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from drkit.chaos.lever import Lever, move, read, why_stop
from drkit.errors import JournalError
from drkit.providers.objects import FileObjects

DANA = Lever(True, "dana", "2026-01-01T00:00:00.000Z", "incident 7")
LEE = Lever(True, "lee", "2026-01-01T00:00:09.000Z", "me too")


@pytest.fixture
def objects(tmp_path: Path) -> FileObjects:
    return FileObjects(tmp_path)


def test_nobody_ever_moved_it(objects: FileObjects) -> None:
    assert read(objects, "lab") is None and why_stop(objects, "lab") is None


def test_who_engaged_it_first_stays(objects: FileObjects) -> None:
    assert move(objects, "lab", DANA) == DANA
    assert move(objects, "lab", LEE) == DANA
    assert "dana" in str(why_stop(objects, "lab")) and "incident 7" in str(why_stop(objects, "lab"))
    assert why_stop(objects, "other") is None


def test_a_release_is_kept_and_permits_again(objects: FileObjects) -> None:
    move(objects, "lab", DANA)
    released = Lever(False, "lee", "2026-01-01T01:00:00.000Z", "over")
    assert move(objects, "lab", released) == released == read(objects, "lab")
    assert why_stop(objects, "lab") is None
    assert move(objects, "lab", LEE) == LEE


def test_what_another_version_wrote_is_no_permission(objects: FileObjects) -> None:
    objects.put("chaos/lab/lever.json", b'{"schema": "drkit.lever/9"}')
    with pytest.raises(JournalError, match="cannot be read"):
        why_stop(objects, "lab")
