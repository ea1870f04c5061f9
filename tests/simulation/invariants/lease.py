"""One holder, one side that can be written, and users there."""

from __future__ import annotations

from collections.abc import Iterator

from drkit.engine.compensation import PREFIX
from drkit.engine.sending import LEASE_FLOOR_S
from drkit.model import events as e
from simulation.invariants.aftermath import Aftermath, sent_by


def one_holder(a: Aftermath) -> Iterator[str]:
    """Never do two processes hold the environment's lease."""
    yield from a.history.two_holders


def sent_under_a_lease(a: Aftermath) -> Iterator[str]:
    """Whoever sends holds a lease that lasts, unless it was frozen after it had looked."""
    for sent in a.history.world.sent:
        if sent.lease_s < LEASE_FLOOR_S - 1e-6 and not sent.frozen:
            yield f"{sent.step} was sent at {sent.t:.1f} with {sent.lease_s:.1f} s of the lease left"


def stale_holders_change_nothing(a: Aftermath) -> Iterator[str]:
    """What is sent when the lease is over is refused where the target can, else its outcome is called uncertain."""
    for sent, account in sent_by(a):
        if sent.lease_s > 0:
            continue
        if sent.checked and sent.fate == "done":
            yield f"{sent.step} was let in by its target at {sent.t:.1f}, without a lease"
        done = next((seq for seq, f in account.of(sent.step, e.Done) if f.attempt == sent.attempt and not f.adopted), 0)
        if not sent.checked and done and a.history.overtaken(sent.process, sent.t):
            yield f"{sent.step} is called done (event {done}), and was sent when another process held the lease"


def one_writable_side(a: Aftermath) -> Iterator[str]:
    """Never can both sides write, unless two persons passed the fence, or one lifted it without the state store."""
    passed = any(
        len(account.overridden(step.id)) > 1 for account in a.accounts for step in account.steps.values() if step.fences
    )
    lifted = any(
        fact.purpose == "uncopied" for account in a.accounts for row in account.rows
        if isinstance(fact := row.fact, e.Asked) and fact.step.startswith(PREFIX)
    )  # fmt: skip
    if not (passed or lifted):
        yield from (text for rule, text in a.history.world.wrong if rule == "two_writable")


def users_go_where_one_can_write(a: Aftermath) -> Iterator[str]:
    """Users are never sent to a side that cannot write."""
    yield from (text for rule, text in a.history.world.wrong if rule == "users")
