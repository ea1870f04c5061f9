"""`drkit failover` and `drkit run`: plan, ask, do, watch. The run itself lives in its runner, not here."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drkit.cli import plan as plans
from drkit.cli import planning
from drkit.cli.settings import Settings, duration, pairs
from drkit.errors import Refused, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from drkit.cli.planning import Planned
    from drkit.engine.runs import Request, Start

PANEL = "Recover"

Plan = Annotated[Path | None, typer.Option("--plan", metavar="FILE", help="A plan saved by `drkit plan --out`.")]
Confirm = Annotated[str | None, typer.Option("--confirm", metavar="REGION", help="Instead of typing it when asked.")]
Despite = Annotated[
    str | None,
    typer.Option("--despite-evidence", metavar="REGION", help="Go although the evidence does not say so; name the "
                 "region left."),
]  # fmt: skip
StepFlag = Annotated[bool, typer.Option("--step", help="Ask before each step.")]
Until = Annotated[str | None, typer.Option("--until", metavar="STEP", help="Pause when this step is done.")]
Skip = Annotated[list[str] | None, typer.Option("--skip", metavar="STEP", help="Leave it out; needs --reason.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Why; kept in the journal.")]
Loss = Annotated[
    str | None, typer.Option("--accept-data-loss", metavar="DUR", help="The most you accept to lose beyond the RPO.")
]
Incident = Annotated[str | None, typer.Option("--incident", metavar="ID", help="Incident this belongs to.")]
Commander = Annotated[str | None, typer.Option("--ic", metavar="NAME", help="Incident commander, for the record.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Resolve and look; change nothing.")]
Detach = Annotated[bool, typer.Option("--detach", help="Return as soon as the run has begun.")]
Rehearse = Annotated[
    bool, typer.Option("--rehearse", help="Sandbox only: as a drill, approvals answered by a recorded policy.")
]
Foreground = Annotated[bool, typer.Option("--foreground", help="In this process; signals pause it (CI, systemd).")]


def register(app: typer.Typer) -> None:
    """Put `failover`, `failback` and `run` on `app`."""
    app.command("failover", rich_help_panel=PANEL)(failover)
    app.command("failback", rich_help_panel=PANEL)(failback)
    app.command("run", rich_help_panel=PANEL)(run)


def failover(
    ctx: typer.Context,
    region: Annotated[
        str | None, typer.Option("--region", "--to", metavar="REGION", help="The region to activate.")
    ] = None,
    source: plans.Source = None,
    runbook: plans.Book = None,
    plan: Plan = None,
    mode: plans.ModeOption = "ungraceful",
    changes: plans.SetOption = None,
    confirm: Confirm = None,
    despite_evidence: Despite = None,
    step: StepFlag = False,
    until: Until = None,
    skip: Skip = None,
    reason: Reason = None,
    accept_data_loss: Loss = None,
    incident: Incident = None,
    ic: Commander = None,
    dry_run: DryRun = False,
    detach: Detach = False,
    foreground: Foreground = False,
    rehearse: Rehearse = False,
) -> None:
    """Move the service to another region: plan, ask, do, watch.

    --region is the region to ACTIVATE. You are asked to type its name; scripts give --confirm REGION. If the evidence
    does not say that the source is lost you are asked again, differently; scripts give --despite-evidence SOURCE.
    """
    settings: Settings = ctx.obj
    if region is None and plan is None:
        raise UsageError("which region is to be activated?", hint="add --region REGION", code="E0212")
    accepted_s = None if accept_data_loss is None else duration(accept_data_loss, "--accept-data-loss")
    asked = Asked(
        kind="failover", confirm=confirm, step=step, until=until, skip=tuple(skip or ()), reason=reason, detach=detach,
        foreground=foreground, despite=despite_evidence, incident=incident, commander=ic, accepted_loss_s=accepted_s,
        rehearse=rehearse,
    )  # fmt: skip

    def planned() -> Planned:
        if plan is not None:
            return planning.load_saved(settings, plan, region)
        assert region is not None  # refused above
        wanted = planning.Wanted(region, source, runbook, mode, pairs(changes))
        return planning.look(planning.make(settings, wanted))

    raise typer.Exit(start(settings, planned, asked, dry_run=dry_run))


def failback(
    run: Annotated[str, typer.Option("--run", metavar="RUN", help="The run to return from.")] = "last",
) -> None:
    """Return to the region that a run left. Not built yet: refused, with what to do instead."""
    raise Refused(
        "drkit does not plan the way back yet: it would have to be made from what the run really did",
        hint="drkit help failback", code="E0317",
    )  # fmt: skip


def run(
    ctx: typer.Context,
    runbook: Annotated[str, typer.Argument(help="Name or file of a runbook.")],
    region: Annotated[
        str | None, typer.Option("--region", "--to", metavar="REGION", help="The region in the role `target`.")
    ] = None,
    source: plans.Source = None,
    changes: plans.SetOption = None,
    confirm: Confirm = None,
    step: StepFlag = False,
    until: Until = None,
    skip: Skip = None,
    reason: Reason = None,
    dry_run: DryRun = False,
    detach: Detach = False,
    foreground: Foreground = False,
) -> None:
    """Carry out any runbook. Its own `decide` is not asked; a runbook that promotes belongs to `failover`."""
    from drkit.cli import environment as environments

    settings: Settings = ctx.obj
    asked = Asked(
        kind="run", confirm=confirm, step=step, until=until, skip=tuple(skip or ()), reason=reason, detach=detach,
        foreground=foreground,
    )  # fmt: skip

    def planned() -> Planned:
        target = region or environments.load(settings).regions[-1]
        made = planning.make(settings, planning.Wanted(target, source, runbook, "graceful", pairs(changes)))
        promoting = [step.id for step in made.plan.steps if step.promotes]
        if promoting:
            raise Refused(
                f"{made.plan.runbook} promotes ({', '.join(promoting)}): that takes evidence and a second look",
                hint=f"drkit failover --region {target} -r {runbook}", code="E0314",
            )  # fmt: skip
        return made

    raise typer.Exit(start(settings, planned, asked, dry_run=dry_run))


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the command line says beside the plan."""

    kind: str
    confirm: str | None
    step: bool
    until: str | None
    skip: tuple[str, ...]
    reason: str | None
    detach: bool
    foreground: bool
    despite: str | None = None
    incident: str | None = None
    commander: str | None = None
    accepted_loss_s: float | None = None
    rehearse: bool = False


