"""Faults that nobody healed: found from any machine by asking their targets, and the plan that heals them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import anyio

from drkit import __version__
from drkit.actions.together import together
from drkit.catalog import Action, Catalog, Probe
from drkit.context import Context
from drkit.errors import DrkitError
from drkit.model.environment import Environment
from drkit.model.faults import Marker, Markers, joined
from drkit.model.plan import Plan, PlanStep
from drkit.model.values import digest

#: So long one kind of target is waited for.
ASK_S: Final = 15.0


async def leftovers(ctx: Context, catalog: Catalog) -> Markers:
    """What every kind of target remembers: every probe of the catalog that answers `Markers` is asked, all at once."""
    probes = [entry for entry in catalog.load_all().values() if isinstance(entry, Probe) and entry.answer is Markers]
    return joined(await together([_asked(ctx, probe) for probe in probes]))


async def _asked(ctx: Context, probe: Probe[Any, Any]) -> Markers:
    try:
        with anyio.fail_after(ASK_S):
            found: Markers = await probe(ctx, probe.params())
            return found
    except DrkitError as error:
        return Markers(silent=(f"{probe.name}: {error.message}",))
    except TimeoutError:
        return Markers(silent=(f"{probe.name}: no answer within {ASK_S:g} s",))


def healing(environment: Environment, found: Sequence[Marker], catalog: Catalog) -> Plan:
    """One plan that heals each of these faults, independently of each other. CatalogError for an unknown fault."""
    steps: list[PlanStep] = []
    for number, marker in enumerate(found, start=1):
        fault = catalog.entry(marker.fault)
        assert isinstance(fault, Action) and fault.heal is not None  # only what has a heal leaves markers
        steps.append(
            PlanStep(
                id=f"heal-{marker.key}", number=number, uses=fault.heal.name, kind="action",
                title=f"heal {marker.fault} at {marker.where}", params=marker.params, timeout_s=fault.heal.timeout_s,
                repeat="safe", site=_site(marker), part="heal", heals=marker.step or marker.key, skippable=False,
            )
        )  # fmt: skip
    regions = environment.regions or (environment.name,)
    return Plan(
        schema="drkit.plan/1", runbook="chaos-stop", runbook_digest=digest([s.model_dump(mode="json") for s in steps]),
        environment=environment.name, environment_kind=environment.kind, account=environment.account,
        source=regions[0], target=regions[-1], steps=tuple(steps), catalog=catalog.digest(s.uses for s in steps),
        drkit=__version__,
    )  # fmt: skip


def _site(marker: Marker) -> str | None:
    site = marker.params.get("site")
    return site if isinstance(site, str) else None
