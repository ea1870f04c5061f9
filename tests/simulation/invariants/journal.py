"""The journal is whole and the run comes to its end."""

from __future__ import annotations

import json
from collections.abc import Iterator

from drkit.engine.chain import Stored, fitting
from drkit.engine.decisions import compare
from drkit.errors import JournalError
from drkit.model.values import canonical
from simulation.invariants.aftermath import Aftermath
from simulation.world import SECRET


def the_run_ends(a: Aftermath) -> Iterator[str]:
    """A run comes to its end whatever happened; none hangs, and no process dies of an error of its own."""
    if not a.history.over:
        state = a.history.state
        yield f"no end: {state.phase if state else 'never begun'} {state.blocks() if state else ''}"
    yield from a.history.errors


def the_chain_is_unbroken(a: Aftermath) -> Iterator[str]:
    """Every row of every journal continues the one before it, by the bytes that lie there."""
    for account in a.accounts:
        stored = []
        for text in account.texts:
            data = json.loads(text)
            hash = data.pop("hash")
            stored.append(Stored(data["seq"], canonical(data).decode(), hash))
        try:
            list(fitting(stored))
        except JournalError as error:
            yield f"{account.machine}: {error}"


def secrets_stay_out(a: Aftermath) -> Iterator[str]:
    """No secret is in a journal, nor in what is copied of it."""
    secret = SECRET.encode()
    for account in a.accounts:
        for place, text in enumerate(account.texts, 1):
            if secret in text:
                yield f"{account.machine}: event {place} holds a secret"
    for key, (data, _) in a.history.bucket.objects.items():
        if secret in data:
            yield f"{key} holds a secret"


def replay_decides_the_same(a: Aftermath) -> Iterator[str]:
    """The fold over a journal makes the decisions that were made."""
    for account in a.accounts:
        for difference in compare(account.rows):
            yield f"{account.machine}: event {difference.row.seq} is decided otherwise"
            break
