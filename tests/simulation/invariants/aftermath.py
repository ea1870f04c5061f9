"""What invariants are asked about: a history that is over, its journals, and what was sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from drkit.engine.fold import replay
from drkit.engine.state import RunState
from simulation.account import Account, accounts
from simulation.history import History
from simulation.world import Sent


@dataclass
class Aftermath:
    """A history that is over, and its journals."""

    history: History

    @cached_property
    def accounts(self) -> list[Account]:
        return accounts(self.history)

    @cached_property
    def by_machine(self) -> dict[str, Account]:
        return {account.machine: account for account in self.accounts}

    @cached_property
    def final(self) -> Account | None:
        return next((account for account in self.accounts if account.final), None)

    @cached_property
    def state(self) -> RunState | None:
        """How the run stands in the end."""
        return None if self.final is None else replay(self.final.rows).state

    def account_of(self, sent: Sent) -> Account | None:
        """The journal of whoever sent it, unless another run of the machine's disk has replaced it."""
        found = self.by_machine.get(sent.process.machine.name)
        return found if sent.process.machine.disk is sent.journal else None


Invariant = Callable[[Aftermath], Iterator[str]]


def sent_by(a: Aftermath) -> Iterator[tuple[Sent, Account]]:
    """What left a process, with that process's journal."""
    for sent in a.history.world.sent:
        account = a.account_of(sent)
        if account is not None:
            yield sent, account
