"""Many histories, one closing line: `N histories, V violations, H histories/s`. Exit code 1 if there is a violation."""

from __future__ import annotations

import multiprocessing
import os
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from functools import partial

from simulation.history import History
from simulation.invariants import broken
from simulation.mutants import MUTANTS, applied

ALONE = 100
"""So few histories are not worth a second process."""


def violations(seed: int, mutant: str | None = None) -> list[str]:
    """What one seed's history breaks, in words."""
    history = History(seed)
    with applied(mutant):
        try:
            history.live()
        except Exception as error:  # noqa: BLE001 - whatever a process dies of is what was to be found
            history.errors.append(_innermost(error))
        return broken(history)


def told(seed: int, mutant: str | None) -> tuple[int, list[str]]:
    """With its seed, for other processes."""
    return seed, violations(seed, mutant)


def many(seeds: Sequence[int], mutant: str | None, jobs: int) -> Iterator[tuple[int, list[str]]]:
    """Those of many seeds, in their order."""
    if jobs == 1:
        yield from (told(seed, mutant) for seed in seeds)
        return
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        yield from pool.imap(partial(told, mutant=mutant), seeds, chunksize=20)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    options = _options(arguments)
    if options.list_mutants:
        print("\n".join(f"{name:32} {one.sentence}" for name, one in MUTANTS.items()))
        return 0
    seeds = range(options.seed, options.seed + options.histories)
    jobs = options.jobs or (1 if len(seeds) <= ALONE else os.cpu_count() or 1)
    began, found = time.monotonic(), 0
    for seed, broke in many(seeds, options.mutant, jobs):
        found += bool(broke)
        for text in broke:
            print(f"seed {seed}: {text}")
    if options.show:
        for seed in seeds:
            show(seed, options.mutant)
    print(f"{len(seeds)} histories, {found} violations, {len(seeds) / (time.monotonic() - began):.0f} histories/s")
    return 1 if found else 0


def show(seed: int, mutant: str | None = None) -> None:
    """One history: every machine's journal, and what was sent."""
    from simulation.account import accounts

    history = History(seed)
    with applied(mutant):
        try:
            history.live()
        except Exception as error:  # noqa: BLE001 - as above
            print(_innermost(error))
    for step in history.plan.steps:
        print(f"{step.id:4} {step.uses:12} {step.params} needs {', '.join(step.needs) or 'nothing'} {step.on_failure}")
    for account in accounts(history):
        print(f"-- {account.machine}")
        for row in account.rows:
            commands = ", ".join(f"{c.verb} {c.step or ''}".strip() for c in row.commands)
            said = {k: v for k, v in row.fact.to_json().items() if k in _SHOWN and v is not None}
            print(f"{row.seq:4} {row.fact.t:8.2f} {row.fact.kind:17} {said} -> {commands}")
        print(account.rows[-1].hash)
    for sent in history.world.sent:
        print(f"{sent.t:8.2f} {sent.name}={sent.value} by {sent.step} of {sent.process}: {sent.fate}")


_SHOWN = (
    "step",
    "attempt",
    "verb",
    "args",
    "error",
    "world",
    "reason",
    "answer",
    "outcome",
    "why",
    "state",
    "from_copy",
)


def _innermost(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


def _options(arguments: Sequence[str] | None) -> Namespace:
    parser = ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--histories", type=int, default=100, metavar="N", help="how many")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the first; each has the next number")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), metavar="NAME", help="with this bug in the engine")
    parser.add_argument("--list-mutants", action="store_true", help="each with a sentence")
    parser.add_argument("--show", action="store_true", help="print each journal, and what was sent")
    parser.add_argument("--jobs", type=int, default=0, metavar="J", help="processes; as many as there are cores")
    return parser.parse_args(arguments)
