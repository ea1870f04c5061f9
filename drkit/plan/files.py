"""Load and check runbooks and scenarios: every mistake at once, each with its place and how it would be right."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from drkit.catalog import Catalog
from drkit.errors import FileError, Mistake
from drkit.model.environment import Environment
from drkit.model.plan import PlanStep
from drkit.plan.parts import Resolving
from drkit.plan.project import Project, load_project
from drkit.plan.reading import Loaded, LoadedScenario, in_order, read_any, read_runbook, read_scenario
from drkit.plan.resolve import resolve_mistakes, resolved
from drkit.plan.scenarios import check_scenario
from drkit.plan.steps import Steps
from drkit.plan.surroundings import Surroundings

__all__ = [
    "Loaded", "LoadedScenario", "check", "expanded", "find_runbook", "load_runbook", "load_scenario", "read_any",
    "read_runbook", "read_scenario",
]  # fmt: skip


def load_runbook(path: Path | str) -> Loaded:
    """The runbook in this file. UsageError if there is no such file.

    FileError if it has mistakes of form, and then with its mistakes of meaning too; a file without any is left for
    `resolve` to check against its environment.
    """
    loaded = read_runbook(path)
    if loaded.mistakes:
        raise FileError(in_order(_mistakes(loaded, None, Catalog())))
    return loaded


def load_scenario(path: Path | str) -> LoadedScenario:
    """The scenario in this file; as `load_runbook`."""
    loaded = read_scenario(path)
    if loaded.mistakes:
        raise FileError(in_order(_mistakes(loaded, None, Catalog())))
    return loaded


def check(path: Path | str, environment: Environment | None = None, catalog: Catalog | None = None) -> None:
    """Check form and meaning of a runbook or scenario. FileError with every mistake.

    Without an environment its site names and values are taken on trust.
    """
    mistakes = _mistakes(read_any(path), environment, catalog or Catalog())
    if mistakes:
        raise FileError(in_order(mistakes))


def _mistakes(loaded: Loaded | LoadedScenario, environment: Environment | None, catalog: Catalog) -> list[Mistake]:
    if isinstance(loaded, LoadedScenario):
        first, second = _sides(environment.regions if environment else ())
        source, target = loaded.scenario.source or first, loaded.scenario.target or second
        beside = Path(loaded.path).parent.parent / "runbooks"
        runbooks = beside if beside.is_dir() else None
        calendars, wrong = _calendars(loaded)
        return wrong + check_scenario(
            loaded, environment, catalog, source=source, target=target, runbooks=runbooks, calendars=calendars
        )
    return [*loaded.mistakes, *resolve_mistakes(loaded, _around(loaded, environment, catalog))]


def _around(loaded: Loaded, environment: Environment | None, catalog: Catalog) -> Surroundings:
    source, target = _sides(environment.regions if environment else loaded.runbook.metadata.regions)
    values = {name: parameter.default for name, parameter in loaded.runbook.parameters.items()}
    if environment is not None:
        values |= {name: value for name, value in environment.parameters.items() if name in values}
    return Surroundings(environment, catalog, source, target, "ungraceful", values)


def _calendars(loaded: LoadedScenario) -> tuple[Collection[str] | None, list[Mistake]]:
    """The calendars of the project around a scenario that names one, and what is wrong with that one."""
    schedule = loaded.scenario.schedule
    if schedule is None or schedule.calendar is None:
        return None, []
    project = load_project(Path(loaded.path).parent)
    if project is None or schedule.calendar not in project.file.calendars:
        return () if project is None else project.file.calendars, []
    try:
        project.calendar(schedule.calendar)
    except FileError as error:
        return project.file.calendars, list(error.mistakes)
    return project.file.calendars, []


def _sides(regions: Sequence[str]) -> tuple[str, str]:
    """Any two regions will do: roles are replaced by names, whichever they are."""
    return (regions[0], regions[1]) if len(regions) > 1 else ("source", "target")


def expanded(loaded: Loaded, environment: Environment | None, catalog: Catalog) -> list[PlanStep]:
    """Every step that a plan of this runbook would have, in the order in which people read them. FileError.

    Without an environment values are those of the file, and lists that only the environment knows stay as they are.
    """
    resolving = Resolving(loaded, _around(loaded, environment, catalog))
    resolving.probes()
    steps = resolved(Steps(loaded, resolving))
    if loaded.mistakes or resolving.mistakes:
        raise FileError(in_order([*loaded.mistakes, *resolving.mistakes]))
    return sorted(steps, key=lambda step: step.number)


def find_runbook(project: Project, name: str) -> Path:
    """The file of the runbook called `name`. UsageError names the closest ones, or what there is."""
    return project.runbook(name)
