"""Pure parts of the command line: where global options may stand, what was probably meant, how errors read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from drkit.cli.closest import meant
from drkit.cli.failing import as_json, text
from drkit.cli.settings import hoist
from drkit.errors import FileError, Locked, Mistake


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


def test_every_command_that_the_manual_and_the_readme_name_is_there() -> None:
    import typer.main

    from drkit.cli.main import app

    root = Path(__file__).parents[2]
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    pages = [root / "README.md", *(root / "drkit" / "cli" / "help").glob("*.md")]
    named = 0
    for page in pages:
        for line in page.read_text(encoding="utf-8").splitlines():
            for words in re.findall(r"(?:^ {4}|`|\.venv/bin/|  )drkit ([a-z-]+)(?: ([a-z-]+))?", line):
                named += 1
                assert words[0] in known, f"{page.name}: drkit {words[0]}"
                inner = getattr(known[words[0]], "commands", None)
                assert not inner or not words[1] or words[1] in inner, f"{page.name}: drkit {' '.join(words)}"
    assert named > 40
