"""aws.faults: leases of faults that AWS still holds, in every region, and experiments that it runs for us.

A lease that is over is looked into: its schedules stay when they are done, and only the target says whether they did
their work or AWS gave up. Those that did are *spent*: they do nothing more, and are named so that they can be taken
away.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from typing import Final

from pydantic import ValidationError

from drkit.actions.together import together
from drkit.catalog import Action, Catalog, probe
from drkit.chaos.awslease import PREFIX, RETRIES, Schedule, reached, schedules
from drkit.chaos.faults import aws_experiment
from drkit.chaos.onaws import standing
from drkit.context import Context
from drkit.errors import DrkitError
from drkit.model.faults import Marker, Markers, Nothing, joined
from drkit.model.values import show_duration

#: Seconds after which AWS tries no more.
_TRIED_S: Final = float(str(RETRIES["MaximumEventAgeInSeconds"]))


@probe("aws.faults", side="neither")
async def faults(ctx: Context, p: Nothing) -> Markers:
    """Faults whose leases AWS still holds, in every region of the environment; one that does not answer is silent."""
    catalog = Catalog()
    return joined(await together([_left_in(ctx, site, catalog) for site in reached(ctx.environment)]))


async def _left_in(ctx: Context, site: str, catalog: Catalog) -> Markers:
    try:
        found, now = await schedules(ctx, site, PREFIX)
    except DrkitError as silent:
        return Markers(silent=(f"AWS in {site}: {silent.message}",))
    leases = [list(parts) for _, parts in groupby(found, key=lambda one: one.key)]
    left = await together([_marked(ctx, site, lease, now, catalog) for lease in leases])
    held = Markers(
        markers=tuple(one for one in left if one.state != "spent"),
        spent=tuple(one for one in left if one.state == "spent"),
    )
    return joined([held, await aws_experiment.left_in(ctx, site)])


async def _marked(ctx: Context, site: str, lease: Sequence[Schedule], now: datetime, catalog: Catalog) -> Marker:
    """A fault as `chaos leftovers` shows it."""
    asleep = [one for one in lease if not one.enabled]
    due_s = (now - lease[0].at).total_seconds()
    if due_s < 0:
        return marker(site, lease[0], now, f"{asleep[0].name} is disabled and will undo nothing" if asleep else None)
    said = lease[0].said
    try:
        entry = catalog.entry(said["fault"])
        assert isinstance(entry, Action)  # no other entry has a lease
        params = entry.params.model_validate(said["params"], strict=False)
        seen = await entry.observe(ctx, params)
        open = [one for one in lease if standing(entry, params, one.call, seen) in ("ours", "changed")]
    except (DrkitError, ValidationError) as error:
        return marker(site, lease[0], now, f"it cannot be told whether it is healed ({error})")
    if open:
        return marker(site, lease[0], now, undone(open, due_s))
    return marker(site, lease[0], now, None).model_copy(update={"state": "spent"})


def undone(open: Sequence[Schedule], due_s: float) -> str:
    """What is known of inverse calls that were due and have done nothing. Pure."""
    calls = ", ".join(dict.fromkeys(f"{one.call.service}:{one.call.operation}" for one in open))
    ago = f"{calls} was due {show_duration(due_s)} ago and is not done"
    if due_s > _TRIED_S:
        return f"{ago}: AWS has given up; see that the lease's role may do it"
    return f"{ago}: AWS begins up to a minute late and tries for {show_duration(_TRIED_S)} at most"


def marker(site: str, one: Schedule, now: datetime, why: str | None) -> Marker:
    """A lease as `chaos leftovers` shows it; `why`: what keeps it from healing."""
    left_s = (one.at - now).total_seconds()
    return Marker(
        key=one.key, fault=one.said["fault"], params=one.said["params"], where=f"region {site}", run=one.said["run"],
        step=one.said["step"], state="armed" if left_s > 0 and why is None else "overdue",
        expires_in_s=left_s if left_s > 0 and why is None else None, why=why,
    )  # fmt: skip
