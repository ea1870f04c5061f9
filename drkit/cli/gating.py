"""What must be so before the first question is asked; who may not go on hears why, and nothing was changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from drkit.errors import Refused, UsageError

if TYPE_CHECKING:
    from collections.abc import Collection

    from drkit.cli.planning import Planned
    from drkit.model.plan import Plan, PlanStep


def check_steps(plan: Plan, until: str | None, skip: Collection[str], reason: str | None) -> None:
    """Names on the line are steps, and no fence and no approval is left out. UsageError or Refused."""
    from drkit.cli.closest import meant

    known = {step.id: step for step in plan.steps}
    for name in filter(None, (until, *skip)):
        if name not in known:
            _not_yet(name, known)
            raise UsageError(f'{plan.runbook} has no step "{name}"{meant(name, known)}', code="E0218")
    for name in skip:
        if not reason:
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


def check_rehearsal(plan: Plan) -> None:
    """Approvals are answered by themselves only where nobody can be hurt. Refused."""
    if plan.environment_kind != "sandbox":
        raise Refused(
            f"{plan.environment} is not a sandbox: its approvals are given by people",
            hint="drkit drill run SCENARIO --env sandbox", code="E0317",
        )  # fmt: skip


def check_loss(planned: Planned, accepted_s: float | None) -> None:
    """The loss to expect is within the objective, or accepted by name (`accepted_s`, seconds). Refused otherwise."""
    plan, evidence = planned.plan, planned.evidence
    if evidence is None or plan.rpo_s is None or plan.mode == "graceful":
        return
    expected = loss_seen(evidence.answers, _without_writes_s(planned))
    if expected is None:
        return
    name, value_s = expected
    accepted = accepted_s is not None if value_s is None else value_s <= max(plan.rpo_s, accepted_s or 0.0)
    if accepted:
        return
    told, needed = ("unknown", "DURATION") if value_s is None else (f"{value_s:.1f} s", f"{int(value_s) + 1}s")
    raise Refused(
        f"the data loss to expect is {told} ({name}); the objective is {plan.rpo_s:g} s",
        hint=f"accept it: --accept-data-loss {needed}", code="E0315",
    )  # fmt: skip


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
