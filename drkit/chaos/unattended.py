"""What may start while nobody is there to see it. Pure."""

from __future__ import annotations

from drkit.errors import Refused
from drkit.model.plan import Plan


def check_unattended(plan: Plan) -> None:
    """Refused if a fault of this plan cannot be taken back: that takes persons who said yes."""
    for step in plan.steps:
        if step.part == "inject" and step.irreversible is not None:
            raise Refused(
                f"{step.id} ({step.uses}) cannot be taken back ({step.irreversible}): it never starts unattended",
                hint=f"drkit chaos run {plan.scenario} --env {plan.environment}",
            )