def start(settings: Settings, planner: Callable[[], Planned], asked: Asked, *, dry_run: bool) -> int:
    """Plan, ask, begin, watch; the exit code."""
    from drkit.cli import gating, launch, taking_over

    if dry_run:
        planned = planner()
        gating.check_steps(planned.plan, asked.until, asked.skip, asked.reason)
        _dry(settings, planned)
        return 0
    with launch.waiting(foreground=asked.foreground) as waiting:
        planned = planner()
        gating.check_steps(planned.plan, asked.until, asked.skip, asked.reason)
        if asked.rehearse:
            gating.check_rehearsal(planned.plan)
        if settings.output == "text":
            settings.say.note(plans.head(planned.plan), style="bold")
            _brief(settings, planned)
        planned.check_outlived()
        gating.check_loss(planned, asked.accepted_loss_s)
        confirmed = _confirm(settings, planned, asked)
        request = _request(planned, asked, waiting.folder.id, confirmed)
        drill = taking_over.drill_in_the_way(request)
        settings.say.note(f"Starting run {waiting.folder.id}.")
        waiting.begin(request, _start(planned, asked, request))
        if drill is not None:
            taking_over.make_way(settings, request, waiting.folder, drill)
    if asked.foreground:
        return int(launch.in_process(settings, waiting.folder))
    return int(launch.follow(settings, waiting, detach=asked.detach))


def _dry(settings: Settings, planned: Planned) -> None:
    settings.say.result(plans.as_json(planned), lambda: plans.show(settings, planned))
    settings.say.note("Dry run: nothing was changed, and no run was started. What steps would observe is not known.")


def _brief(settings: Settings, planned: Planned) -> None:
    """What one must know before confirming: the evidence, and what the plan amounts to."""
    if planned.evidence is not None:
        for term in planned.evidence.terms:
            settings.say.note(f"  {term.verdict:<6} {term.text}   now {term.now}")
    for warning in planned.plan.warnings:
        settings.say.note(f"  WARN   {warning}")
    for line in planned.doubtful_lives():
        settings.say.note(f"  {line}")
    settings.say.note(f"  {plans.totals(planned.plan)}")


def _confirm(settings: Settings, planned: Planned, asked: Asked) -> str:
    from drkit.cli import asking

    plan = planned.plan
    if asked.kind == "run":
        return asking.confirmed(
            settings, f"{plan.runbook} will change {plan.environment.upper()}.", plan.environment, "--confirm",
            asked.confirm,
        )  # fmt: skip
    confirmed = asking.confirmed(
        settings,
        f"{plan.environment.upper()}: users will be moved FROM {plan.source} TO {plan.target}.",
        plan.target, "--confirm", asked.confirm,
    )  # fmt: skip
    if planned.evidence is not None:
        left = asking.despite(settings, plan, planned.evidence, asked.despite)
        if left is not None:
            confirmed += f"; despite the evidence, leaving {left}: {planned.evidence.reason}"
    return confirmed


def _request(planned: Planned, asked: Asked, run: str, confirmed: str) -> Request:
    from drkit.cli.ordering import me
    from drkit.engine.runs import Request

    incident = asked.incident
    if asked.commander is not None:
        incident = f"{incident or 'incident'} (IC {asked.commander})"
    return Request(
        run=run, kind=asked.kind, plan=planned.plan, environment=planned.environment, by=me(planned.environment),
        wall=time.time(), confirmed=confirmed, accepted_loss_s=asked.accepted_loss_s, incident=incident,
        project=str(Path.cwd()), drill=asked.rehearse,
        policy={"name": "rehearsal", "*": "approve"} if asked.rehearse else None,
    )  # fmt: skip


def _start(planned: Planned, asked: Asked, request: Request) -> Start:
    from drkit.cli.ordering import orders
    from drkit.engine.runs import Start

    wanted: list[tuple[str, str | None, str | None, dict[str, Any]]] = []
    if asked.step:
        wanted.append(("step", None, asked.reason, {}))
    if asked.until is not None:
        wanted.append(("until", asked.until, asked.reason, {}))
    wanted += [("skip", name, asked.reason, {}) for name in asked.skip]
    return Start(by=request.by, orders=orders(request.by, wanted))
