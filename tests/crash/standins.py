"""ReliableTech's 47 steps with stand-ins for its actions: their declarations are the real ones, their effects are not.

The plan is the shipped runbook, resolved. Each of its actions is replaced by one that sets a value in the tests' world
and declares what the real one declares about repeating, taking back, fencing and skipping; probes look at that world,
and gates ask. What only a real world could answer (`verify`, `when`, references to results) is left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine_fakes import Put, Value, World, is_put, put_back, value

from drkit.catalog import Action, Catalog, action
from drkit.context import Context
from drkit.model.environment import Environment, Site
from drkit.model.plan import Plan, PlanStep
from drkit.plan.files import load_runbook
from drkit.plan.resolve import resolve

RUNBOOK = Path(__file__).resolve().parents[2] / "runbooks" / "reliabletech.yaml"
TWO_REGIONS = Environment(
    name="test", kind="sandbox", account="123456789012", state_store="file:///nowhere",
    sites=(Site(name="east", kind="region"), Site(name="west", kind="region"), Site(name="onprem", kind="on-prem")),
    dns={"zone": "shop.example", "authorities": []},
)  # fmt: skip


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
    params: dict[str, Any] = {"role": "ic", "question": "Go on?"} if step.kind == "gate" else {"name": step.id}
    quick = {"timeout_s": 1.0, "poll_s": 0.05, "hold_s": 0.0, "settle_s": 0.0, "verify": None, "when": None}
    return step.model_copy(update={"uses": uses, "params": params, **quick})


def _stand_in(real: Action[Any, Any]) -> Action[Any, Any]:
    declare = action(
        f"standin.{real.name}", observe=value, repeat=real.repeat, irreversible=real.irreversible, fences=real.fences,
        promotes=real.promotes, skippable=real.skippable, side="neither", poll_s=0.05,
    )  # fmt: skip

    async def apply(ctx: Context, p: Put, before: Value) -> None:
        """Set a named value."""
        await ctx.use(World).write(p.name, p.to, ctx.token, once=real.repeat == "token")

    made = declare(apply)
    made.check(is_put)
    if real.irreversible is None:
        made.undo(put_back)
    return made


def _declared() -> dict[str, Action[Any, Any]]:
    known = Catalog()
    entries = [known.entry(step.uses) for step in real_plan().steps if step.kind == "action"]
    return {entry.name.replace(".", "_"): _stand_in(entry) for entry in entries if isinstance(entry, Action)}


globals().update(_declared())  # the catalog collects a module's entries from its names
