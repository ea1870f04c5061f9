"""What a runbook must not do, and what whoever runs it ought to know. Pure.

A step that promotes must have a fence that is certain to be done before it. A fence is never optional, conditional or
skipped. What may not be repeated is not repeated by itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from drkit.catalog import Action, Entry, Gate
from drkit.model.environment import Environment
from drkit.model.faults import CONSENT_ROLE
from drkit.model.plan import PlanStep
from drkit.model.runbook import Runbook, StepSpec
from drkit.plan.fanning import every, is_below
from drkit.plan.graph import ancestors, unguarded
from drkit.plan.hints import listed


def may_be_skipped(spec: StepSpec | PlanStep) -> bool:
    """Whether the run may go on although this step has not been done."""
    return spec.optional or spec.when is not None or spec.on_failure == "skip"


def unguarded_promotions(steps: Sequence[PlanStep]) -> list[str]:
    """Promoting steps that could start although no fence is done. (One of an unknown action passes for a fence.)"""
    promotes = [step.id for step in steps if step.promotes]
    if not promotes:
        return []
    fences = {step.id for step in steps if step.fences}
    return unguarded({step.id: step.needs for step in steps}, promotes, fences, _dispensable(steps, fences))


def unconsented(steps: Sequence[PlanStep], needing: Sequence[str]) -> list[str]:
    """Those of the faults `needing` it that could be injected although two persons have not consented."""
    if not needing:
        return []
    consents = {
        step.id
        for step in steps
        if step.kind == "gate" and step.params.get("role") == CONSENT_ROLE and step.params.get("approvals") == 2
    }
    return unguarded({step.id: step.needs for step in steps}, needing, consents, _dispensable(steps, consents))


def _dispensable(steps: Sequence[PlanStep], guards: set[str]) -> list[str]:
    """Steps without which the run may go on, beside those that guard."""
    conditional = [step.id.rpartition("/")[0] for step in steps if step.kind == "when"]
    return [
        step.id
        for step in steps
        if step.id not in guards
        and (may_be_skipped(step) or any(step.id == each or is_below(step.id, each) for each in conditional))
    ]


def refusals(spec: StepSpec, entry: Entry) -> list[tuple[str, str, str | None]]:
    """(key, message, hint) for what this step's action does not permit."""
    found: list[tuple[str, str, str | None]] = []
    if isinstance(entry, Action) and entry.fences:
        for key, is_so in (
            ("optional", spec.optional),
            ("when", spec.when is not None),
            ("on_failure", spec.on_failure == "skip"),
        ):
            if is_so:
                found.append((key, f"{spec.id} is a fence: it is never optional, conditional or skipped", None))
    repeats = spec.retry is not None or spec.on_failure == "retry"
    if repeats and isinstance(entry, Action) and entry.repeat == "ask":
        key = "retry" if spec.retry is not None else "on_failure"
        message = f"{entry.name} must not be repeated without asking: its effect could happen twice"
        found.append((key, message, "leave it out; drkit retry asks first"))
    if isinstance(entry, Gate):
        for key, is_so in (("retry", spec.retry is not None), ("hold", spec.hold is not None)):
            if is_so:
                found.append((key, f"{entry.name} waits for people: it has no {key}", None))
    return found


def warnings(steps: Sequence[PlanStep], runbook: Runbook, environment: Environment, source: str) -> list[str]:
    """Sentences that plans print; nothing here stops a run."""
    steps = list(every(steps))
    return [
        *_late_gates(steps),
        *_source_control_planes(steps, source),
        *_unfenced(steps),
        *_unknown_roles(steps, environment),
        *_opinions(runbook, environment),
        *_real_sinks(steps, environment),
    ]


def _late_gates(steps: Sequence[PlanStep]) -> list[str]:
    before = ancestors({step.id: step.needs for step in steps})
    point = {step.id for step in steps if step.irreversible and not step.fences}
    found = []
    for step in steps:
        passed = [each.id for each in steps if each.id in before[step.id] & point]
        if step.kind == "gate" and passed:
            found.append(
                f"{step.id} waits for a person after the point of no return ({passed[0]}): "
                "users wait in the outage until it is answered"
            )
    return found


def _source_control_planes(steps: Sequence[PlanStep], source: str) -> list[str]:
    return [
        f"{step.id} ({step.uses}) needs the control plane of {source}, which may be what is down"
        for step in steps
        if step.site == source and step.plane == "control" and not (step.optional or step.on_failure == "skip")
    ]


def _unfenced(steps: Sequence[PlanStep]) -> list[str]:
    """Which they are stands beside each step; a plan fits two screens."""
    found = [step for step in steps if step.kind == "action" and step.unfenced]
    if not found:
        return []
    grave = [step.id for step in found if step.promotes or step.irreversible]
    named = f", among them {listed(grave)}" if 0 < len(grave) < len(found) else ""
    who = listed([step.id for step in found]) if len(found) < 4 else f"{len(found)} steps{named}"
    what = "its target" if len(found) == 1 else "their targets"
    return [f"unfenced: {who}: {what} cannot refuse a command from a run that has lost its lease"]


def _unknown_roles(steps: Sequence[PlanStep], environment: Environment) -> list[str]:
    held = {role for person in environment.people for role in person.roles}
    asked: dict[str, list[str]] = {}
    for step in steps:
        if step.kind != "gate":
            continue
        later = step.params.get("escalate")
        also = [each.get("role") for each in later if isinstance(each, dict)] if isinstance(later, list) else []
        for role in dict.fromkeys([step.params.get("role"), *also]):
            if isinstance(role, str) and role not in held:
                asked.setdefault(role, []).append(step.id)
    return [
        f"nobody in {environment.name} has the role {role}, which {listed(ids)} needs an answer from"
        for role, ids in asked.items()
    ]


def _opinions(runbook: Runbook, environment: Environment) -> list[str]:
    found = []
    if runbook.objectives.rto is None and environment.rto is None:
        found.append("no recovery time objective is set: the recovery time has nothing to be compared with")
    if runbook.objectives.rpo is None and environment.rpo is None:
        found.append("no data-loss objective is set: the loss has nothing to be compared with")
    if runbook.recovered_when is None:
        found.append("recovered_when is not set: that the service is back is not confirmed")
    return found


def _real_sinks(steps: Sequence[PlanStep], environment: Environment) -> list[str]:
    wanted = {step.id for step in steps if step.uses.startswith("notify.")}
    if wanted and not environment.sinks:
        return [f"{environment.name} has no sinks: {listed(sorted(wanted))} will reach nobody"]
    return []
