"""`drkit assess` and `drkit plan`: what would be done, and whether to do it. Both only read."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drkit.cli import planning
from drkit.cli.settings import Settings, pairs
from drkit.errors import Exit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from drkit.cli.evidence import Evidence
    from drkit.cli.planning import Planned
    from drkit.cli.seen import GoodDrill
    from drkit.model.outline import Place
    from drkit.model.plan import Plan, PlanStep

PANEL = "Decide"
Region = Annotated[str, typer.Option("--region", "--to", metavar="REGION", help="The region to activate.")]
Source = Annotated[str | None, typer.Option("--from", metavar="REGION", help="The region to leave.")]
Book = Annotated[str | None, typer.Option("--runbook", "-r", help="Name or file; left out: the environment's own.")]
ModeOption = Annotated[planning.Mode, typer.Option(help="ungraceful: the source is lost. graceful: it is healthy.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A runbook parameter.")]


def register(app: typer.Typer) -> None:
    """Put `assess` and `plan` on `app`."""
    app.command("assess", rich_help_panel=PANEL)(assess)
    app.command("plan", rich_help_panel=PANEL)(plan)


def assess(
    ctx: typer.Context, region: Region, source: Source = None, runbook: Book = None, mode: ModeOption = "ungraceful"
) -> None:
    """Should we go? The runbook's own evidence, looked at now. Exit 0 go, 3 no-go."""
    settings: Settings = ctx.obj
    planned = planning.make(settings, planning.Wanted(region, source, runbook, mode))
    settings.say.note(f"Looking at {planned.environment.name}; read-only.")
    evidence = planning.look(planned).evidence
    assert evidence is not None
    settings.say.result(evidence.to_json(), lambda: show_evidence(settings, evidence))
    if not evidence.go:
        settings.say.note(f"{evidence.verdict}: {evidence.reason}")
        settings.say.note("STOP: the evidence does not say that the source is lost.")
        raise typer.Exit(int(Exit.REFUSED))
    settings.say.next(f"drkit failover --region {region} --env {planned.environment.name}")


def plan(
    ctx: typer.Context,
    region: Region,
    source: Source = None,
    runbook: Book = None,
    mode: ModeOption = "ungraceful",
    changes: SetOption = None,
    out: Annotated[Path | None, typer.Option(help="Save it here for `failover --plan`; valid 15 minutes.")] = None,
    manual: Annotated[Path | None, typer.Option(help="Write it here as a checklist for people; - prints it.")] = None,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit 10 if the plan would change something.")
    ] = False,
) -> None:
    """What a failover would do, step by step, and what it would need. Nothing is changed."""

    settings: Settings = ctx.obj
    wanted = planning.Wanted(region, source, runbook, mode, pairs(changes))
    planned = planning.make(settings, wanted)
    if manual is not None:
        _manual(settings, planned, manual)
    if manual is None or str(manual) != "-":
        settings.say.note(f"Looking at {planned.environment.name}; read-only.")
        planned = planning.look(planned)
        settings.say.result(as_json(planned), lambda: show(settings, planned))
    if out is not None:
        planning.save(planned, out)
        settings.say.note(f"Saved {out} (valid {planning.VALID_S // 60} min).")
    told = f"drkit failover --region {region} --env {planned.environment.name}"
    settings.say.next(told + (f" --plan {out}" if out else ""))
    if detailed_exitcode and _changing(planned.plan):
        raise typer.Exit(int(Exit.CHANGES))


def as_json(planned: Planned) -> dict[str, Any]:
    """A plan and its evidence as scripts read them."""
    evidence = planned.evidence
    return {
        "schema": "drkit.planned/1", "hash": planned.plan.hash,
        "plan": planned.plan.model_dump(mode="json", by_alias=True),
        "evidence": None if evidence is None else evidence.to_json(),
        "credentials": [{"verdict": verdict, "told": told} for verdict, told in planned.judged_lives()],
        "rehearsed": None if planned.rehearsed is None else asdict(planned.rehearsed),
    }  # fmt: skip


def show(settings: Settings, planned: Planned) -> None:
    """Print a plan: header, evidence, steps, totals."""
    say, plan = settings.say, planned.plan
    say.line(head(plan), style="bold")
    say.line("Read-only. Nothing has been changed.")
    if planned.evidence is not None:
        say.line()
        show_evidence(settings, planned.evidence)
    if planned.lives:
        say.line()
        say.table(("", "credentials"), planned.judged_lives())
    show_plan(settings, plan, planned.rehearsed)


def show_plan(settings: Settings, plan: Plan, rehearsed: GoodDrill | None = None) -> None:
    """Print a plan's steps and totals; beside each step what it took in the last good drill."""
    say = settings.say
    took = rehearsed.seconds if rehearsed is not None else {}
    say.line()
    heads = ("#", "step", "will do", "in", "needs", "limit", "drill", "")
    say.table(heads, rows(plan, took))
    say.line()
    for changed in plan.changed_parameters:
        say.line(f"{changed.name} is {changed.value} instead of {changed.default} (by {changed.by})")
    for warning in plan.warnings:
        say.line(f"WARN  {warning}", style="yellow")
    say.line(totals(plan))
    say.line(_rehearsal(rehearsed))


