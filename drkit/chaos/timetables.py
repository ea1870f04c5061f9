"""The scheduled scenarios of a project, read from its files."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from drkit.chaos.calendar import Timetable
from drkit.errors import FileError, UsageError
from drkit.model.schedule import Calendar
from drkit.plan import files, yaml
from drkit.plan.hints import meant
from drkit.plan.project import Project
from drkit.plan.reading import LoadedScenario
from drkit.plan.scenarios import schedule_mistakes


@dataclass(frozen=True)
class Scheduled:
    """A scenario file with a schedule."""

    path: Path
    table: Timetable
    drills: bool
    """It carries out a runbook."""


def load(folder: Path, project: Project | None, environment: str, names: Collection[str] = ()) -> list[Scheduled]:
    """The scheduled scenarios of this environment in `folder`, by name; only those of `names`, if there are any.

    FileError with every mistake in any of them, UsageError for a name that is not scheduled here.
    """
    loaded = [files.load_scenario(path) for path in _scenario_files(folder)]
    here = [each for each in loaded if each.scenario.schedule and each.scenario.environment in (environment, None)]
    calendars = () if project is None else project.file.calendars
    mistakes = [mistake for each in here for mistake in schedule_mistakes(each, calendars)]
    if mistakes:
        raise FileError(mistakes)
    found = {each.scenario.metadata.name: each for each in here}
    twice = next((each for each in here if found[each.scenario.metadata.name] is not each), None)
    if twice is not None:
        name = twice.scenario.metadata.name
        raise UsageError(f"two scenarios are called {name}: {twice.path} and {found[name].path}")
    unknown = next((name for name in names if name not in found), None)
    if unknown is not None:
        raise UsageError(
            f'no scenario "{unknown}" is scheduled in {environment}', hint=meant(unknown, found, f"ls {folder}")
        )
    return [_scheduled(found[name], project) for name in sorted(names or found)]


def signature(folder: Path, project: Project | None) -> list[tuple[str, int, int]]:
    """Changes when a file changes that timetables are read from."""
    paths = _yaml_files(folder) + ([project.folder / "drkit.toml"] if project is not None else [])
    stats = [(str(path), path.stat()) for path in paths if path.exists()]
    return [(name, stat.st_mtime_ns, stat.st_size) for name, stat in stats]


def _yaml_files(folder: Path) -> list[Path]:
    return sorted(path for pattern in ("*.yaml", "*.yml") for path in folder.glob(pattern))


def _scenario_files(folder: Path) -> list[Path]:
    """Other tools' files may stand beside ours."""
    documents = ((path, yaml.read(path).data) for path in _yaml_files(folder))
    return [path for path, data in documents if isinstance(data, dict) and data.get("kind") == "Scenario"]


def _scheduled(loaded: LoadedScenario, project: Project | None) -> Scheduled:
    spec = loaded.scenario
    assert spec.schedule is not None
    named = spec.schedule.calendar
    calendar = Calendar() if named is None or project is None else project.calendar(named)
    table = Timetable(spec.metadata.name, spec.schedule, named, calendar)
    return Scheduled(Path(loaded.path), table, any(step.run is not None for step in spec.method))
