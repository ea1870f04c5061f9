"""What was broken on purpose is healed, whatever becomes of the run."""

from __future__ import annotations

from collections.abc import Iterator

from drkit.engine.compensation import PREFIX
from drkit.model import events as e
from drkit.model.plan import PlanStep
from simulation.account import STARTING, Account
from simulation.invariants.aftermath import Aftermath

_AT_WORK = ("prepare", "copy", "apply", "recover")
_AT_REST = e.Prepared | e.AlreadySo | e.NotNeeded | e.Done | e.Failed | e.Uncertain | e.NotDone | e.Interrupted


def what_was_broken_is_healed(a: Aftermath) -> Iterator[str]:
    """A fault that was sent is healed once when the run ends, unless a person settled that, or the run says failed."""
    account = a.final
    if account is None or account.outcome in (None, "failed"):
        return
    broken = {sent.step for sent in a.history.world.sent if sent.fate == "done"}
    for heal in _heals(account):
        for id in (heal.id, heal.heals):
            if any(account.of(f"{PREFIX}{id}")):
                yield f"{id} was taken back, and its heal does that"
        done = list(account.of(heal.id, e.Done, e.AlreadySo))
        by_hand = [o for _, o in account.of(heal.id, e.Ordered) if o.verb in ("skip", "resolve", "done")]
        if len(done) > 1 or (heal.heals in broken and not done and not by_hand):
            yield f"{heal.heals} was broken, and {heal.id} healed it {len(done)} times"


def a_heal_follows_its_fault(a: Aftermath) -> Iterator[str]:
    """A heal begins when its fault was begun, and nobody is at work on that any more."""
    for account in a.accounts:
        for heal in _heals(account):
            yield from _too_early(account, heal, heal.heals or "")


def _too_early(account: Account, heal: PlanStep, fault: str) -> Iterator[str]:
    known, at_work = False, False
    for row in account.rows:
        fact = row.fact
        if isinstance(fact, e.Resumed):
            at_work, known = False, known or fact.from_copy  # the end of what was copied may be missing
        if isinstance(fact, _AT_REST) and fact.step == fault:
            at_work, known = False, True
        for command in row.commands:
            if command.step == fault:
                at_work = command.verb in _AT_WORK
            if command.step != heal.id or command.verb not in STARTING:
                continue
            if at_work:
                yield f"{command.verb} {heal.id} (event {row.seq}) while {fault} is still being injected"
            elif not known and account.ended_at(fault) > row.seq:
                yield f"{command.verb} {heal.id} (event {row.seq}), and {fault} was never begun"


def _heals(account: Account) -> Iterator[PlanStep]:
    return (step for step in account.plan.steps if step.heals is not None)
