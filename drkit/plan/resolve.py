"""A loaded runbook, an environment and a catalog make a plan; every mistake is reported at once. Pure.

Mistakes of form that the file was read with are reported together with those of meaning, so nobody corrects one to be
shown the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from drkit import __version__
from drkit.catalog import Action, Catalog
from drkit.errors import FileError, Mistake, UsageError
from drkit.model.environment import Environment
from drkit.model.faults import CONSENT_ROLE
from drkit.model.outline import outline
from drkit.model.plan import Plan, PlanProbe, PlanScope, PlanStep
from drkit.model.values import Json
from drkit.plan import risks
from drkit.plan.fanning import every
from drkit.plan.graph import ancestors
from drkit.plan.hints import listed, meant
from drkit.plan.nesting import unfolded
from drkit.plan.parameters import chosen
from drkit.plan.parts import Resolving
from drkit.plan.reading import Loaded, in_order
from drkit.plan.steps import Steps
from drkit.plan.surroundings import Surroundings

Mode = Literal["graceful", "ungraceful"]


def resolve(
    loaded: Loaded,
    environment: Environment,
    catalog: Catalog,
    *,
    source: str,
    target: str,
    mode: Mode = "ungraceful",
    parameters: Mapping[str, Json] | None = None,
    changed_by: str | Mapping[str, str] = "--set",
) -> Plan:
    """The plan. FileError with every mistake in the runbook; UsageError for regions and parameters that do not fit.

    `changed_by` says who set `parameters`: `--set`, `scenario`, or that by name.
    """
    _regions(loaded, environment, source, target)
    values, changed = chosen(loaded.runbook.parameters, environment.parameters, parameters or {}, changed_by)
    around = Surroundings(environment, catalog, source, target, mode, values)
    resolving = Resolving(loaded, around)
    probes, steps, scopes = _everything(loaded, resolving)
    if resolving.mistakes or loaded.mistakes:
        raise FileError(in_order([*loaded.mistakes, *resolving.mistakes]))
    runbook = loaded.runbook
    objectives = runbook.objectives
    uses = [step.uses for step in every(steps) if step.kind not in ("join", "when")]
    uses += [each.uses for found in (probes, *(scope.probes for scope in scopes.values())) for each in found.values()]
    return Plan(
        schema="drkit.plan/1",
        runbook=runbook.metadata.name,
        runbook_digest=loaded.digest,
        environment=environment.name,
        environment_kind=environment.kind,
        account=environment.account,
        mode=mode,
        source=source,
        target=target,
        rto_s=objectives.rto if environment.rto is None else environment.rto,
        rpo_s=objectives.rpo if environment.rpo is None else environment.rpo,
        parameters=values,
        changed_parameters=changed,
        probes=probes,
        scopes=scopes,
        deadline_s=runbook.deadline,
        decide=runbook.decide,
        recovered_when=runbook.recovered_when,
        steps=tuple(steps),
        warnings=tuple(risks.warnings(steps, runbook, environment, source)),
        catalog=catalog.digest(uses),
        drkit=__version__,
    )


def resolve_mistakes(loaded: Loaded, around: Surroundings) -> list[Mistake]:
    """Everything that would be wrong with a plan made of this runbook."""
    resolving = Resolving(loaded, around)
    _everything(loaded, resolving)
    return resolving.mistakes


def _regions(loaded: Loaded, environment: Environment, source: str, target: str) -> None:
    for name in (source, target):
        if name not in environment.regions:
            kind = f"{name} is not a region" if name in (s.name for s in environment.sites) else f'no region "{name}"'
            hint = meant(name, environment.regions)
            raise UsageError(f"{environment.name} has {kind}" if kind.startswith("no") else kind, hint=hint)
    if source == target:
        others = [region for region in environment.regions if region != target]
        hint = f"--region {others[0]}" if others else None
        raise UsageError(f"source and target are both {target}: there is nothing to move", hint=hint)
    allowed = loaded.runbook.metadata.regions
    strange = [name for name in (source, target) if allowed and name not in allowed]
    if strange:
        name = loaded.runbook.metadata.name
        raise UsageError(f"{name} moves between {listed(allowed)}, and {listed(strange)} is not among them")


def _everything(
    loaded: Loaded, resolving: Resolving
) -> tuple[dict[str, PlanProbe], list[PlanStep], dict[str, PlanScope]]:
    """A runbook's probes and steps, resolved, and what the steps read; its other expressions, checked."""
    probes, reader = resolving.probes(), Steps(loaded, resolving)
    steps = resolved(reader)
    resolving.expression(loaded.runbook.decide, ("decide",))
    resolving.expression(loaded.runbook.recovered_when, ("recovered_when",))
    return probes, steps, reader.scopes


def resolved(reader: Steps) -> list[PlanStep]:
    """All steps of a runbook, numbered as a plan shows them."""
    found = unfolded(reader)
    numbers = {place.id: number for number, place in enumerate(outline(step.id for step in found), 1)}
    steps = [step.model_copy(update={"number": numbers[step.id]}) for step in found]
    if reader.before is not None:
        _guard(reader, list(every(steps)))
    return steps


def _guard(reader: Steps, steps: list[PlanStep]) -> None:
    """Report what would promote although no fence is certain to be done, or break what needs a consent before."""
    needing = [step.id for step in steps if _needs_consent(reader.on, step)]
    rules = (
        (risks.unguarded_promotions(steps), "promotes, and no fence is certain to be done before it",
         "let it need a fence: no optional or skippable step may stand between them"),
        (risks.unconsented(steps, needing), "breaks what takes two persons' consent, and nobody is asked before",
         f"inject it from a scenario, or let it need gate.approve with role {CONSENT_ROLE} and approvals: 2"),
    )  # fmt: skip
    before = ancestors({step.id: step.needs for step in steps}) if any(found for found, _, _ in rules) else {}
    for found, message, hint in rules:
        for id in found:
            if not {id, *before[id]} & reader.vague:
                on, where = reader.places[id]
                wrong = on.loaded.document.mistake((*where, "uses"), f"{id} {message}", hint)
                reader.on.mistakes.append(wrong)


def _needs_consent(on: Resolving, step: PlanStep) -> bool:
    entry = on.around.catalog.find(step.uses)
    return isinstance(entry, Action) and entry.why_consent(step.params) is not None
