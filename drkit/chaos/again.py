"""The same drill again: the members that a recorded plan hit, and what differs from it now. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from drkit.chaos.targets import chosen
from drkit.errors import Refused
from drkit.model.inventory import Inventory, Member
from drkit.model.plan import Plan
from drkit.model.scenario import Scenario, Target


def members_hit(plan: Plan, scenario: Scenario) -> dict[str, list[str]]:
    """By entry of `targets:`, the names of the members that the plan hits, in its order."""
    aimed = {step.id: step.on for step in scenario.method if step.on is not None}
    found: dict[str, list[str]] = {on: [] for on in aimed.values()}
    for step in plan.steps:
        owners = [id for id in aimed if step.id.startswith(f"{id}-")]
        if step.part == "inject" and owners:
            owner = max(owners, key=len)
            name = step.id.removeprefix(f"{owner}-")
            if name not in found[aimed[owner]]:
                found[aimed[owner]].append(name)
    return found


def chosen_again(
    name: str, target: Target, found: Inventory, active: Collection[str], names: Sequence[str]
) -> list[Member]:
    """The members called `names`, in that order. Refused if one is not there, or they must not be hit as things are."""
    others = [member.name for member in found.members if member.name not in names]
    exact = target.model_copy(update={"pick": None, "never": [*target.never, *others]})
    known = {member.name for member in found.members}
    gone = [each for each in names if each not in known]
    if gone:
        raise Refused(f"targets.{name} has no {', '.join(gone)} any more", hint="drkit chaos run SCENARIO --dry-run")
    picked = {member.name: member for member in chosen(name, exact, found, active, "")}
    spared = [each for each in names if each not in picked]
    if spared:
        raise Refused(f"targets.{name}: {', '.join(spared)} is under never: now", hint="drkit chaos run SCENARIO")
    return [picked[each] for each in names]


def check_same(recorded: Plan, now: Plan) -> None:
    """Refused, with what differs, unless what would be done now is what was done then."""
    old, new = (_told(plan) for plan in (recorded, now))
    differs = [key for key in old | new if old.get(key) != new.get(key)]
    if differs:
        raise Refused(
            f"it would not be the same again; these differ: {', '.join(differs)}",
            hint=f"drkit chaos run {recorded.scenario} --dry-run",
        )


def _told(plan: Plan) -> dict[str, object]:
    whole: dict[str, Any] = plan.model_dump(mode="json", by_alias=True, exclude={"changed_parameters", "warnings"})
    return whole | {"steps": [step["id"] for step in whole["steps"]]} | {f"step {s['id']}": s for s in whole["steps"]}
