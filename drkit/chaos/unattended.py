"""What may start while nobody is there to see it. Pure."""

from __future__ import annotations

from drkit.errors import Refused
from drkit.model.faults import CONSENT_ROLE
from drkit.model.plan import Plan


def check_unattended(plan: Plan) -> None:
    """Refused if something of this plan cannot be taken back or is no copy: that takes persons who said yes."""
    for step in plan.steps:
        why = None
        if step.part == "inject" and step.irreversible is not None:
            why = f"{step.id} ({step.uses}) cannot be taken back ({step.irreversible})"
        if step.kind == "gate" and step.params.get("role") == CONSENT_ROLE:
            why = f"{step.id} waits for two persons ({step.params.get('question')})"
        if why is not None:
            raise Refused(
                f"{why}: it never starts unattended", hint=f"drkit chaos run {plan.scenario} --env {plan.environment}"
            )
