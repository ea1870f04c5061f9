"""`drkit chaos shrink`: what it tells, and how it ends without an answer. Runs are made up; the command is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cli_lab import Lab, Result
from engine_fakes import DANA, Folding, step

from drkit.cli import environment as environments
from drkit.cli import healing, rehearsing, repeating, seen, shrink
from drkit.cli.seen import Seen
from drkit.cli.settings import Settings
from drkit.engine.runs import Request, RunFolder
from drkit.model import events as e
from drkit.model.events import Row
from drkit.model.faults import Marker, Markers

FAULTS = ("a", "b", "c", "d")
WORDS = ("chaos", "shrink", "r000", "--confirm", "lab", "-o", "json")
LEFT = Markers(markers=(Marker(key="k", fault="host.cpu-load", params={}, where="host web-1", state="overdue"),))

Fails = Callable[[frozenset[str]], bool]


def ended(run: str, faults: tuple[str, ...], *, breaks: str | None, outcome: str | None = "done") -> Seen:
    """A run that injected these faults and broke this expectation. `outcome` None: it stands still."""
    steps = [step(id).model_copy(update={"part": "inject"}) for id in faults]
    heals = [step(f"heal-{id}", id).model_copy(update={"part": "heal", "heals": id}) for id in faults]
    fold = Folding(*steps, *heals, run=run)
    for each in fold.plan.steps:
        fold.whole(each.id)
    rows = []
    if breaks is not None:
        rows.append(Row.link(1, "", e.Deviated(expect=breaks, reason="it is so", verdict="fail").at(1.0), (), ""))
    if outcome is not None:
        fold.take(e.Finished(outcome=outcome, why=None if outcome == "done" else "somebody pulled a plug"))
    return Seen(RunFolder(Path(run)), fold.run, rows)


class World:
    """Which sets of faults fail; what is left after a run; what was begun."""

    def __init__(self, lab: Lab, patch: pytest.MonkeyPatch) -> None:
        self.fails: Fails = lambda some: {"b", "d"} <= some
        self.outcome: str | None = "done"
        self.left: list[Markers] = []
        self.begun: list[tuple[str, ...]] = []
        self.first = ended("r000", FAULTS, breaks="all is well")
        self.kind = "run"
        patch.setattr(seen, "find", lambda run: RunFolder(Path(run)))
        patch.setattr(seen, "read", lambda folder: self.first)
        patch.setattr(repeating, "recorded", self.recorded)
        patch.setattr(rehearsing, "begun", self.begin)
        patch.setattr(shrink, "_ended", lambda settings, faults: self.run(faults))
        patch.setattr(healing, "look", lambda environment: self.left.pop(0) if self.left else Markers())

    def recorded(self, run: str) -> Request:
        environment = environments.load(Settings())
        plan = self.first.state.plan.but(scenario="two")
        return Request(run=run, kind=self.kind, plan=plan, environment=environment, by=DANA, wall=0.0)

    def begin(self, settings: Settings, wanted: rehearsing.Rehearsal) -> Any:
        assert (wanted.kind, wanted.scenario, wanted.confirm, wanted.dry_run) == ("run", "two", "lab", False)
        assert wanted.again is not None and wanted.again.only is not None
        self.begun.append(wanted.again.only)
        return wanted.again.only

    def run(self, faults: Any) -> Seen:
        breaks = "all is well" if self.fails(frozenset(faults)) else None
        return ended(f"r{len(self.begun):03}", faults, breaks=breaks, outcome=self.outcome)


@pytest.fixture
def world(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(lab, monkeypatch)


def says(result: Result, code: int, *words: str) -> None:
    assert result.returncode == code, (result.returncode, result.stdout, result.stderr)
    for word in words:
        assert word in result.stderr + result.stdout, (word, result.stdout, result.stderr)


def test_text_says_each_try_the_smallest_set_and_how_it_is_repeated(lab: Lab, world: World) -> None:
    found = lab.drkit(*WORDS[:5])
    says(found, 0, "2 of 4 faults are enough: b, d", "with any one of them left out it does not fail")
    lines = found.stdout.splitlines()
    assert len(lines) == len(world.begun) + 1 and world.begun[0] == FAULTS
    assert lines[0] == "FAIL  r001  4 of 4: a, b, c, d  steady_state: all is well"
    smallest = world.begun.index(("b", "d")) + 1
    assert f"Next: drkit chaos replay r{smallest:03} --env lab" in found.stderr


def test_a_budget_that_is_out_tells_the_smallest_so_far(lab: Lab, world: World) -> None:
    found = lab.drkit(*WORDS, "--max-runs", "2")
    told = json.loads(found.stdout)
    assert (found.returncode, len(told["attempts"]), told["minimal"]) == (4, 2, False)
    assert told["smallest"] == list(FAULTS) and told["replay"] == "drkit chaos replay r001 --env lab"


def test_what_does_not_fail_again_comes_and_goes_and_is_not_searched(lab: Lab, world: World) -> None:
    world.fails = lambda some: False
    found = lab.drkit(*WORDS)
    says(found, 1, "run r000 failed, and with the same faults run r001 does not", "drkit chaos replay r000 --env lab")
    assert world.begun == [FAULTS] and json.loads(found.stdout)["smallest"] is None


def test_a_run_that_ended_otherwise_tells_nothing_of_its_faults(lab: Lab, world: World) -> None:
    world.fails, world.outcome = lambda some: False, "aborted"
    says(lab.drkit(*WORDS), 1, '"unresolved"', "somebody pulled a plug")


def test_another_expectation_that_is_broken_is_not_this_failure(lab: Lab, world: World) -> None:
    world.first = ended("r000", FAULTS, breaks="something else")
    says(lab.drkit(*WORDS), 1, '"unresolved"', "it broke something else")


def test_what_a_try_leaves_behind_ends_the_search_and_what_was_found_is_told(lab: Lab, world: World) -> None:
    for tries, runs_max in ((1, "50"), (2, "50"), (2, "2")):
        world.begun, world.left = [], [Markers()] * tries + [LEFT]
        found = lab.drkit(*WORDS, "--max-runs", runs_max)
        says(found, 1, "host.cpu-load at host web-1", "drkit chaos stop --all --env lab")
        told = json.loads(found.stdout)
        assert len(told["attempts"]) == len(world.begun) == tries and "host.cpu-load" in told["stopped"]


@pytest.mark.parametrize(
    ("left", "said"), [(LEFT, "drkit chaos stop --all"), (Markers(silent=("host web-1",)), "drkit chaos leftovers")]
)
def test_nothing_begins_while_anything_is_or_may_be_broken(lab: Lab, world: World, left: Markers, said: str) -> None:
    world.left = [left]
    says(lab.drkit(*WORDS), 3, "host web-1", said)
    assert world.begun == []


def test_it_is_permitted_as_any_run_that_breaks_things(lab: Lab, world: World) -> None:
    says(lab.drkit("chaos", "shrink", "r000"), 2, "add --confirm lab")
    says(lab.drkit("chaos", "shrink", "r000", "--confirm", "other"), 2, "nothing was confirmed")
    toml = lab.folder / "drkit.toml"
    toml.write_text(toml.read_text().replace('"staging"', '"production"'))
    says(lab.drkit(*WORDS), 3, "lab is production", "--allow-production")
    assert world.begun == []
    says(lab.drkit(*WORDS, "--allow-production"), 0)


def test_runs_that_cannot_be_shrunk_are_refused_with_the_reason(lab: Lab, world: World) -> None:
    world.kind = "drill"
    says(lab.drkit(*WORDS), 3, "its runbook moves the service", "drkit chaos run two")
    world.kind = "run"
    world.first = ended("r000", FAULTS, breaks=None)
    says(lab.drkit(*WORDS), 3, "run r000 did not fail", "drkit report r000")
    world.first = ended("r000", FAULTS, breaks="all is well", outcome=None)
    says(lab.drkit(*WORDS), 3, "is not over", "drkit status r000 --watch")
    world.first = ended("r000", (), breaks="all is well")
    says(lab.drkit(*WORDS), 3, "heals nothing", "drkit chaos stop --run r000")
    assert world.begun == []


def test_a_try_that_stands_still_ends_the_search(lab: Lab, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    still = ended("r001", ("a",), breaks=None, outcome=None)

    class Viewer:
        def __init__(self, settings: Settings, look: Seen, **given: Any) -> None:
            look.run = still.run

        def show(self) -> int:
            return 1

    monkeypatch.setattr("drkit.cli.viewer.Viewer", Viewer)
    waiting = SimpleNamespace(folder=RunFolder(Path("r001")), spawned=None)
    with pytest.raises(Exception, match="run r001 stands still") as refused:
        shrink._ended(Settings(), waiting)
    assert getattr(refused.value, "hint", None) == "drkit status r001"
