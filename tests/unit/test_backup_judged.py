"""What the lines that a host answers about its newest backup amount to."""

from __future__ import annotations

import pytest

from drkit.actions.backup import judged
from drkit.errors import Unobservable


def test_a_backup_that_verifies_and_says_when_it_began_is_complete() -> None:
    found = judged(["tuesday", "947", "7200", "0"])
    assert (found.name, found.files, found.age_h, found.complete, found.why) == ("tuesday", 947, 2.0, True, None)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ([], "there is no backup"),
        (["tuesday", "3", "60", "1", "error: x is missing"], "error: x is missing"),
        (["tuesday", "3", "60", "1"], "its verification ended with 1"),
        (["tuesday", "947", "unknown", "0"], "it does not say when it began"),
    ],
)
def test_what_is_no_backup_says_why(said: list[str], why: str) -> None:
    found = judged(said)
    assert (found.complete, found.why) == (False, why)


def test_where_nothing_can_verify_it_neither_is_known() -> None:
    with pytest.raises(Unobservable, match="tuesday cannot be verified there: sh: pg_verifybackup: not found"):
        judged(["tuesday", "947", "60", "127", "sh: pg_verifybackup: not found"])
