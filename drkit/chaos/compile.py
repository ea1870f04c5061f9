"""Turn a scenario into steps: arrange, see that all is well, break, hold, and afterwards heal. Pure.

Faults are injected in the order of the file, unless they say `start`; one with a `duration` is held so long and then
healed, the others are healed when everything else is over. A heal is the fault's own, so one that cannot say how it is
healed never gets into a plan without two persons' consent, and neither does one that breaks an original.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from drkit.catalog import Action, Catalog, Entry
from drkit.errors import CatalogError, Refused
from drkit.model.faults import CONSENT_ROLE
from drkit.model.inventory import Member
from drkit.model.params import Use
from drkit.model.plan import PlanStep
from drkit.model.runbook import ProbeSpec, StepSpec
from drkit.model.scenario import MethodStep, Scenario
from drkit.model.values import Json

HEAL: Final = "heal-"
HOLD: Final = "hold-"
WAIT: Final = "wait-"
CONSENT: Final = "consent-"
#: A fault that is held for its `duration` is healed by us; the lease is for when we are not there.
LEASE_MARGIN_S: Final = 10.0

Targets = Mapping[str, Sequence[Member]]


@dataclass
class Parts:
    """The steps of a scenario by what they are. Those of `method` come one after the other unless they say `start`."""

    steady: list[StepSpec] = field(default_factory=list)
    method: list[StepSpec] = field(default_factory=list)
    after: list[StepSpec] = field(default_factory=list)
    """Steady states, when everything is healed."""
    injects: dict[str, MethodStep] = field(default_factory=dict)
    """What each inject step was made of."""
    noticing: set[str] = field(default_factory=set)
    """Steps that wait until a fault is noticed."""
    run: MethodStep | None = None
    """The runbook that is to recover."""
    run_after: str | None = None
    """Step that the runbook waits for."""
    watch: ProbeSpec | None = None
    """What is asked where an expression only reads probes."""

    @property
    def part_of(self) -> dict[str, str]:
        """By step: inject, after where it answers the hypothesis, steady for what only arranges, waits and looks."""
        rest = [step.id for step in (*self.steady, *self.method, *self.after) if step.id not in self.injects]
        return (
            dict.fromkeys(rest, "steady") | dict.fromkeys(self.injects, "inject")
            | dict.fromkeys(self.noticing, "after")
        )  # fmt: skip


def parts(
    scenario: Scenario, catalog: Catalog, targets: Targets | None = None, only: Collection[str] | None = None
) -> Parts:  # fmt: skip
    """The steps of a scenario around those of a runbook. `targets`: the members chosen for each `on:`.

    `only`: ids of the inject steps that are kept; what waits for a moment of its own waits all the same.
    """
    found = Parts()
    _steady(scenario, found)
    before = found.steady[-1].id if found.steady else None
    last = before
    for step in scenario.method:
        after = _started(step, found, scenario, catalog, before) if step.start else last
        if step.run is not None:
            found.run, found.run_after = step, after
        else:
            last = _injected(step, found, catalog, _uses(step, targets or {}, only), after) or after
    found.run_after = found.run_after or last
    if not found.injects:
        found.after.clear()  # nothing was broken: there is nothing to come back from
    return found


def _steady(scenario: Scenario, found: Parts) -> None:
    watch = found.watch = next(iter(scenario.probes.values()), None)
    if scenario.steady_state and watch is None:
        raise Refused(f"{scenario.metadata.name}: steady_state reads probes, and none is declared under probes:")
    steps = [StepSpec(id=given.id, uses=given.uses, with_=given.with_, title="arrange") for given in scenario.given]
    for number, expectation in enumerate(scenario.steady_state, start=1):
        assert watch is not None  # refused above
        look = StepSpec(
            id=f"steady-{number}", uses=watch.uses, with_=watch.with_, title="steady state", needs=[],
            verify=expectation.expect, hold=expectation.hold, timeout=expectation.timeout, on_failure="abort",
        )  # fmt: skip
        steps.append(look)
        # Its failure is the answer to the hypothesis, and holds nothing back: everything is healed by then.
        found.after.append(look.model_copy(update={"id": f"after-{number}", "on_failure": None, "optional": True}))
    for number, step in enumerate(steps):
        found.steady.append(step.model_copy(update={"needs": [steps[number - 1].id] if number else []}))


def _started(
    step: MethodStep, found: Parts, scenario: Scenario, catalog: Catalog, before: str | None
) -> str | None:  # fmt: skip
    """Wait for `start`, counted from when all was seen to be well: something is looked at all the while."""
    watch = next(((p.uses, p.with_) for p in scenario.probes.values()), None)
    if watch is None and step.inject is not None:
        watch = _look(step, catalog, dict(step.with_))
    if watch is None:
        raise Refused(f"{step.id} has a start, and no probe is declared under probes: to look at until then")
    wait = StepSpec(
        id=WAIT + step.id, uses=watch[0], with_=watch[1], title=f"wait before {step.id}", hold=step.start,
        timeout=step.start + 60, needs=[] if before is None else [before], on_failure="abort",
    )  # fmt: skip
    found.method.append(wait)
    return wait.id


def _injected(
    step: MethodStep, found: Parts, catalog: Catalog, uses: Sequence[tuple[str, dict[str, Json]]], after: str | None
) -> str | None:  # fmt: skip
    """The inject steps of one line of the method, each with its hold; the last one's id, None if there is none."""
    if not uses:
        return None
    entry = catalog.find(step.inject or "")
    needs = [] if after is None else [after]
    if isinstance(entry, Action) and (why := entry.why_consent(step.with_)) is not None:
        consent = StepSpec(
            id=CONSENT + step.id, uses="gate.approve", title=f"consent to {step.inject}", needs=needs,
            with_={
                "role": CONSENT_ROLE, "approvals": 2, "timeout": "1h",
                "question": why,
            },
        )  # fmt: skip
        found.method.append(consent)
        needs = [consent.id]
    for id, given in uses:
        given = _leased(step, entry, given)
        spec = StepSpec(id=id, uses=step.inject or "", with_=given, title="inject", needs=needs, on_failure="abort")
        found.method.append(spec)
        found.injects[id] = step
        needs = [id]
        look = _look(step, catalog, given) if step.duration is not None else None
        if step.noticed is not None:
            found.method.append(_noticed(step, id, found))
        elif look is not None:
            found.method.append(
                StepSpec(
                    id=HOLD + id, uses=look[0], with_=look[1], title=f"hold {id}", hold=step.duration or 0.0,
                    timeout=(step.duration or 0.0) + 60, needs=[id], on_failure="abort",
                )
            )  # fmt: skip
    return uses[-1][0]


