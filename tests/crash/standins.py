"""ReliableTech's 47 steps with stand-ins for its actions: their declarations are the real ones, their effects are not.

The plan is the shipped runbook, resolved. Each of its actions is replaced by one that sets a value in the tests' world
and declares what the real one declares about repeating, taking back, fencing and skipping; probes look at that world,
and gates ask. What only a real world could answer (`verify`, `when`, references to results) is left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine_fakes import Put, Value, World, is_put, put_back, value

from drkit.catalog import Action, Catalog
from drkit.context import Context
from drkit.drill.rehearsing import TWO_REGIONS
from drkit.drill.standins import declared_like, without_the_world
from drkit.model.plan import Plan, PlanStep
from drkit.plan.files import load_runbook
from drkit.plan.resolve import resolve

RUNBOOK = Path(__file__).resolve().parents[2] / "runbooks" / "reliabletech.yaml"


def real_plan() -> Plan:
    """The shipped runbook from east to west."""
    return resolve(load_runbook(RUNBOOK), TWO_REGIONS, Catalog(), source="east", target="west")


def stand_in_plan(real: Plan) -> Plan:
    """The same graph with the same declarations, on stand-ins."""
    return real.but(
        steps=tuple(_stand_in_step(step) for step in real.steps), probes={}, decide=None, recovered_when=None
    )


def _stand_in_step(step: PlanStep) -> PlanStep:
    uses = {"action": f"standin.{step.uses}", "probe": value.name, "gate": step.uses}[step.kind]
    quick = {"timeout_s": 1.0, "poll_s": 0.05, "hold_s": 0.0, "settle_s": 0.0}
    return without_the_world(step, uses=uses, params={"name": step.id}, **quick)


def _stand_in(real: Action[Any, Any]) -> Action[Any, Any]:
    async def apply(ctx: Context, p: Put, before: Value) -> None:
        """Set a named value."""
        await ctx.use(World).write(p.name, p.to, ctx.token, once=real.repeat == "token")

    return declared_like(
        real, f"standin.{real.name}", apply, observe=value, check=is_put, undo=put_back, poll_s=0.05
    )  # fmt: skip


def _declared() -> dict[str, Action[Any, Any]]:
    known = Catalog()
    entries = [known.entry(step.uses) for step in real_plan().steps if step.kind == "action"]
    return {entry.name.replace(".", "_"): _stand_in(entry) for entry in entries if isinstance(entry, Action)}


globals().update(_declared())  # the catalog collects a module's entries from its names
