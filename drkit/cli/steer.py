"""Steer a run: approve, reject, retry, skip, done, resolve, pause, abort, note, override-fence.

Each is an order to the runner: the kernel tells it who is asking, the journal keeps who, when and why. What the run
would refuse is refused here at once; the runner has the last word.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from drkit.cli.ordering import send, typist
from drkit.cli.settings import Settings, duration, pairs
from drkit.errors import Refused

if TYPE_CHECKING:
    from drkit.cli.seen import Seen
    from drkit.engine.orders import Order


PANEL = "Steer a run"

RunArgument = Annotated[str, typer.Argument(help="Run id, or `last`.")]
StepArgument = Annotated[str, typer.Argument(help="Step id.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the journal.")]


def register(app: typer.Typer) -> None:
    """Put the steering commands on `app`."""
    for name, command in (
        ("approve", approve), ("reject", reject), ("pause", pause), ("retry", retry), ("skip", skip), ("done", done),
        ("resolve", resolve), ("override-fence", override_fence), ("abort", abort), ("note", note),
    ):  # fmt: skip
        app.command(name, rich_help_panel=PANEL)(command)


def approve(ctx: typer.Context, run: RunArgument, step: StepArgument, reason: Reason) -> None:
    """Say yes to what a step asks. Who you are is what the kernel says; see `drkit help approvals`."""
    _answer(ctx.obj, run, step, "approve", reason)


def reject(ctx: typer.Context, run: RunArgument, step: StepArgument, reason: Reason) -> None:
    """Say no to what a step asks: the step fails and the run pauses."""
    _answer(ctx.obj, run, step, "reject", reason)


def pause(ctx: typer.Context, run: RunArgument = "last", reason: Annotated[str | None, typer.Option()] = None) -> None:
    """Start nothing new; what is under way ends. `drkit resume` goes on."""
    _order(ctx.obj, run, "pause", reason=reason)


def retry(
    ctx: typer.Context,
    run: RunArgument,
    step: StepArgument,
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Changed parameter.")] = None,
    reason: Annotated[str | None, typer.Option()] = None,
) -> None:
    """Try a failed step again, also with changed parameters (which void the approval that covered them)."""
    _order(ctx.obj, run, "retry", step=step, reason=reason, args={"set": pairs(changes)} if changes else {})


def skip(ctx: typer.Context, run: RunArgument, step: StepArgument, reason: Reason) -> None:
    """Leave a step out. Refused for fences and approvals."""
    _order(ctx.obj, run, "skip", step=step, reason=reason)


def done(ctx: typer.Context, run: RunArgument, step: StepArgument, reason: Reason) -> None:
    """Declare a failed step done by hand: accepted if its check holds now, else a second person must confirm."""
    _order(ctx.obj, run, "done", step=step, reason=reason)


def resolve(
    ctx: typer.Context,
    run: RunArgument,
    step: StepArgument,
    outcome: Annotated[Literal["done", "not-done"], typer.Option("--as", help="What you saw.")],
    reason: Annotated[str | None, typer.Option()] = None,
) -> None:
    """Settle a step whose outcome is unknown. Look first: `drkit inspect RUN STEP`."""
    _order(ctx.obj, run, "resolve", step=step, reason=reason, args={"as": outcome})


def override_fence(
    ctx: typer.Context,
    run: RunArgument,
    step: StepArgument,
    loss: Annotated[str, typer.Option("--accept-data-loss", metavar="DUR", help="The loss you accept; both state it.")],
    reason: Reason,
) -> None:
    """Go on although the old primary was not seen fenced. Takes two different persons; the report shows it in red."""
    args = {"loss_s": duration(loss, "--accept-data-loss")}
    _order(ctx.obj, run, "override-fence", step=step, reason=reason, args=args)


def abort(
    ctx: typer.Context,
    run: RunArgument,
    rollback: Annotated[bool, typer.Option("--rollback", help="Undo what can be undone, last first.")] = False,
    to: Annotated[str | None, typer.Option("--to", metavar="STEP", help="Undo only what came after this step.")] = None,
    reason: Annotated[str | None, typer.Option()] = None,
) -> None:
    """End a run. Without --rollback everything it changed stays as it is."""
    args = {"rollback": rollback or to is not None, "to": to}
    _order(ctx.obj, run, "abort", reason=reason, args=args)


def note(
    ctx: typer.Context, run: RunArgument, text: Annotated[str, typer.Argument(help="A remark for the record.")]
) -> None:
    """Write a remark into the run's journal."""
    from drkit.cli import seen

    settings: Settings = ctx.obj
    look = seen.read(seen.find(run))
    from drkit.model.events import Noted

    _deliver(settings, look, Noted(text=text, by=typist(look.folder)), "note")


def _order(
    settings: Settings,
    run: str,
    verb: str,
    *,
    step: str | None = None,
    reason: str | None = None,
    args: dict[str, Any] | None = None,
) -> None:
    """Check an order against the run as it stands, and hand it over."""
    from drkit.cli import seen
    from drkit.engine.refusals import why_not
    from drkit.model.events import Ordered

    look = seen.read(seen.find(run))
    if step is not None:
        look.check_step(step)
    args = {key: value for key, value in (args or {}).items() if value is not None}
    fact = Ordered(verb=verb, by=typist(look.folder), step=step, reason=reason, args=args)
    refused = why_not(fact, look.state)
    if refused is not None:
        raise Refused(refused, hint=f"drkit status {look.folder.id}", state="The run goes on as it was.")
    _deliver(settings, look, fact, verb)


def _answer(settings: Settings, run: str, step: str, answer: str, reason: str) -> None:
    """Answer what a step asks, bound to the plan and to what it shows right now."""
    from drkit.cli import seen
    from drkit.engine.gates import answering
    from drkit.engine.refusals import why_not
    from drkit.model.events import Answered

    look = seen.read(seen.find(run))
    look.check_step(step)
    ask = look.state.steps[step].ask
    shown_hash = (ask.shown_hash if ask else None) or ""
    who = typist(look.folder)
    role = answering(who, ask.roles) if ask else ""
    fact = Answered(
        step=step, answer=answer, by=who, role=role, reason=reason, plan_hash=look.state.plan_hash,
        shown_hash=shown_hash,
    )  # fmt: skip
    refused = why_not(fact, look.state)
    if refused is not None:
        raise Refused(refused, hint=f"drkit status {look.folder.id}", state="The run goes on as it was.")
    if ask is not None and ask.shown:
        settings.say.note(f"{answer} {step}, which shows: {json.dumps(ask.shown, ensure_ascii=False)}")
    _deliver(settings, look, fact, answer)


def _deliver(settings: Settings, look: Seen, fact: Order, what: str) -> None:
    run = look.folder.id
    reply = send(look.folder, fact)
    settings.say.result(
        {"schema": "drkit.reply/1", "run": run, "order": what, "answer": reply.answer, "why": reply.why},
        lambda: settings.say.line(f"{what}: {reply.answer}" + (f" ({reply.why})" if reply.why else "")),
    )
    if reply.answer == "refused":
        raise Refused(f"{what}: {reply.why}", hint=f"drkit status {run}", state="The run goes on as it was.")
    settings.say.next(f"drkit resume {run}" if reply.answer == "queued" else f"drkit status {run}")