def _noticed(step: MethodStep, id: str, found: Parts) -> StepSpec:
    """Wait until a fault is noticed. That nobody does is an answer to the hypothesis, and then it is healed."""
    if found.watch is None:
        raise Refused(f"{step.id}: noticed reads probes, and none is declared under probes:")
    found.noticing.add(HOLD + id)
    return StepSpec(
        id=HOLD + id, uses=found.watch.uses, with_=found.watch.with_, title=f"{id} is noticed", verify=step.noticed,
        timeout=step.duration, needs=[id], optional=True,
    )  # fmt: skip


def _uses(
    step: MethodStep, targets: Targets, only: Collection[str] | None
) -> list[tuple[str, dict[str, Json]]]:  # fmt: skip
    """Id and parameters of each inject step that is kept: of the one there is, or of one a target."""
    if step.on is None or step.on not in targets:
        found = [(step.id, dict(step.with_))]
    else:
        found = [(f"{step.id}-{m.name}", {**step.with_, m.fills: m.name}) for m in targets[step.on]]
    return [(id, given) for id, given in found if only is None or id in only]


def _leased(step: MethodStep, entry: Entry | None, given: dict[str, Json]) -> dict[str, Json]:
    """The parameters of a fault, with the lease that `duration` asks for. Without one, the fault's own default."""
    if step.duration is None or entry is None or "lease_s" not in entry.params.model_fields:
        return given
    return {"lease_s": step.duration + LEASE_MARGIN_S} | given


def _look(step: MethodStep, catalog: Catalog, given: dict[str, Json]) -> tuple[str, dict[str, Json]] | None:
    """How a fault's target is looked at."""
    entry = catalog.find(step.inject or "")
    if not isinstance(entry, Action):
        return None
    known = entry.observe.params.model_fields
    return entry.observe.name, {key: value for key, value in given.items() if key in known}


def heals(
    scenario: Scenario, injects: Mapping[str, MethodStep], injected: Iterable[PlanStep], catalog: Catalog
) -> list[tuple[str, Use]]:
    """What heals each injected fault, the last one first: pairs of inject step and the use that heals it."""
    if scenario.rollback == "never":
        return []
    found: list[tuple[str, Use]] = []
    for step in injected:
        use = heal(catalog.entry(step.uses), step) if step.id in injects else None
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
