"""The drill matrix on the simulator: the shipped runbook struck at every moment, and bugs that it must call wrong."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from simulation.mutants.mutant import applied
from standins import RUNBOOK

from drkit.drill import pretend, rehearsing
from drkit.drill.matrix import Cell, Ending, Fault, Matrix, Moment, cells, sample, touched
from drkit.drill.rehearsing import Stage, prepare
from drkit.plan.files import load_runbook


@cache
def stage() -> Stage:
    return prepare(load_runbook(RUNBOOK), {}, 0)


def played(text: str) -> Any:
    return stage().play(Cell.read(text, stage().real))


def nothing_is_wrong(matrix: Matrix) -> None:
    assert matrix.wrong == ()
    for stop in matrix.having(Ending.SAFE_STOP):
        assert stop.why and stop.commands and stop.commands[0].split()[:2] in (["drkit", "retry"], ["drkit", "inspect"])


def test_without_a_fault_nothing_is_sent_twice() -> None:
    whole = stage().undisturbed()
    assert (whole.ending, whole.commands, whole.repeated) == (Ending.RESUMED, (), 0)


def test_of_a_sample_with_every_fault_and_moment_nothing_is_wrong() -> None:
    drawn = sample(touched(stage().real, stage().reaches), 8, seed=60)
    assert {cell.fault for cell in drawn} == set(Fault) and {cell.moment for cell in drawn} == set(Moment)
    nothing_is_wrong(Matrix(stage().real, tuple(map(stage().play, drawn)), 4, "simulator"))


@pytest.mark.soak
def test_all_cells_are_as_promised() -> None:
    every = cells(stage().real)
    assert len(every) == 47 * len(Moment) * len(Fault)
    matrix = Matrix(stage().real, tuple(map(stage().play, every)), 0, "simulator")
    nothing_is_wrong(matrix)
    assert matrix.resumed_share is not None and matrix.resumed_share >= 0.9
    assert matrix.count()[Ending.NOT_APPLICABLE] < len(every) / 4


@pytest.mark.parametrize(
    ("cell", "ending", "commands"),
    [
        ("promote:during:kill", Ending.RESUMED, ()),
        ("declare:after:kill", Ending.RESUMED, ()),
        ("keys:during:throttle", Ending.RESUMED, ()),
        ("settle:before:ssh", Ending.RESUMED, ()),
        ("keys:before:denied", Ending.SAFE_STOP, ("drkit retry matrix keys",)),
        ("fence:after:denied", Ending.SAFE_STOP,
         ("drkit inspect matrix fence", "drkit resolve matrix fence --as not-done")),
        ("page:before:throttle", Ending.NOT_APPLICABLE, ()),
    ],
)  # fmt: skip
def test_what_becomes_of_a_cell(cell: str, ending: Ending, commands: tuple[str, ...]) -> None:
    found = played(cell)
    assert (found.ending, found.commands) == (ending, commands), found.why


def test_the_same_seed_gives_the_same_run_and_another_one_another() -> None:
    first, other = played("handover:before:disk"), Stage(stage().real, seed=1)
    assert played("handover:before:disk") == first
    assert other.play(first.cell).took_s != first.took_s


# What it must call wrong


def lying_look(self: pretend.World, step: str, *, probes: bool, real: Callable[..., Any]) -> Any:
    """Half an effect looks whole."""

    async def look() -> pretend.Seen:
        seen = await real(self, step, probes=probes)
        return pretend.Seen(pretend.WHOLE if seen.parts else 0, seen.running, True)

    return look()


def test_a_probe_that_takes_half_for_whole_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    real = pretend.World.look
    monkeypatch.setattr(
        pretend.World, "look", lambda self, step, probes: lying_look(self, step, probes=probes, real=real)
    )
    told = played("keys:during:kill")
    assert told.ending is Ending.WRONG and "keys is not in effect at the end" in told.why
    assert "secrets was sent before keys was there" in told.why


def test_an_action_that_only_says_that_it_acts_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    real = pretend.World.write

    async def idle(self: pretend.World, step: str, parts: int, token: str, *, once: bool) -> None:
        if step != "keys":
            await real(self, step, parts, token, once=once)

    monkeypatch.setattr(pretend.World, "write", idle)
    told = played("vpn:before:kill")
    assert told.ending is Ending.WRONG and "drkit retry matrix keys does not recover it" in told.why
    told = played("keys:before:kill")
    assert told.ending is Ending.WRONG and "its moment never came" in told.why


def test_a_target_that_hangs_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsing, "HANGS_S", 300.0)  # users alone are watched for longer
    assert "it hangs" in played("drain:before:kill").why


@pytest.mark.parametrize(
    ("mutant", "cell", "words"),
    [
        ("repeat-done-steps", "go:before:kill", "was sent again after"),
        ("count-a-need-twice", "keys:before:kill", "was begun before"),
    ],
)
def test_a_seeded_bug_of_the_engine_is_wrong(mutant: str, cell: str, words: str) -> None:
    with applied(mutant):
        told = played(cell)
    assert told.ending is Ending.WRONG and words in told.why, told
