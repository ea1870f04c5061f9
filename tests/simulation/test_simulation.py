"""A fixed budget of histories and a few mutants; `make soak` has ten thousand, and all of the mutants."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from drkit.model import events as e
from simulation.account import accounts
from simulation.command import main, many, violations
from simulation.history import History
from simulation.invariants import INVARIANTS, broken
from simulation.mutants import MUTANTS, applied

ROOT = Path(__file__).resolve().parents[2]
#: So many histories at most may pass until a mutant is noticed.
PATIENCE = 2000


def noticed(mutant: str) -> tuple[int, list[str]] | None:
    """After how many histories an invariant is broken, and which ways; None: not within PATIENCE."""
    found = ((seed + 1, broke) for seed in range(PATIENCE) if (broke := violations(seed, mutant)))
    return next(found, None)


@cache
def lived(seed: int) -> History:
    """One history, for every test that asks about it."""
    history = History(seed)
    history.live()
    return history


@pytest.mark.parametrize("seeds", [range(start, start + 20) for start in range(0, 120, 20)], ids=str)
def test_no_history_breaks_an_invariant(seeds: range) -> None:
    assert {seed: broke for seed in seeds if (broke := broken(lived(seed)))} == {}


@pytest.mark.parametrize(
    "mutant", ["skip-the-fsync", "reapply-without-looking", "count-a-need-twice", "give-every-entry-the-first"]
)
def test_a_seeded_bug_is_noticed(mutant: str) -> None:
    assert noticed(mutant) is not None, MUTANTS[mutant].sentence


@pytest.mark.soak
@pytest.mark.parametrize("mutant", MUTANTS)
def test_every_seeded_bug_is_noticed(mutant: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = noticed(mutant)
    assert found is not None, MUTANTS[mutant].sentence
    with capsys.disabled():
        print(f"\n{mutant}: noticed after {found[0]} histories: {found[1][0]}")


@pytest.mark.soak
def test_ten_thousand_histories_break_no_invariant() -> None:
    found = {seed: broke for seed, broke in many(range(10_000), None, os.cpu_count() or 1) if broke}
    assert found == {}


def test_the_histories_are_eventful() -> None:
    """Each trouble that the invariants are about does happen."""
    facts: Counter[str] = Counter()
    fates: Counter[str] = Counter()
    outcomes: Counter[str | None] = Counter()
    deaths = freezes = machines = 0
    scoped: Counter[str] = Counter()
    for seed in range(160):
        history = lived(seed)
        deaths += sum(process.dead for process in history.processes)
        freezes += sum(process.froze >= 0 for process in history.processes)
        fates.update(sent.fate for sent in history.world.sent)
        found = accounts(history)
        machines += len(found) > 1
        outcomes.update(account.outcome for account in found)
        facts.update(row.fact.kind for account in found for row in account.rows)
        for account in found:
            grown = [command.step for _, command in account.commands("apply") if command.step in account.grown]
            undone = [
                command.step for _, command in account.commands("apply") if (command.step or "").startswith("undo:")
            ]
            timers = {row.fact.timer.split()[0] for row in account.rows if isinstance(row.fact, e.Fired)}
            scoped.update(timers, entry=len(grown), nested_undo=sum("/" in (step or "") for step in undone))
            healed = [step for step in account.plan.steps if step.heals is not None and account.done_at(step.id)]
            scoped.update({f"healed, {account.outcome}": len(healed)})
    assert deaths > 30 and freezes > 10 and machines > 3
    assert set(outcomes) >= {"done", "aborted", "rolled_back"}
    assert set(fates) >= {"done", "dropped"}
    assert all(
        scoped[word]
        for word in (
            "deadline",
            "escalate",
            "retry",
            "entry",
            "nested_undo",
            "healed, done",
            "healed, aborted",
            "healed, rolled_back",
        )
    ), scoped
    never = {e.Measured, e.FaultChanged, e.Deviated}  # facts that the engine carries for others
    assert {kind for kind, fact in e.KINDS.items() if not facts[kind] and fact not in never} <= {e.Interrupted.kind}


def test_a_seed_gives_the_same_history_byte_for_byte_in_every_process() -> None:
    shown = set()
    for hash_seed in ("1", "2"):
        command = [sys.executable, "-m", "tests.simulation", "--histories", "6", "--seed", "30", "--show"]
        variables = os.environ | {"PYTHONHASHSEED": hash_seed}
        done = subprocess.run(command, env=variables, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
        shown.add(done.stdout.rsplit("\n", 2)[0])  # without the closing line, which tells the time
    assert len(shown) == 1 and shown.pop().count("\nsha256:") >= 6


def test_the_command_counts_violations_and_says_so_with_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--histories", "3", "--seed", "5"]) == 0
    assert capsys.readouterr().out.startswith("3 histories, 0 violations, ")
    assert main(["--histories", "3", "--seed", "5", "--mutant", "break-the-chain"]) == 1
    told = capsys.readouterr().out.splitlines()
    assert any(line.startswith("seed 5: the_chain_is_unbroken: ") for line in told)
    assert told[-1].startswith("3 histories, 3 violations, ")


def test_every_rule_and_every_mutant_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list-mutants"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(MUTANTS) >= 15
    sentences = [one.sentence for one in MUTANTS.values()] + [rule.__doc__ or "" for rule in INVARIANTS]
    assert all(sentence.endswith(".") for sentence in sentences)


def test_a_mutant_leaves_nothing_behind() -> None:
    for name in MUTANTS:
        patches = list(MUTANTS[name].patches())
        was = [owner.__dict__[attribute] for owner, attribute, _ in patches]
        with applied(name):
            assert [owner.__dict__[attribute] for owner, attribute, _ in patches] != was
        assert [owner.__dict__[attribute] for owner, attribute, _ in patches] == was
