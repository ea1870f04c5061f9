"""aws.faults: leases of faults that AWS still holds, in every region of the environment."""

from __future__ import annotations

import re
from typing import Final

from drkit.actions.together import together
from drkit.catalog import probe
from drkit.chaos.onaws import PREFIX, marker, schedules
from drkit.context import Context
from drkit.errors import DrkitError
from drkit.model.environment import Site
from drkit.model.faults import Markers, joined
from drkit.model.params import Params

#: What AWS calls its regions; a region of another name, without an endpoint of its own, is none of AWS's.
_REGION: Final = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")


class Nothing(Params):
    """No parameters: every region of the environment is asked."""


@probe("aws.faults", side="neither")
async def faults(ctx: Context, p: Nothing) -> Markers:
    """Faults whose leases AWS still holds, in every region of the environment; one that does not answer is silent."""
    regions = [site for site in ctx.environment.sites if site.kind == "region" and _is_aws(site)]
    return joined(await together([_left_in(ctx, site.name) for site in regions]))


def _is_aws(site: Site) -> bool:
    return site.aws_endpoint is not None or _REGION.fullmatch(site.name) is not None


async def _left_in(ctx: Context, site: str) -> Markers:
    try:
        found, now = await schedules(ctx, site, PREFIX)
    except DrkitError as silent:
        return Markers(silent=(f"AWS in {site}: {silent.message}",))
    return Markers(markers=tuple({one.key: one for one in (marker(site, each, now) for each in found)}.values()))
