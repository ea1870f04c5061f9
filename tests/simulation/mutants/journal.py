"""Driver, journal and its copy, broken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from drkit.engine import copy, driver, fold, memory, moves
from drkit.errors import JournalError
from drkit.model import events as e
from simulation.mutants.mutant import Patch, mutant


@mutant
def skip_the_fsync() -> Sequence[Patch]:
    """An append returns before its rows are durable; a crash loses them."""
    return [(memory.MemoryStore, "_sync", lambda self: None)]


@mutant
def start_before_commit() -> Sequence[Patch]:
    """Commands are started before the rows that caused them are committed."""
    commit = driver.Driver._commit

    async def eager(self: Any, rows: Sequence[e.Row]) -> None:
        for row in rows:
            for command in row.commands:
                self._start(command)
        await commit(self, [replace(row, commands=row.commands) for row in rows])
        for row in rows:
            object.__setattr__(row, "commands", ())

    return [(driver.Driver, "_commit", eager)]


@mutant
def lose_facts_at_a_failed_commit() -> Sequence[Patch]:
    """When the journal cannot be written, what was to be written is forgotten."""

    async def forgetful(self: Any, rows: Sequence[e.Row]) -> None:
        try:
            self._store.append(rows)
        except JournalError:
            return
        self._head = rows[-1].hash
        if self._copier is not None:
            self._copier.committed(rows)

    return [(driver.Driver, "_commit", forgetful)]


@mutant
def break_the_chain() -> Sequence[Patch]:
    """Rows of one commit do not follow each other: each continues the commit before."""
    link = e.Row.link

    def broken(self: Any, facts: Sequence[e.Fact]) -> list[e.Row]:
        rows = whole(self, facts)
        return [link(row.seq, row.at, row.fact, row.commands, self._head) for row in rows]

    whole = driver.Driver._fold
    return [(driver.Driver, "_fold", broken)]


@mutant
def take_refused_orders() -> Sequence[Patch]:
    """Whatever anybody orders is carried out."""
    return [(driver, "why_not", lambda fact, now: None), (fold, "why_not", lambda fact, now: None)]


@mutant
def send_before_the_copy() -> Sequence[Patch]:
    """What cannot be undone is sent before its intent is in the state store."""
    go = moves.Moves.go

    def hasty(self: Any, step: Any, verb: str, why: str) -> None:
        go(self, step, "apply" if verb == "copy" else verb, why)

    return [(moves.Moves, "go", hasty)]


@mutant
def journal_secrets() -> Sequence[Patch]:
    """Facts are journaled with the secrets that are in them."""
    return [(driver, "redacted", lambda fact, text, secrets: fact)]


@mutant
def copy_claims_success() -> Sequence[Patch]:
    """What is to be in the state store is said to be there before it is."""

    def claim(self: Any, upto: int) -> None:
        want(self, upto)
        self._inbox.put(e.Copied(upto=upto))

    want = copy.JournalCopier.want
    return [(copy.JournalCopier, "want", claim)]