def show_evidence(settings: Settings, evidence: Evidence) -> None:
    """Print the evidence, a condition a line."""
    rows = [(term.verdict, term.text, term.now) for term in evidence.terms]
    if not rows:
        rows = [(evidence.verdict, "evidence", evidence.reason)]
    rows += [("?", f"probe {name}", why) for name, why in evidence.silent.items()]
    settings.say.table(("", "evidence", "now"), rows)


def head(plan: Plan) -> str:
    """Where from, where to, in what."""
    from drkit.cli.say import now_twice

    digest = plan.runbook_digest.removeprefix("sha256:")[:7]
    name = plan.scenario if plan.scenario and not any(step.part == "runbook" for step in plan.steps) else plan.runbook
    return (
        f"{name}@{digest}   FROM {plan.source} -> TO {plan.target}   {plan.environment.upper()}   "
        f"{plan.account}   {plan.mode}   {now_twice(time.time())}"
    )


def _changing(plan: Plan) -> list[PlanStep]:
    from drkit.model.outline import with_bodies

    return [step for step in with_bodies(plan.steps) if step.kind == "action"]


def _rehearsal(drill: GoodDrill | None) -> str:
    """How long it took last time, which is no promise; and that nobody knows, where nobody tried."""
    from drkit.model.values import show_duration

    if drill is None:
        return "No good drill of this runbook on this machine: nobody knows here how long it takes."
    age = show_duration(max(0.0, time.time() - drill.finished_wall))
    return f"Last good drill {drill.run}, {age} ago: {show_duration(drill.makespan_s)} from first step to last."


def rows(plan: Plan, took: Mapping[str, float]) -> list[tuple[str, ...]]:
    """A row a step, below what stands for it; for a list that only the run will know, what is done for any entry."""
    from drkit.model.outline import outline, with_bodies

    steps = {step.id: step for step in with_bodies(plan.steps)}
    return [_row(steps[place.id], place, took.get(place.id)) for place in outline(steps)]


def _row(step: PlanStep, place: Place, took_s: float | None) -> tuple[str, ...]:
    from drkit.model.values import show_duration

    needs = [need for need in step.needs if need not in place.below]
    marks = list(_stands_for(step))
    if step.kind == "gate":
        marks.append(_asks(step))
    if step.fences:
        marks.append("FENCE: observed or witnessed")
    if step.irreversible:
        marks.append("POINT OF NO RETURN")
    if step.simulated:
        marks.append("simulated")
    if step.unfenced and not step.fences:
        marks.append("unfenced")
    if step.optional:
        marks.append("optional")
    return (
        str(step.number or ""), "  " * place.depth + step.id, step.title or step.uses, step.site or "-",
        ",".join(needs) or "-",
        show_duration(step.timeout_s) if step.kind not in ("join", "when") else "-",
        show_duration(took_s) if took_s is not None else "-",
        "  ".join(marks),
    )  # fmt: skip


def _stands_for(step: PlanStep) -> Iterator[str]:
    from drkit.model.outline import bare

    if step.join is None:
        return
    if step.join.over is not None:
        yield f"for each of {bare(step.join.over)}"
    if step.join.at_once is not None:
        yield f"{step.join.at_once} at once"


def _asks(step: PlanStep) -> str:
    """Who must answer, and who is asked too, and when."""
    from drkit.model.values import duration_text

    later = step.params.get("escalate")
    also = [each for each in later if isinstance(each, dict)] if isinstance(later, list) else []
    told = f"asks {step.params.get('role', 'anybody')}"
    if step.params.get("approvals") == 2:
        told += ", two persons"
    return told + "".join(f"; {each.get('role')} too after {duration_text(each.get('after'))}" for each in also)


def totals(plan: Plan) -> str:
    """How many steps, changes, points of no return, approvals; the objectives, and the deadline.

    What is done for each entry of a list that only the run will know is counted once, and said to be.
    """
    from drkit.model.outline import with_bodies
    from drkit.model.values import show_duration

    steps = list(with_bodies(plan.steps))
    gates = sum(step.kind == "gate" for step in steps)
    final = sum(step.irreversible is not None for step in steps)
    simulated = sum(step.simulated is not None for step in steps)
    objectives = [
        f"{name} {show_duration(value)}"
        for name, value in (("RTO", plan.rto_s), ("RPO", plan.rpo_s))
        if value is not None
    ]
    if plan.deadline_s is not None:
        objectives.append(f"deadline {show_duration(plan.deadline_s)} after the go")
    known = f"{len(plan.steps)} steps"
    if len(steps) > len(plan.steps):
        lists = " and ".join(step.id for step in steps if step.join is not None and step.join.over is not None)
        known += f", and {len(steps) - len(plan.steps)} for each entry of {lists}"
    parts = [f"{known}: {len(_changing(plan))} changes, {final} irreversible, {gates} approvals"]
    if simulated:
        parts.append(f"{simulated} simulated")
    return ", ".join(parts) + "." + (f"   {', '.join(objectives)}." if objectives else "")


def _manual(settings: Settings, planned: Planned, where: Path) -> None:
    from drkit.plan.manual import manual

    text = manual(planned.plan, planned.catalog, environment=planned.environment)
    if str(where) == "-":
        settings.say.line(text)
        return
    where.write_text(text + "\n", encoding="utf-8")
    settings.say.note(f"Wrote {where}")
