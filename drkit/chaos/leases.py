"""aws.faults: leases of faults that AWS still holds, in every region of the environment."""

from __future__ import annotations

from drkit.actions.together import together
from drkit.catalog import probe
from drkit.chaos.onaws import PREFIX, marker, reached, schedules
from drkit.context import Context
from drkit.errors import DrkitError
from drkit.model.faults import Markers, Nothing, joined


@probe("aws.faults", side="neither")
async def faults(ctx: Context, p: Nothing) -> Markers:
    """Faults whose leases AWS still holds, in every region of the environment; one that does not answer is silent."""
    return joined(await together([_left_in(ctx, site) for site in reached(ctx.environment)]))


async def _left_in(ctx: Context, site: str) -> Markers:
    try:
        found, now = await schedules(ctx, site, PREFIX)
    except DrkitError as silent:
        return Markers(silent=(f"AWS in {site}: {silent.message}",))
    return Markers(markers=tuple({one.key: one for one in (marker(site, each, now) for each in found)}.values()))
