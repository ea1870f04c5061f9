"""The same run again: the members that a recorded plan hit, which of its faults, and what differs from it now. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, cast

from drkit.chaos.targets import chosen
from drkit.engine.requests import Request
from drkit.errors import Refused
from drkit.model.inventory import Inventory, Member
from drkit.model.plan import Plan
from drkit.model.scenario import Scenario, Target
from drkit.model.values import Json


@dataclass(frozen=True, slots=True)
class Again:
    """A recorded run that is to be repeated."""

    request: Request
    only: tuple[str, ...] | None = None
    """Ids of the inject steps that are kept; None: all that it had."""
    search: str | None = None
    """When the search began (UTC) of which this is a try."""

    @property
    def had(self) -> tuple[str, ...] | None:
        """What it had been narrowed to itself; None: it was whole."""
        found = self.request.options.get("only")
        return None if found is None else tuple(cast(list[str], found))

    @property
    def scenario(self) -> str:
        """The file of its scenario, or the name where the file is not known."""
        return str(self.request.options.get("scenario") or self.request.plan.scenario)

    @property
    def runbook(self) -> str | None:
        """The same of the runbook; None: it carried out none."""
        named = self.request.plan.runbook if self.request.kind == "drill" else None
        return None if named is None else str(self.request.options.get("runbook") or named)

    def members(self, scenario: Scenario) -> dict[str, list[str]]:
        """By entry of `targets:`, the names that the whole run hit, in its order."""
        found = self.request.options.get("members")
        return members_hit(self.request.plan, scenario) if found is None else cast(dict[str, list[str]], found)

    def options(self, scenario: Scenario) -> dict[str, Json]:
        """What the next run's request has to say, so that it can be repeated in turn."""
        only = self.had if self.only is None else self.only
        if only is None:
            return {}
        members: dict[str, Json] = {on: list(names) for on, names in self.members(scenario).items()}
        tried: dict[str, Json] = {"search": {"of": self.request.run, "began": self.search}} if self.search else {}
        return {"only": list(only), "members": members, **tried}


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
