"""Check what a scenario file means: faults, what arranges its settings, expressions, runbooks, stand-ins. Pure."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from drkit.catalog import Action, Catalog, Gate, Probe
from drkit.errors import Mistake
from drkit.model.environment import Environment
from drkit.model.inventory import FILLED
from drkit.model.runbook import RUNBOOK
from drkit.model.scenario import MethodStep
from drkit.model.values import Json
from drkit.plan.hints import meant
from drkit.plan.parts import Resolving
from drkit.plan.reading import LoadedScenario
from drkit.plan.surroundings import Surroundings
from drkit.plan.yaml import Where


def check_scenario(
    loaded: LoadedScenario,
    environment: Environment | None,
    catalog: Catalog,
    *,
    source: str,
    target: str,
    parameters: dict[str, Json] | None = None,
    runbooks: Path | None = None,
    calendars: Collection[str] | None = None,
) -> list[Mistake]:
    """Every mistake of meaning, with those of form.

    `runbooks` is the folder in which `run:` is looked up, `calendars` are those of drkit.toml; None: not looked up.
    """
    spec = loaded.scenario
    values = {name: parameter.default for name, parameter in spec.parameters.items()} | (parameters or {})
    on = Resolving(loaded, Surroundings(environment, catalog, source, target, "ungraceful", values))
    on.probes()
    _uses(on, loaded)
    _method(on, loaded, runbooks)
    for index, expectation in enumerate(spec.steady_state):
        on.expression(expectation.expect, loaded.where("steady_state", index, "expect"))
    for index, stop in enumerate(spec.stop_when):
        on.expression(stop, loaded.where("stop_when", index))
    return [*loaded.mistakes, *on.mistakes, *schedule_mistakes(loaded, calendars)]


def _uses(on: Resolving, loaded: LoadedScenario) -> None:
    for index, given in enumerate(loaded.scenario.given):
        where = loaded.where("given", index)
        entry = on.entry(given.uses, (*where, "uses"))
        if isinstance(entry, Action):
            on.bind(entry, given.with_, (*where, "with"))
        elif entry is not None:
            on.wrong((*where, "uses"), f"{given.uses} changes nothing: a setting needs an action")
    for name, target in loaded.scenario.targets.items():
        entry = on.entry(target.uses, ("targets", name, "uses"))
        if entry is not None and not isinstance(entry, Probe):
            on.wrong(("targets", name, "uses"), f"{target.uses} is not a probe: targets are looked for, not changed")
        elif entry is not None:
            on.bind(entry, target.where, ("targets", name, "where"))


def _method(on: Resolving, loaded: LoadedScenario, runbooks: Path | None) -> None:
    seen: dict[str, Where] = {}
    for index, step in enumerate(loaded.scenario.method):
        where = loaded.where("method", index)
        if step.id in seen:
            line = loaded.document.place((*seen[step.id], "id")).line
            on.wrong((*where, "id"), f'"{step.id}" is the id of the step in line {line} already')
        seen.setdefault(step.id, where)
        if step.on is not None and step.on not in loaded.scenario.targets:
            on.wrong((*where, "on"), f'there is no target "{step.on}"', meant(step.on, loaded.scenario.targets))
        if step.noticed is not None:
            on.expression(step.noticed, (*where, "noticed"))
        if step.inject is not None:
            _fault(on, step, where, loaded)
        elif step.run is not None:
            _run(on, step.run, where, runbooks)


def _fault(on: Resolving, step: MethodStep, where: Where, loaded: LoadedScenario) -> None:
    name = step.inject or ""
    entry = on.entry(name, (*where, "inject"))
    if isinstance(entry, Action) and entry.fault:
        aimed = step.on in loaded.scenario.targets and FILLED in entry.params.model_fields
        filled: dict[str, Json] = {FILLED: step.on} if aimed else {}
        on.bind(entry, filled | step.with_, (*where, "with"))
    elif entry is not None:
        what = "a gate" if isinstance(entry, Gate) else "a probe" if isinstance(entry, Probe) else "an action"
        on.wrong((*where, "inject"), f"{name} is {what}, not a fault: nothing would heal it", "drkit actions")


def _run(on: Resolving, run: str, where: Where, runbooks: Path | None) -> None:
    name = run.removeprefix(RUNBOOK)
    if not run.startswith(RUNBOOK) or not name:
        on.wrong((*where, "run"), f'run "{run}" names no runbook', f"write {RUNBOOK}{name or 'NAME'}")
    elif runbooks is not None:
        known = [path.stem for pattern in ("*.yaml", "*.yml") for path in runbooks.glob(pattern)]
        if name not in known:
            on.wrong((*where, "run"), f'there is no runbook "{name}"', meant(name, known))


def schedule_mistakes(loaded: LoadedScenario, calendars: Collection[str] | None) -> list[Mistake]:
    """What is wrong with a scenario's `schedule:`, beside its form."""
    spec, schedule = loaded.scenario, loaded.scenario.schedule
    if schedule is None:
        return []
    wrong = loaded.document.mistake
    found: list[Mistake] = []
    if spec.environment is None:
        found.append(wrong(("schedule",), "what is scheduled must name its environment", "add environment: NAME"))
    if schedule.calendar is not None and calendars is not None and schedule.calendar not in calendars:
        advice = meant(schedule.calendar, calendars, f"add [calendars.{schedule.calendar}] to drkit.toml")
        found.append(wrong(("schedule", "calendar"), f'there is no calendar "{schedule.calendar}"', advice))
    for name, source in (schedule.choose.parameters if schedule.choose else {}).items():
        where = ("schedule", "choose", "parameters", name)
        if name not in spec.parameters:
            advice = meant(name, spec.parameters, "declare it under parameters:")
            found.append(wrong(where, f'there is no parameter "{name}"', advice, key=True))
        if not source:
            found.append(wrong(where, f"{name} has nothing to be drawn from"))
    return found
