"""Turn a scenario into steps: arrange, see that all is well, break, and afterwards heal. Pure.

Faults are injected one after the other in the order of the file. A heal step is what the fault's own undo names, so a
fault that cannot say how it is healed never gets into a plan.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from drkit.catalog import Action, Catalog, Entry
from drkit.errors import CatalogError, Refused
from drkit.model.params import Use
from drkit.model.plan import PlanStep
from drkit.model.runbook import StepSpec
from drkit.model.scenario import MethodStep, Scenario
from drkit.model.values import Json

HEAL = "heal-"

#: A fault that is held for its `duration` is healed by us; the lease is for when we are not there.
LEASE_MARGIN_S: Final = 10.0


@dataclass(frozen=True)
class Parts:
    """Steps by the part of the scenario that they are, in order; each waits for the one before."""

    steady: tuple[StepSpec, ...]
    inject: tuple[StepSpec, ...]
    runs: tuple[MethodStep, ...]

    @property
    def first(self) -> tuple[StepSpec, ...]:
        """Everything that comes before a runbook may start."""
        return self.steady + self.inject


def parts(scenario: Scenario, catalog: Catalog) -> Parts:
    """The steps of a scenario that come before any runbook, and the runbooks it names."""
    watch = next(iter(scenario.probes.values()), None)
    if scenario.steady_state and watch is None:
        raise Refused(f"{scenario.metadata.name}: steady_state reads probes, and none is declared under probes:")
    steady = [StepSpec(id=given.id, uses=given.uses, with_=given.with_, title="arrange") for given in scenario.given]
    for number, expectation in enumerate(scenario.steady_state, start=1):
        assert watch is not None  # refused above
        steady.append(
            StepSpec(
                id=f"steady-{number}", uses=watch.uses, with_=watch.with_, title="steady state",
                verify=expectation.expect, hold=expectation.hold, timeout=expectation.timeout,
            )
        )  # fmt: skip
    inject = [
        StepSpec(id=step.id, uses=step.inject, with_=_leased(step, catalog), title="inject")
        for step in scenario.method
        if step.inject is not None
    ]
    return Parts(tuple(steady), tuple(inject), tuple(step for step in scenario.method if step.run is not None))


def _leased(step: MethodStep, catalog: Catalog) -> dict[str, Json]:
    """The parameters of a fault, with the lease that `duration` asks for. Without one, the fault's own default."""
    entry = catalog.find(step.inject or "")
    if step.duration is None or entry is None or "lease_s" not in entry.params.model_fields:
        return dict(step.with_)
    return {"lease_s": step.duration + LEASE_MARGIN_S} | step.with_


def heals(scenario: Scenario, injected: Iterable[PlanStep], catalog: Catalog) -> list[tuple[str, Use]]:
    """What heals each injected fault, the last one first: pairs of inject step and the use that undoes it.

    CatalogError for a fault that cannot name its heal before it was injected.
    """
    if scenario.rollback == "never":
        return []
    found: list[tuple[str, Use]] = []
    for step in injected:
        use = heal(catalog.entry(step.uses), step)
        if use is not None:
            found.append((step.id, use))
    return found[::-1]


def heal(entry: Entry, step: PlanStep) -> Use | None:
    """The use that takes this fault back; None for one that cannot be. CatalogError if the entry is no fault."""
    if not isinstance(entry, Action) or not entry.fault:
        raise CatalogError([f"{step.uses} is not a fault: only what can be healed may be injected."])
    if entry.heal is None:
        return None
    return entry.heal.use(entry.params.model_validate(step.params, strict=False))
