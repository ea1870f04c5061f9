"""What holds a run: a person's pause, its deadline, its lost lease."""

from __future__ import annotations

from collections.abc import Iterator

from drkit.model import events as e
from simulation.account import STARTING, Account, is_undo
from simulation.invariants.aftermath import Aftermath

LATE_S = 1.0
"""A second after its deadline a runner that is awake all the while has been told."""


def a_pause_holds(a: Aftermath) -> Iterator[str]:
    """While a run is paused, or its lease is lost, it starts nothing, a rollback chosen ahead included."""
    for account in a.accounts:
        paused = lost = False
        for row in account.rows:
            fact = row.fact
            if isinstance(fact, e.Ordered):
                paused = fact.verb == "pause" or (paused and fact.verb not in ("resume", "abort"))
            if isinstance(fact, e.LeaseChanged):
                lost = fact.state != "held"
            for command in row.commands:
                resumed = isinstance(fact, e.Resumed) or command.verb == "ask"
                if (paused or lost) and command.verb in STARTING and not resumed:
                    yield f"{command.verb} {command.step} (event {row.seq}) while the run is held"


def a_deadline_holds(a: Aftermath) -> Iterator[str]:
    """A run past its deadline starts nothing new until somebody decides, unless it was being taken back by then."""
    for account in a.accounts:
        overdue = ending = False
        for row in account.rows:
            fact = row.fact
            if isinstance(fact, e.Ordered) and fact.verb in ("resume", "abort"):
                overdue, ending = False, ending or fact.verb == "abort"
            if isinstance(fact, e.Fired) and fact.timer == "deadline":
                overdue = not ending
            ending |= not overdue and _may_end_the_run(account, fact)
            for command in row.commands:
                ending |= is_undo(command.step or "") or command.verb == "cancel"
                again = isinstance(fact, e.Resumed) or command.verb == "ask"
                if overdue and command.verb in STARTING and not again:
                    yield f"{command.verb} {command.step} (event {row.seq}) after the run's deadline"


def _may_end_the_run(account: Account, fact: e.Fact) -> bool:
    """Whether a step may have failed whose `on_failure` takes the run back, or ends it."""
    step = account.step(str(getattr(fact, "step", "")))
    failed = isinstance(fact, e.Failed | e.Interrupted | e.Answered)
    return failed and step is not None and step.on_failure in ("abort", "rollback")


def a_deadline_is_told(a: Aftermath) -> Iterator[str]:
    """A runner that lives past the run's deadline is told so, and so is one that comes later."""
    for account in a.accounts:
        if account.plan.deadline_s is not None:
            yield from _untold(account, account.plan.deadline_s)


def _untold(account: Account, deadline_s: float) -> Iterator[str]:
    due, noticed, last = None, None, 0.0
    for row in account.rows:
        fact = row.fact
        if isinstance(fact, e.Began) and due is None:
            due = fact.t + deadline_s
        if isinstance(fact, e.Fired) and fact.timer == "deadline":
            return
        frozen, last = fact.t > last + LATE_S, fact.t  # perhaps: then it was not awake since it noticed
        if isinstance(fact, e.Resumed) or frozen:
            noticed = None
        if due is not None and noticed is None and fact.t > due + LATE_S:
            noticed = fact.t
        if noticed is not None and fact.t > noticed + LATE_S:
            started = [c.step for c in row.commands if c.verb in STARTING]
            if started:
                yield f"{started[0]} begins at {fact.t:.1f} (event {row.seq}); the run's deadline was {due:.1f}"
