"""Put a scenario's steps around a runbook's: arrange, see that all is well, break, detect, recover, heal. Pure.

The runbook starts when what is measured says go (`detect`: the runbook's own `decide`), never because it is known what
was broken. Healing comes last, so that the recovery is proven while the fault lasts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from drkit.catalog import Catalog
from drkit.chaos.compile import HEAL, HOLD, Parts, Targets, heals, parts
from drkit.errors import FileError, Refused
from drkit.model.environment import Environment
from drkit.model.params import Use
from drkit.model.plan import Plan, PlanStep
from drkit.model.runbook import Parameter, Retry, Runbook, StepSpec
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
    targets: Targets | None = None,
    only: Collection[str] | None = None,
) -> Plan:
    """The plan of a drill. Without a runbook (`chaos run`), only what the scenario breaks and heals.

    `targets`: the members chosen for each entry of `targets:`; `only`: the inject steps that are kept, None: all.
    FileError for mistakes in either file, Refused if the scenario cannot be carried out here.
    """
    spec = scenario.spec
    source, target = _regions(scenario, environment, source, target)
    if spec.environment is not None and spec.environment != environment.name:
        raise Refused(f"{spec.metadata.name} is meant for {spec.environment}, not for {environment.name}",
                      hint=f"--env {spec.environment}")  # fmt: skip
    mistakes = check_scenario(
        scenario, environment, catalog, source=source, target=target, parameters=dict(parameters or {})
    )
    if mistakes or (runbook is not None and runbook.mistakes):
        raise FileError([*mistakes, *(runbook.mistakes if runbook is not None else ())])
    pieces = parts(spec, catalog, targets, only)
    around = _around(scenario, None if runbook is None else runbook.spec, pieces)
    whole = resolve(
        _loaded(scenario if runbook is None else runbook, around), environment, catalog,
        source=source, target=target, mode="ungraceful", parameters=dict(parameters or {}), changed_by="--set",
    )  # fmt: skip
    return _marked(whole, scenario, runbook, catalog, pieces)


def _regions(
    scenario: LoadedScenario, environment: Environment, source: str | None, target: str | None
) -> tuple[str, str]:
    """Which region is left and which is entered. A scenario without a runbook need not say: any two do."""
    spec = scenario.spec
    source, target = source or spec.source, target or spec.target
    if source is not None and target is not None:
        return source, target
    if any(step.run for step in spec.method) or len(environment.regions) < 2:
        raise Refused(f"{spec.metadata.name} does not say which region is left and which is entered",
                      hint=f"add source: and target: to {scenario.path}")  # fmt: skip
    return environment.regions[0], environment.regions[-1]


def policy(scenario: Scenario) -> dict[str, Json]:
    """The recorded answers to a drill's gates, by role, as a run's first event keeps them."""

    return {"name": scenario.metadata.name, **scenario.approvals}


def _around(scenario: LoadedScenario, runbook: Runbook | None, pieces: Parts) -> Runbook:
    """One runbook with the scenario's steps before the runbook's own."""
    spec = scenario.spec
    steps, decide, probes = [*pieces.steady, *pieces.method], None, dict(spec.probes)
    parameters = dict(spec.parameters)
    if runbook is not None:
        start = pieces.run_after
        if runbook.decide is not None:
            steps.append(_detection(runbook, start))
            start = DETECT
        first = [] if start is None else [start]
        steps += [
            step.model_copy(update={"needs": first}) if _starts_at_once(step, number) else step
            for number, step in enumerate(runbook.steps)
        ]
        decide, probes = runbook.decide, {**probes, **runbook.probes}
        parameters = {**runbook.parameters, **_overriding(spec.parameters, runbook.parameters)}
    steps += pieces.after
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


def _starts_at_once(step: StepSpec, number: int) -> bool:
    return step.needs == [] or (step.needs is None and number == 0)


def _detection(runbook: Runbook, after: str | None) -> StepSpec:
    """The step that waits until the runbook's own `decide` says go."""
    watch = next(iter(runbook.probes.values()))
    return StepSpec(
        id=DETECT, uses=watch.uses, with_=watch.with_, title="detect: what is measured says go",
        verify=runbook.decide, needs=[] if after is None else [after], timeout=300.0,
    )  # fmt: skip


def _marked(plan: Plan, scenario: LoadedScenario, runbook: Loaded | None, catalog: Catalog, pieces: Parts) -> Plan:
    """The plan with each step's part named; heals behind what they wait for, and a last look behind them."""
    own = {step.id for step in runbook.spec.steps} if runbook is not None else set()
    after = {step.id for step in pieces.after}
    part_of = pieces.part_of
    steps = [
        step if step.id.partition("/")[0] in own else step.model_copy(update={"part": part_of.get(step.id, "detect")})
        for step in plan.steps if step.id not in after
    ]  # fmt: skip
    needed = {need for step in steps for need in step.needs}
    last = tuple(step.id for step in steps if step.id not in needed)
    healed: list[str] = []
    for inject, use in heals(scenario.spec, pieces.injects, list(steps), catalog):
        held = pieces.injects[inject].duration is not None
        steps.append(_heal(plan.step(inject), use, catalog, (HOLD + inject,) if held else last, len(steps) + 1))
        healed.append(HEAL + inject)
        last = last if held else (HEAL + inject,)
    ends = tuple(dict.fromkeys((*healed, *(id for id in last if not healed or id not in healed))))
    for step in plan.steps:
        if step.id in after:
            changes = {"part": "after", "needs": ends, "number": len(steps) + 1}
            steps.append(step.model_copy(update=changes))
    named = scenario.spec
    return plan.but(
        steps=tuple(steps),
        runbook=plan.runbook if runbook is not None else NO_RUNBOOK,
        scenario=named.metadata.name,
        scenario_digest=scenario.digest,
        hypothesis=named.hypothesis,
        stop_when=tuple(named.stop_when),
        steady=tuple(each.expect for each in named.steady_state if each.during),
        rto_s=named.objectives.rto if named.objectives.rto is not None else plan.rto_s,
        rpo_s=named.objectives.rpo if named.objectives.rpo is not None else plan.rpo_s,
    )


def _heal(fault: PlanStep, use: Use, catalog: Catalog, needs: tuple[str, ...], number: int) -> PlanStep:
    entry = catalog.entry(use.uses)
    return PlanStep(
        id=HEAL + fault.id, number=number, uses=use.uses, kind="action", title="heal", params=use.params, needs=needs,
        timeout_s=getattr(entry, "timeout_s", 60.0), repeat=getattr(entry, "repeat", "safe"), site=fault.site,
        part="heal", heals=fault.id, skippable=False, retry=Retry(times=2, backoff=1.0),
    )  # fmt: skip


def _loaded(file: Loaded | LoadedScenario, runbook: Runbook) -> Loaded:
    """A runbook made here, with the file it comes from: mistakes are placed in that file."""
    return Loaded(file.path, file.digest, runbook, file.document, library=file.library)
