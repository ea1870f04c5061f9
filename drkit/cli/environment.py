"""Which environment a command is about. Never guessed: a flag, a variable, or the project's own default."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from drkit.cli.closest import meant
from drkit.errors import UsageError

if TYPE_CHECKING:
    from drkit.cli.settings import Settings
    from drkit.model.environment import Environment
    from drkit.plan.project import Project

SANDBOX = "sandbox"
#: Where runbooks and scenarios are looked for, beside a path given as it is.
FOLDERS = {"runbook": "runbooks", "scenario": "scenarios"}


def load(settings: Settings) -> Environment:
    """The environment this command is about. UsageError if none was named, or there is none of that name."""
    project = load_project()
    name = settings.env or (project.default if project else None)
    known = set(project.environments) if project else set()
    if name is None:
        raise UsageError(
            "which environment? drkit never guesses one",
            hint=f"add --env {sorted(known)[0] if known else SANDBOX}",
            code="E0210",
        )
    if project is not None and name in known:
        return with_state(project.environment(name), settings.state)
    if name == SANDBOX:
        from drkit.sandbox import world

        return with_state(world.load(), settings.state)
    raise UsageError(f'there is no environment "{name}"{meant(name, known | {SANDBOX})}', code="E0211")


def with_state(environment: Environment, state: str | None) -> Environment:
    """The same environment, with the state store that `--state` names."""
    return environment if state is None else environment.model_copy(update={"state_store": state})


def load_project() -> Project | None:
    """The project around the current folder; None if no `drkit.toml` stands there or above."""
    from drkit.plan.project import load_project

    return load_project(Path.cwd())


def region(environment: Environment, target: str, source: str | None) -> tuple[str, str]:
    """Source and target, checked. UsageError for a region that is not there, or twice the same."""
    regions = environment.regions
    if target not in regions:
        raise UsageError(
            f'--region: there is no region "{target}" in {environment.name}{meant(target, regions)}', code="E0212"
        )
    if source is None:
        others = [name for name in regions if name != target]
        if len(others) != 1:
            raise UsageError(
                f"which region is left? {environment.name} has {', '.join(regions)}",
                hint=f"add --from {others[0]}" if others else None,
                code="E0213",
            )
        source = others[0]
    if source not in regions:
        raise UsageError(
            f'--from: there is no region "{source}" in {environment.name}{meant(source, regions)}', code="E0212"
        )
    if source == target:
        raise UsageError(
            f"source and target are both {target}: --region is the region to activate, not the one that failed",
            code="E0214",
        )
    return source, target


def find_file(kind: str, name: str) -> Path:
    """The file of a runbook or scenario: a path, or a name under `runbooks/` or `scenarios/`. UsageError if neither."""
    given = Path(name)
    if given.suffix in (".yaml", ".yml"):
        if given.is_file():
            return given
        raise UsageError(f"there is no file {given}", code="E0215")
    folder = Path.cwd() / FOLDERS[kind]
    found = {path.stem: path for pattern in ("*.yaml", "*.yml") for path in sorted(folder.glob(pattern))}
    if name not in found:
        where = f" in {folder}" if found or folder.is_dir() else f": there is no folder {folder}"
        raise UsageError(f'there is no {kind} "{name}"{where}{meant(name, found)}', code="E0216")
    return found[name]


def runbook_file(environment: Environment, name: str | None) -> Path:
    """The runbook asked for, else the environment's default."""
    wanted = name or environment.runbook
    if wanted is None:
        raise UsageError(f"which runbook? {environment.name} names no default", hint="add -r RUNBOOK", code="E0217")
    return find_file("runbook", wanted)


def header(environment: Environment) -> str:
    """What every screen says of an environment."""
    return f"{environment.name.upper()} ({environment.kind})   {environment.account}"
