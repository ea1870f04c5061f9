"""What is taken back: all of it, once, backwards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from drkit.engine.compensation import PREFIX
from drkit.model import events as e
from simulation.account import Account
from simulation.invariants.aftermath import Aftermath, sent_by


def compensations_run_once_and_backwards(a: Aftermath) -> Iterator[str]:
    """Every compensation that is due ran once, and none before those of the steps that needed its own."""
    account, state = a.final, a.state
    if account is None or state is None or account.outcome != "rolled_back":
        return
    due = [s for s in state.steps.values() if s.undoes is None and s.intent and s.undo and s.plan.part == "runbook"]
    for step in due:
        ended = list(account.of(PREFIX + step.id, e.Done, e.AlreadySo)) + _settled(account, PREFIX + step.id)
        if len(ended) != 1:
            yield f"{step.id} was to be undone, and was {len(ended)} times"
    for step in due:
        started = _first(account, PREFIX + step.id)
        for later in due:
            if step.id in account.before(later.id) and started < _last(account, PREFIX + later.id):
                yield f"{step.id} was undone (event {started}) before {later.id}, which needs it"


def due_compensations_are_known(a: Aftermath) -> Iterator[str]:
    """A step that changed the world, or may have, and is taken back is undone; one that cannot be forbids it."""
    account = a.final
    if account is None or account.outcome != "rolled_back":
        return
    for step in account.steps.values():
        if step.part in ("inject", "heal"):
            continue  # taken back by its heal, and by nothing else
        sent = [s for s, by in sent_by(a) if by is account and s.step == step.id]
        if sent and step.irreversible:
            yield f"{step.id} was sent and cannot be undone, and the run was rolled back"
        undone = list(account.of(PREFIX + step.id))
        if sent and not step.irreversible and not undone and not _skipped_by_hand(account, step.id):
            yield f"{step.id} was sent, and nothing took it back"


def the_state_store_knows_of_a_rollback_first(a: Aftermath) -> Iterator[str]:
    """Nothing is taken back before the state store knows that it will be, unless it does not answer."""
    for sent, account in sent_by(a):
        if not sent.step.startswith(PREFIX):
            continue
        ordered = next((seq for seq, o in account.orders("abort") if o.args.get("rollback")), None)
        if ordered is None or sent.copied >= ordered:
            continue
        intent = next((seq for seq, _ in account.of(sent.step, e.Prepared)), 10**9)
        facts = (row.fact for row in account.rows if ordered < row.seq < intent)
        if not any(isinstance(fact, e.Copied) and fact.error for fact in facts):
            yield f"{sent.step} was sent at {sent.t:.1f}; the state store had {sent.copied} of {ordered} events"


def _settled(account: Account, id: str) -> list[tuple[int, Any]]:
    """Where people declared a compensation over."""
    if any(account.of(id, e.Done, e.AlreadySo)):
        return []
    return [(seq, o) for seq, o in account.of(id, e.Ordered) if o.verb in ("skip", "resolve", "done")][-1:]


def _first(account: Account, id: str) -> int:
    return next((seq for seq, _ in account.of(id, e.Prepared, e.AlreadySo)), 10**9)


def _last(account: Account, id: str) -> int:
    return max((seq for seq, f in account.of(id) if isinstance(f, e.Done | e.AlreadySo)), default=0)


def _skipped_by_hand(account: Account, id: str) -> bool:
    return any(o.verb in ("skip", "resolve") for _, o in account.of(id, e.Ordered))
