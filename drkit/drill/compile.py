"""Put a scenario's steps around a runbook's: arrange, see that all is well, break, detect, recover, heal. Pure.

The runbook starts when what is measured says go (`detect`: the runbook's own `decide`), never because it is known what
was broken. Healing comes last, so that the recovery is proven while the fault lasts.
"""

from __future__ import annotations

from collections.abc import Mapping

from drkit.catalog import Catalog
from drkit.chaos.compile import HEAL, heals, parts
from drkit.errors import FileError, Refused
from drkit.model.environment import Environment
from drkit.model.plan import Plan, PlanStep
from drkit.model.runbook import Parameter, Runbook, StepSpec
from drkit.model.scenario import Scenario
from drkit.model.values import Json
from drkit.plan.files import Loaded, LoadedScenario
from drkit.plan.resolve import resolve
from drkit.plan.scenarios import check_scenario

DETECT = "detect"
NO_RUNBOOK = "(none)"


def compile_drill(
    scenario: LoadedScenario,
    runbook: Loaded | None,
    environment: Environment,
    catalog: Catalog,
    *,
    parameters: Mapping[str, Json] | None = None,
    source: str | None = None,
    target: str | None = None,
) -> Plan:
    """The plan of a drill. Without a runbook (`chaos run`), only what the scenario breaks and heals.

    FileError for mistakes in either file, Refused if the scenario cannot be carried out here.
    """
    spec = scenario.spec
    source, target = source or spec.source, target or spec.target
    if source is None or target is None:
        raise Refused(f"{spec.metadata.name} does not say which region is left and which is entered",
                      hint=f"add source: and target: to {scenario.path}")  # fmt: skip
    if spec.environment is not None and spec.environment != environment.name:
        raise Refused(f"{spec.metadata.name} is meant for {spec.environment}, not for {environment.name}",
                      hint=f"--env {spec.environment}")  # fmt: skip
    mistakes = check_scenario(
        scenario, environment, catalog, source=source, target=target, parameters=dict(parameters or {})
    )
    if mistakes or (runbook is not None and runbook.mistakes):
        raise FileError([*mistakes, *(runbook.mistakes if runbook is not None else ())])
    around = _around(scenario, None if runbook is None else runbook.spec, catalog)
    whole = resolve(
        _loaded(scenario if runbook is None else runbook, around), environment, catalog,
        source=source, target=target, mode="ungraceful", parameters=dict(parameters or {}), changed_by="--set",
    )  # fmt: skip
    return _marked(whole, scenario, runbook, catalog)


def policy(scenario: Scenario) -> dict[str, Json]:
    """The recorded answers to a drill's gates, by role, as a run's first event keeps them."""

    return {"name": scenario.metadata.name, **scenario.approvals}


def _around(scenario: LoadedScenario, runbook: Runbook | None, catalog: Catalog) -> Runbook:
    """One runbook with the scenario's steps before the runbook's own."""
    spec = scenario.spec
    before = _chain(parts(spec, catalog).first)
    steps, decide, probes = list(before), None, dict(spec.probes)
    parameters = dict(spec.parameters)
    if runbook is not None:
        steps += _detection(runbook, before[-1].id)
        start = steps[-1].id
        steps += [
            step.model_copy(update={"needs": [start]}) if _starts_at_once(step, number) else step
            for number, step in enumerate(runbook.steps)
        ]
        decide, probes = runbook.decide, {**probes, **runbook.probes}
        parameters = {**runbook.parameters, **_overriding(spec.parameters, runbook.parameters)}
    named = runbook.metadata if runbook is not None else spec.metadata
    return Runbook(
        apiVersion="drkit/v1", kind="Runbook", metadata=named, objectives=spec.objectives, parameters=parameters,
        probes=probes, decide=decide, steps=steps, recovered_when=runbook.recovered_when if runbook else None,
        deadline=runbook.deadline if runbook else None,
    )  # fmt: skip


def _overriding(scenario: Mapping[str, Parameter], runbook: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """The scenario's parameters; for one that the runbook has too, the scenario's value counts."""
    return {
        name: runbook[name].model_copy(update={"default": mine.default}) if name in runbook else mine
        for name, mine in scenario.items()
    }


def _chain(steps: tuple[StepSpec, ...]) -> list[StepSpec]:
    """Each step waits for the one before."""
    return [
        step.model_copy(update={"needs": [steps[number - 1].id] if number else []})
        for number, step in enumerate(steps)
    ]  # fmt: skip


def _starts_at_once(step: StepSpec, number: int) -> bool:
    return step.needs == [] or (step.needs is None and number == 0)


def _detection(runbook: Runbook, after: str) -> list[StepSpec]:
    """The step that waits until the runbook's own `decide` says go; none where it has no `decide`."""
    if runbook.decide is None:
        return []
    watch = next(iter(runbook.probes.values()))
    return [
        StepSpec(
            id=DETECT, uses=watch.uses, with_=watch.with_, title="detect: what is measured says go",
            verify=runbook.decide, needs=[after], timeout=300.0,
        )
    ]  # fmt: skip


def _marked(plan: Plan, scenario: LoadedScenario, runbook: Loaded | None, catalog: Catalog) -> Plan:
    """The plan with each step's part named, and the heals behind everything else."""
    pieces = parts(scenario.spec, catalog)
    part_of = {step.id: "steady" for step in pieces.steady} | {step.id: "inject" for step in pieces.inject}
    own = {step.id for step in runbook.spec.steps} if runbook is not None else set()
    steps = [
        step if step.id.partition("/")[0] in own else step.model_copy(update={"part": part_of.get(step.id, "detect")})
        for step in plan.steps
    ]  # fmt: skip
    injected = [step for step in steps if step.part == "inject"]
    needed = {need for step in steps for need in step.needs}
    last = tuple(step.id for step in steps if step.id not in needed)
    for inject, use in heals(scenario.spec, injected, catalog):
        entry = catalog.entry(use.uses)
        fault = plan.step(inject)
        steps.append(
            PlanStep(
                id=HEAL + inject, number=len(steps) + 1, uses=use.uses, kind="action", title="heal", params=use.params,
                needs=last, timeout_s=getattr(entry, "timeout_s", 60.0), repeat=getattr(entry, "repeat", "safe"),
                site=fault.site, part="heal", heals=inject, skippable=False,
            )
        )  # fmt: skip
        last = (HEAL + inject,)
    named = scenario.spec
    return plan.but(
        steps=tuple(steps),
        runbook=plan.runbook if runbook is not None else NO_RUNBOOK,
        scenario=named.metadata.name,
        scenario_digest=scenario.digest,
        hypothesis=named.hypothesis,
        rto_s=named.objectives.rto if named.objectives.rto is not None else plan.rto_s,
        rpo_s=named.objectives.rpo if named.objectives.rpo is not None else plan.rpo_s,
    )


def _loaded(file: Loaded | LoadedScenario, runbook: Runbook) -> Loaded:
    """A runbook made here, with the file it comes from: mistakes are placed in that file."""
    return Loaded(file.path, file.digest, runbook, file.document, library=file.library)
