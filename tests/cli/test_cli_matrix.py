"""`drkit drill matrix`: the table, the files, one cell again, and what cannot be played."""

from __future__ import annotations

import json

import pytest
from cli_lab import Lab

from drkit.drill import pretend

BOOK = """
apiVersion: drkit/v1
kind: Runbook
metadata: {name: inner, owner: nobody}
steps:
  - {id: grant, uses: aws.kms.grant, with: {alias: alias/data, grantee: "arn:aws:iam::1:role/app"}}
"""
OUTER = """
apiVersion: drkit/v1
kind: Runbook
metadata: {name: outer, owner: nobody}
steps:
  - {id: agree, uses: gate.approve, with: {role: incident-commander, question: "Go on?"}}
  - {id: keys, uses: runbook/inner}
  - {id: later, uses: process.run, with: {creates: "/x", argv: [touch, "/x"]}}
"""


@pytest.fixture
def nested(lab: Lab) -> Lab:
    (lab.folder / "runbooks" / "inner.yaml").write_text(BOOK)
    (lab.folder / "runbooks" / "outer.yaml").write_text(OUTER)
    return lab


def test_every_cell_of_a_runbook_of_runbooks(nested: Lab) -> None:
    told = nested.drkit("drill", "matrix", "outer")
    assert told.returncode == 0, (told.stdout, told.stderr)
    rows = {
        line.split()[0]: line for line in told.stdout.splitlines() if line.startswith(("agree ", "keys/", "later "))
    }
    assert rows["agree"].split() == ["agree", *"RRR", *"...", *"...", *"...", *"...", *"RRR"]
    assert rows["keys/grant"].split()[:10] == ["keys/grant", *"RRR", *"...", *"RRR"]
    assert "S  keys/grant:before:denied  keys/grant: failed: keys/grant: AccessDenied" in told.stdout
    assert "drkit retry matrix keys/grant: recovered" in told.stdout
    assert (nested.folder / "reports" / "matrix-outer" / "matrix.txt").read_text() == told.stdout
    saved = json.loads((nested.folder / "reports" / "matrix-outer" / "matrix.json").read_text())
    assert saved["schema"] == "drkit.matrix/1" and saved["totals"]["wrong"] == 0
    assert sum(saved["totals"].values()) == 3 * 3 * 6 and saved["resumed_share"] > 0.9
    assert nested.drkit("drill", "matrix", "outer", "--seed", "0").stdout == told.stdout


def test_a_wrong_cell_is_exit_4_and_named_with_the_command_that_repeats_it(
    nested: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = pretend.World.look

    async def lying(self: pretend.World, step: str, *, probes: bool) -> pretend.Seen:
        seen = await real(self, step, probes=probes)
        return pretend.Seen(pretend.WHOLE if seen.parts else 0, seen.running, seen.ready)

    monkeypatch.setattr(pretend.World, "look", lying)
    again = ("drill", "matrix", "outer", "--seed", "0", "--only", "keys/grant:during:kill")
    told = nested.drkit("drill", "matrix", "outer")
    assert told.returncode == 4 and f"     drkit {' '.join(again)}" in told.stdout.splitlines()
    told = nested.drkit(*again, "-o", "json")
    assert told.returncode == 4 and not (nested.folder / "reports" / "matrix-outer" / "only").exists()
    (cell,) = json.loads(told.stdout)["cells"]
    assert (cell["ending"], cell["recovered"], cell["next"]) == ("wrong", None, None)
    assert "keys/grant is not in effect at the end" in cell["why"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--only", "agree:before:throttle"], "cannot touch agree, which reaches nothing"),
        (["--only", "nobody:before:kill"], 'has no step "nobody"'),
        (["--only", "agree:before:meteor"], '"meteor" is none of kill, ssh, throttle, stale, denied, disk'),
        (["--env", "lab"], "on the simulator or in the sandbox, not in lab"),
        (["--env", "sandbox"], "is a drill of its own in a sandbox of its own: say how many"),
        (["--env", "sandbox", "--only", "keys/grant:before:ssh"], "ssh cannot touch keys/grant"),
        (["--env", "sandbox", "--only", "later:before:denied"], "cannot be struck for real"),
        (["--part", "3/2"], '"3/2" is none of 1/N to N/N'),
        (["--sample", "0"], "sample"),
    ],
)
def test_what_cannot_be_played_is_exit_2(nested: Lab, words: list[str], said: str) -> None:
    told = nested.drkit("drill", "matrix", "outer", *words)
    assert told.returncode == 2 and said in told.stderr, (told.stdout, told.stderr)
    assert not (nested.folder / "reports").exists()


def test_what_becomes_steps_only_while_the_run_goes_on_is_refused(nested: Lab) -> None:
    book = nested.folder / "runbooks" / "outer.yaml"
    book.write_text(
        book.read_text().replace("uses: runbook/inner}", 'uses: runbook/inner, for_each: "${ steps.look.x }"}')
    )
    assert nested.drkit("drill", "matrix", "outer").returncode == 2  # and not a half matrix
