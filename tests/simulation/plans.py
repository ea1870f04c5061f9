"""Made-up runbooks: whatever a seed says, but sound (a promotion has its fence before it, traffic moves after both).

A maker adds one step to a draft; another kind of step is another maker in MAKERS.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from drkit.model.plan import Plan, PlanStep
from drkit.model.runbook import Retry
from simulation.actions import catalog
from simulation.world import SETTLE_S

NAMES = ("a", "b", "c")
PAUSE_MOSTLY = ("pause", "pause", "pause", "pause", "retry", "skip", "rollback", "abort")


@dataclass
class Draft:
    """A plan in the making."""

    r: random.Random
    steps: list[PlanStep] = field(default_factory=list)
    last: dict[str, PlanStep] = field(default_factory=dict)
    """By name in the world: the step that changes it last."""

    def add(self, uses: str, kind: str, params: dict[str, Any], needs: list[str], **more: Any) -> PlanStep:
        """One more step, after those it must follow and some that it need not."""
        needs += [step.id for step in self.steps if step.id not in needs and self.r.random() < 0.25]
        number = len(self.steps) + 1
        made = PlanStep(
            **{
                "id": f"s{number}", "number": number, "uses": uses, "kind": kind, "params": params, "needs": needs,
                "timeout_s": 8.0, "poll_s": 0.5, "settle_s": SETTLE_S, **more,
            }
        )  # fmt: skip
        self.steps.append(made)
        return made

    def change(self, uses: str, name: str, value: int, needs: list[str], **more: Any) -> PlanStep:
        """A step that changes the world; steps on one name follow each other."""
        before = self.last.get(name)
        needs = needs + ([before.id] if before is not None and before.id not in needs else [])
        entry = catalog().entry(uses)
        says = {key: getattr(entry, key) for key in ("repeat", "irreversible", "unfenced", "fences", "promotes",
                                                     "skippable")}  # fmt: skip
        self.last[name] = self.add(uses, "action", {"name": name, "to": value}, needs, **says, **more)
        return self.last[name]


def change(draft: Draft) -> None:
    """Any change that can be taken back, or now and then one that cannot."""
    r = draft.r
    uses = r.choice(["sim.put", "sim.put", "sim.once", "sim.ask", "sim.ask", "sim.checked"] + ["sim.final"] * 1)
    if uses == "sim.final" and r.random() < 0.5:
        uses = "sim.put"
    name = r.choice(NAMES)
    before = draft.last.get(name)
    value = 1 if before is None else int(str(before.params["to"])) + 1
    more: dict[str, Any] = {"on_failure": r.choice(PAUSE_MOSTLY), "optional": r.random() < 0.1}
    if r.random() < 0.3:
        more["retry"] = Retry(times=r.choice([1, 2]), backoff=r.choice([0.5, 3.0]))
    if r.random() < 0.15:
        more["hold_s"] = 1.0
    if before is not None and r.random() < 0.2:
        more["when"] = f"steps.{before.id}.value == {r.choice([value - 1, value - 1, 99])}"
    draft.change(uses, name, value, [], **more)


def look(draft: Draft) -> None:
    """A probe that waits until something is as it should be."""
    if not draft.last:
        return
    name = draft.r.choice(list(draft.last))
    step = draft.last[name]
    draft.add(
        "sim.value", "probe", {"name": name}, [step.id], verify=f"now.value == {step.params['to']}",
        on_failure=draft.r.choice(["pause", "retry", "skip"]), hold_s=draft.r.choice([0.0, 0.0, 1.0]),
    )  # fmt: skip


def gate(draft: Draft) -> None:
    """One or two persons must say yes."""
    params: dict[str, Any] = {"role": draft.r.choice(["ic", "ic", "dba"])}
    if params["role"] == "ic":
        params["approvals"] = draft.r.choice([1, 2])
    draft.add("gate.approve", "gate", params, [])


def move(draft: Draft) -> None:
    """Fence, promote and move the traffic, with anything in between. Once a plan."""
    if "users" in draft.last:
        return
    fence = draft.change("sim.fence", "east", 0, [])
    between(draft)
    promote = draft.change("sim.promote", "west", 1, [fence.id])
    between(draft)
    draft.change("sim.checked", "users", 1, [promote.id])


def between(draft: Draft) -> None:
    """Perhaps another step."""
    if draft.r.random() < 0.4:
        draft.r.choice([change, gate, look])(draft)


MAKERS: dict[Callable[[Draft], None], float] = {change: 6, look: 1, gate: 1.2, move: 1.5}


def random_plan(r: random.Random) -> Plan:
    """A plan of one to nine steps."""
    draft = Draft(r)
    while not draft.steps:
        for maker in r.choices(list(MAKERS), list(MAKERS.values()), k=r.randint(1, 6)):
            maker(draft)
    return Plan.model_validate(
        {
            "schema": "drkit.plan/1", "runbook": "made-up", "runbook_digest": "sha256:0", "environment": "test",
            "environment_kind": "sandbox", "account": "none", "source": "east", "target": "west",
            "steps": tuple(draft.steps), "catalog": "sha256:0", "drkit": "0",
        }
    )  # fmt: skip
