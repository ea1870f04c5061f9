"""How every fault of the sandbox is injected: one call, armed before anything breaks, told to the journal."""

from __future__ import annotations

from drkit.context import Context
from drkit.model.events import FaultChanged
from drkit.model.faults import Leased, fault_key
from drkit.model.values import Json
from drkit.sandbox.remote import World


async def inject(ctx: Context, fault: str, p: Leased, path: str, *, keeper: str = "supervisor", **body: Json) -> None:
    """Ask the supervisor for a fault; `keeper` of its lease heals it by itself after `p.lease_s` seconds.

    Refused if our run's lease is over, StepFailed in the supervisor's own words: then nothing is broken.
    """
    key = fault_key(fault, p)
    meta = {"key": key, "fault": fault, "params": p.model_dump(mode="json"), "run": ctx.run, "step": ctx.step}
    await ctx.use(World).change(path, {**body, "lease_s": p.lease_s, "meta": meta}, permit=ctx.permit)
    detail: dict[str, Json] = {"key": key, "lease": keeper, "left_s": p.lease_s}
    for state in ("armed", "injected"):
        ctx.tell(FaultChanged(fault=fault, id=ctx.step, state=state, detail=dict(detail)))
