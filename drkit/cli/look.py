"""`drkit inspect`, `handover`, `unlock`: the real resource now, ten lines for the next shift, a lock's way out."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drkit.cli import environment as environments
from drkit.cli import seen as seeing
from drkit.cli.settings import Settings
from drkit.errors import UsageError

if TYPE_CHECKING:
    from drkit.cli.seen import Seen
    from drkit.engine.state import RunState, StepState


def register(app: typer.Typer) -> None:
    """Put the commands on `app`."""
    app.command("inspect", rich_help_panel="Watch a run")(inspect)
    app.command("handover", rich_help_panel="Watch a run")(handover)
    app.command("unlock", rich_help_panel="Steer a run")(unlock)


def inspect(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(help="Run id, or `last`.")],
    step: Annotated[str, typer.Argument(help="Step id.")],
) -> None:
    """Look at what a step is about, as it really is now. Reads only; does not touch the run."""
    import anyio

    settings: Settings = ctx.obj
    look = seeing.read(seeing.find(run))
    look.check_step(step)
    found = look.state.steps[step]
    if found.plan.kind == "gate":
        raise UsageError(f"{step} is an approval: there is nothing to look at", hint=f"drkit status {look.folder.id}")
    if found.plan.kind in ("join", "when"):
        _nothing_itself(look, found)
    settings.say.note(f"Looking at {step} of {look.folder.id}; read-only.")
    seen = anyio.run(_observe, look, found)
    told = {
        "schema": "drkit.inspect/1", "run": look.folder.id, "step": step, "status": found.status.value,
        "uses": found.plan.uses, "params": look.parameters(found), "now": seen[0], "check": seen[1],
        "before": found.before, "after": found.after,
    }  # fmt: skip
    settings.say.result(told, lambda: _show(settings, told))
    if found.status.value == "uncertain":
        said = "not-done" if found.plan.fences else "done|not-done"  # a fence is never believed: it is looked at again
        settings.say.next(f"drkit resolve {look.folder.id} {step} --as {said} --reason ...")
    else:
        settings.say.next(f"drkit status {look.folder.id}")


def handover(ctx: typer.Context, run: Annotated[str, typer.Argument(help="Run id, or `last`.")] = "last") -> None:
    """What the next shift must know of a run, in about ten lines."""
    settings: Settings = ctx.obj
    look = seeing.read(seeing.find(run))
    lines = handed(look)
    settings.say.result(
        {"schema": "drkit.handover/1", "run": look.folder.id, "lines": lines},
        lambda: settings.say.line("\n".join(lines)),
    )


def unlock(
    ctx: typer.Context,
    lock_id: Annotated[str, typer.Argument(help="The lock's id, as shown by whoever met it.")],
) -> None:
    """Free an environment from a run that is known to be dead. Its id is asked so that nobody frees another one."""
    from drkit.engine import lease
    from drkit.providers.objects import open_objects

    settings: Settings = ctx.obj
    environment = environments.load(settings)
    holder = lease.unlock(open_objects(environment), environment.name, lock_id)
    settings.say.result(
        {"schema": "drkit.unlocked/1", "environment": environment.name, "run": holder.run, "lock_id": lock_id},
        lambda: settings.say.line(f"{environment.name} is free; {holder.run} of {holder.who}@{holder.host} held it."),
    )
    settings.say.warn(f"If {holder.run} is not dead after all, what it still sends is refused only by fenced targets.")
    settings.say.next(f"drkit resume {holder.run}", "drkit runs")


def handed(look: Seen) -> list[str]:
    """The lines. Pure but for the clock in the header."""
    from drkit.cli import screen
    from drkit.model.outline import outline

    state = look.state
    by_status: dict[str, list[str]] = {}
    for place in outline(state.steps):
        step = state.steps[place.id]
        if step.plan.kind == "join" and step.status.value in ("pending", "skipped"):
            continue  # what it stands for is told
        by_status.setdefault(step.status.value, []).append(step.id)
    wall = time.time()
    lines = [screen.header(state, wall), screen.clock(state, screen.t_now(state, wall), None)]
    for status in ("running", "waiting", "failed", "uncertain", "skipped", "cancelled", "pending"):
        if status in by_status:
            names = by_status[status]
            more = f" and {len(names) - 8} more" if len(names) > 8 else ""
            lines.append(f"{status}: {', '.join(names[:8])}{more}")
    lines += [f"{line.step}: {line.detail}" for line in screen.lines(state, state.t) if _under_way(state, line.step)]
    if state.point_of_no_return is not None:
        lines.append(f"Point of no return passed: {state.point_of_no_return}")
    lines += [f"OVERRIDDEN fence {o.get('step')}, stated loss {o.get('loss_s')} s" for o in state.overrides]
    lines += [f"note by {_name(note.get('by'))}: {note.get('text')}" for note in state.notes[-3:]]
    return lines + screen.next_words(state, look.alive or state.outcome is not None)


def _under_way(state: RunState, id: str) -> bool:
    """Whether it is a list, or a nested runbook, of which some has been done and some has not."""
    from drkit.engine.fanout import below

    step = state.steps[id]
    if step.plan.kind != "join" or step.status.value != "pending" or "/" in id:
        return False
    return any(each.status.value != "pending" for each in below(state, step))


def _nothing_itself(look: Seen, step: StepState) -> None:
    """UsageError: it stands for others, one of which is what to look at."""
    from drkit.engine.fanout import below

    run = look.folder.id
    if step.plan.kind == "when":
        whole = step.id.rpartition("/")[0]
        raise UsageError(f"{step.id} decides whether {whole} is needed: there is nothing to look at",
                         hint=f"drkit logs {run} {whole}")  # fmt: skip
    real = [each for each in below(look.state, step) if each.plan.kind in ("action", "probe")]
    first = next((each for each in real if each.status.value not in ("done", "skipped")), next(iter(real), None))
    if first is None:
        raise UsageError(f"{step.id} stands for other steps, and has none yet", hint=f"drkit status {run}")
    raise UsageError(f"{step.id} stands for other steps: look at one of them", hint=f"drkit inspect {run} {first.id}")


async def _observe(look: Seen, step: StepState) -> tuple[Any, str | None]:
    """What the step's own observation says now, and what its check makes of it."""
    from drkit.catalog import Action, Catalog, Probe
    from drkit.cli.compose import reach

    request, plan = look.folder.request(), look.state.plan
    entry = Catalog().entry(step.plan.uses)
    assert isinstance(entry, Action | Probe)  # gates were refused
    probe = entry.observe if isinstance(entry, Action) else entry
    known = look.parameters(step)
    if known is None:
        needs = ", ".join(step.plan.needs) or "the steps before it"
        raise UsageError(
            f"{step.id} reads what {needs} will have seen: there is nothing to look at yet",
            hint=f"drkit status {look.folder.id}",
        )
    params = entry.params.model_validate(known, strict=False)
    async with reach(
        request.environment, plan.source, plan.target, mode=plan.mode, run=look.folder.id, step=step.id,
        fencing_token=look.state.fencing_token,
    ) as context:  # fmt: skip
        now = await probe(context, params)
    state = entry.state(params, now).value if isinstance(entry, Action) else None
    return now.model_dump(mode="json"), state


def _show(settings: Settings, told: dict[str, Any]) -> None:
    say = settings.say
    say.line(f"{told['step']}   {told['uses']}   the run says: {told['status']}")
    if told["check"] is not None:
        say.line(f"its check now: {told['check']}")
    say.line("now:     " + json.dumps(told["now"], ensure_ascii=False))
    for name in ("before", "after"):
        if told[name] is not None:
            say.line(f"{name + ':':<8} " + json.dumps(told[name].get("value"), ensure_ascii=False))


def _name(by: object) -> str:
    return str(by.get("name")) if isinstance(by, dict) else "?"
