"""`drkit failover` and `drkit run`: plan, ask, do, watch. The run itself lives in its runner, not here."""

from __future__ import annotations

import time
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
    from drkit.model.plan import PlanStep

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
        "failover", confirm, despite_evidence, step, until, tuple(skip or ()), reason, incident, ic, detach,
        foreground, accepted_s, rehearse,
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
    asked = Asked("run", confirm, None, step, until, tuple(skip or ()), reason, None, None, detach, foreground, None)

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


class Asked:
    """What the command line says beside the plan."""

    def __init__(
        self, kind: str, confirm: str | None, despite: str | None, step: bool, until: str | None,
        skip: tuple[str, ...], reason: str | None, incident: str | None, commander: str | None, detach: bool,
        foreground: bool, accepted_loss_s: float | None, rehearse: bool = False,
    ) -> None:  # fmt: skip
        self.kind, self.confirm, self.despite = kind, confirm, despite
        self.step, self.until, self.skip, self.reason = step, until, skip, reason
        self.incident, self.commander = incident, commander
        self.detach, self.foreground = detach, foreground
        self.accepted_loss_s = accepted_loss_s
        self.rehearse = rehearse


def start(settings: Settings, planner: Callable[[], Planned], asked: Asked, *, dry_run: bool) -> int:
    """Plan, ask, begin, watch; the exit code."""
    from drkit.cli import launch, taking_over

    if dry_run:
        planned = planner()
        _steps_exist(planned, asked)
        _dry(settings, planned)
        return 0
    with launch.waiting(foreground=asked.foreground) as waiting:
        planned = planner()
        _steps_exist(planned, asked)
        _may_rehearse(planned, asked)
        if settings.output == "text":
            settings.say.note(plans.head(planned.plan), style="bold")
            _brief(settings, planned)
        planned.check_outlived()
        accepted_s = _loss(planned, asked)
        confirmed = _confirm(settings, planned, asked)
        request = _request(planned, asked, waiting.folder.id, confirmed, accepted_s)
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


def _loss(planned: Planned, asked: Asked) -> float | None:
    """The loss to expect must be within the objective, or accepted by name. Refused otherwise; what was accepted."""
    plan, evidence = planned.plan, planned.evidence
    if evidence is None or plan.rpo_s is None or plan.mode == "graceful":
        return asked.accepted_loss_s
    expected = loss_seen(evidence.answers, _without_writes_s(planned))
    if expected is None:
        return asked.accepted_loss_s
    name, value_s = expected
    if value_s is not None and value_s <= plan.rpo_s:
        return asked.accepted_loss_s
    told = "unknown" if value_s is None else f"{value_s:.1f} s"
    if asked.accepted_loss_s is None or (value_s is not None and asked.accepted_loss_s < value_s):
        needed = "DURATION" if value_s is None else f"{int(value_s) + 1}s"
        raise Refused(
            f"the data loss to expect is {told} ({name}); the objective is {plan.rpo_s:g} s",
            hint=f"accept it: --accept-data-loss {needed}", code="E0315",
        )  # fmt: skip
    return asked.accepted_loss_s


def _without_writes_s(planned: Planned) -> float:
    """For how long nobody could write, as users' probes saw it; 0 if somebody can, or nobody looks."""
    from drkit.cli.measuring import users

    seen = users(planned.environment)
    return 0.0 if seen is None or seen.writes_ok or seen.success_rate > 0 else seen.failing_for_s


def loss_seen(answers: dict[str, Any], without_writes_s: float) -> tuple[str, float | None] | None:
    """The first probe that saw how many seconds of writes would be lost, and how many (None: unknown).

    `loss_s` says so itself. `canary_age_s` grows on when nobody can write any more: it counts until then. None if no
    probe of the runbook measures either.
    """
    from drkit.measure.loss import expected_loss

    for name, answer in answers.items():
        if not isinstance(answer, dict):
            continue
        if "loss_s" in answer:
            return name, None if answer["loss_s"] is None else float(answer["loss_s"])
        if "canary_age_s" in answer:
            age_s = answer["canary_age_s"]
            seen_s = None if age_s is None else -float(age_s)
            return name, expected_loss(0.0, seen_s, writers_stopped_s=-without_writes_s)
    return None


def _steps_exist(planned: Planned, asked: Asked) -> None:
    """Names on the line must be steps; a fence or an approval is never left out."""
    from drkit.cli.closest import meant

    known = {step.id: step for step in planned.plan.steps}
    for name in filter(None, (asked.until, *asked.skip)):
        if name not in known:
            _not_yet(name, known)
            raise UsageError(f'{planned.plan.runbook} has no step "{name}"{meant(name, known)}', code="E0218")
    for name in asked.skip:
        if not asked.reason:
            raise UsageError(f"--skip {name} needs a reason", hint='add --reason "..."', code="E0219")
        if known[name].kind == "when":
            whole = name.rpartition("/")[0]
            raise Refused(f"{name} decides whether {whole} is needed", hint=f"--skip {whole}", code="E0316")
        for part in (step for step in known.values() if step.id == name or step.id.startswith(f"{name}/")):
            if part.fences:
                raise Refused(f"{part.id} is a fence: it is never left out", hint="drkit help fencing", code="E0316")
            if part.kind == "gate":
                raise Refused(f"{part.id} is an approval: it is answered, not left out", hint="drkit help approvals")


def _not_yet(name: str, known: dict[str, PlanStep]) -> None:
    """UsageError for what will be done for an entry of a list that only the run will know."""
    lists = [step for step in known.values() if step.join is not None and step.join.over is not None]
    for step in lists:
        if name.startswith(f"{step.id}/"):
            raise UsageError(
                f"what {step.id} is done for is known only when {', '.join(step.needs) or 'the run'} has ended",
                hint=f"name {step.id} as a whole, or order it then: drkit skip RUN {step.id}/ENTRY", code="E0218",
            )  # fmt: skip


def _may_rehearse(planned: Planned, asked: Asked) -> None:
    """Approvals are answered by themselves only where nobody can be hurt."""
    if asked.rehearse and planned.plan.environment_kind != "sandbox":
        raise Refused(
            f"{planned.plan.environment} is not a sandbox: its approvals are given by people",
            hint="drkit drill run SCENARIO --env sandbox", code="E0317",
        )  # fmt: skip


def _request(planned: Planned, asked: Asked, run: str, confirmed: str, accepted_s: float | None) -> Request:
    from drkit.cli.ordering import me
    from drkit.engine.runs import Request

    incident = asked.incident
    if asked.commander is not None:
        incident = f"{incident or 'incident'} (IC {asked.commander})"
    return Request(
        run=run, kind=asked.kind, plan=planned.plan, environment=planned.environment, by=me(planned.environment),
        wall=time.time(), confirmed=confirmed, accepted_loss_s=accepted_s, incident=incident, project=str(Path.cwd()),
        drill=asked.rehearse, policy={"name": "rehearsal", "*": "approve"} if asked.rehearse else None,
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
