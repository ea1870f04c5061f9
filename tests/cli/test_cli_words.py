"""Pure parts of the command line: where global options may stand, what was probably meant, how errors read."""

from __future__ import annotations

import pytest

from drkit.cli.closest import meant
from drkit.cli.failing import as_json, text
from drkit.cli.settings import hoist
from drkit.errors import DrkitError, FileError, Locked, Mistake


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        (["plan", "--region", "b", "--env", "x"], ["--env", "x", "plan", "--region", "b"]),
        (["status", "-ojson", "k7qd"], ["-ojson", "status", "k7qd"]),
        (["runs", "--query=[0].run", "-q"], ["--query=[0].run", "-q", "runs"]),
        (["run", "x", "--", "--env", "y"], ["run", "x", "--", "--env", "y"]),
        (["note", "r", "--reason=--plain"], ["note", "r", "--reason=--plain"]),
        (["plan", "--env"], ["--env", "plan"]),
    ],
)
def test_global_options_may_stand_anywhere(typed: list[str], read: list[str]) -> None:
    assert hoist(typed) == read


def test_closest_names_come_first_and_all_names_when_nothing_is_close() -> None:
    assert meant("us-west2", ["us-west-2", "us-east-1"]).startswith("; did you mean us-west-2")
    assert meant("zzz", ["b", "a"]) == "; known: a, b"
    assert meant("zzz", []) == ""


def test_an_error_says_code_state_and_one_command() -> None:
    error = Locked("us-west-2 is locked\nRun h2mx by lee@bastion-2", hint="drkit status h2mx --watch")
    lines = text(error).splitlines()
    assert lines[0].startswith("E0701 us-west-2 is locked (exit 7)") and lines[0].endswith("Nothing was changed.")
    assert lines[1].strip() == "Run h2mx by lee@bastion-2"
    assert lines[-1] == "  Fix:  drkit status h2mx --watch"


def test_an_error_as_json_carries_every_mistake() -> None:
    told = as_json(FileError([Mistake("a.yaml", 3, 5, "no"), Mistake("a.yaml", 9, 1, "never", "write yes")]))
    assert told["exit_code"] == 2
    assert [(m["line"], m["hint"]) for m in told["mistakes"]] == [(3, None), (9, "write yes")]


def test_an_unexpected_error_is_not_silent() -> None:
    assert "boom" in text(DrkitError("boom"))
