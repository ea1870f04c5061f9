"""Messages as steps: sent to an audience, and done when they were received."""

from __future__ import annotations

from typing import Literal

from drkit.catalog import action, probe
from drkit.context import Context
from drkit.errors import DrkitError, StepFailed
from drkit.model.observation import Observation, State
from drkit.model.params import Params, Use
from drkit.notify.delivery import Delivery, tell_all
from drkit.notify.wording import Message, Severity, Status, usable

Audience = Literal["responders", "stakeholders", "customers", "regulator"]


class Audiences(Params):
    """Who is told."""

    to: list[Audience]
    """Audiences; every one must get it."""
    enough: Literal["one", "all"] = "one"
    """Of an audience's sinks: is it enough if one has received the message (a dead Slack delays nothing), or all?"""


class Receipt(Observation):
    """One sink. `received` null: it cannot be told."""

    sink: str
    audience: str
    received: bool | None


class Received(Observation):
    """Who has received this step's message."""

    receipts: list[Receipt]
    nobody: list[str]
    """Audiences for which this environment has no sink that may be used."""


@probe("notify.received", side="neither")
async def received(ctx: Context, p: Audiences) -> Received:
    """Look where messages arrive for the one of this step."""
    delivery = ctx.use(Delivery)
    receipts: list[Receipt] = []
    nobody: list[str] = []
    for audience in p.to:
        sinks = usable(ctx.environment.sinks, audience, drill=ctx.drill)
        if not sinks:
            nobody.append(audience)
        for sink in sinks:
            try:
                there = await delivery.arrived(sink, ctx.token)
            except DrkitError:
                there = None
            receipts.append(Receipt(sink=sink.name, audience=audience, received=there))
    return Received(receipts=receipts, nobody=nobody)


class Send(Audiences):
    """Tell people."""

    subject: str
    """One line."""
    text: str
    """What they need to know."""
    status: Status = "investigating"
    """How far the incident is, in the four words of status pages; `resolved` closes it."""
    severity: Severity = "critical"
    """How urgent it is for responders."""


@action("notify.send", observe=received, repeat="safe", side="neither", timeout_s=30, poll_s=0.15, skippable=False)
async def send(ctx: Context, p: Send, before: Received) -> None:
    """Send a message to every audience; sinks that have it already are left out, so it can be repeated."""
    if before.nobody:
        raise StepFailed(f"There is nobody to tell: no sink for {', '.join(before.nobody)}.", world="untouched")
    message = Message(
        subject=p.subject,
        text=p.text,
        reference=ctx.token,
        incident=f"drkit-{ctx.run}",
        status=p.status,
        severity=p.severity,
        drill=ctx.drill,
    )
    sinks = [sink for audience in p.to for sink in usable(ctx.environment.sinks, audience, drill=ctx.drill)]
    failures = await tell_all(ctx.use(Delivery), sinks, message)
    for name, why in failures.items():
        ctx.scratch[name] = why


@send.check
def arrived(p: Send, now: Received) -> State:
    """Received by every audience."""
    if now.nobody:
        return State.UNKNOWN
    got = [_got_it([r.received for r in now.receipts if r.audience == audience], p.enough) for audience in p.to]
    if all(each is True for each in got):
        return State.HOLDS
    return State.UNKNOWN if None in got else State.ABSENT


def _got_it(receipts: list[bool | None], enough: str) -> bool | None:
    """Whether an audience has it; None if it cannot be told."""
    decided = any(receipts) if enough == "one" else all(receipts)
    return True if decided else None if None in receipts else False


@send.undo
def not_unsaid(p: Send, before: Received, after: Received | None) -> Use | None:
    """What was said stays said; the next message says what is so."""
    return None
