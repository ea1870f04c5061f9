"""Which environment a command is about. Never guessed: a flag, a variable, or the project's own default."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from drkit.cli.closest import meant
from drkit.errors import DrkitError, PreflightFailed, UsageError

if TYPE_CHECKING:
    from drkit.cli.settings import Settings
    from drkit.model.environment import Environment
    from drkit.model.ports import Objects
    from drkit.plan.project import Project

SANDBOX = "sandbox"
#: As `drkit.plan.project` looks for it; that module costs more than a whole experiment that needs no project.
PROJECT_FILE = "drkit.toml"
Kind = Literal["runbook", "scenario"]


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
        return with_state(_sandbox(), settings.state)
    raise UsageError(f'there is no environment "{name}"{meant(name, known | {SANDBOX})}', code="E0211")


def _sandbox() -> Environment:
    from drkit.sandbox import world

    try:
        return world.load(world.default_folder())
    except DrkitError as error:  # for a command that needs it, a sandbox that is down is a failed preflight
        raise PreflightFailed(error.message, hint=error.hint, code=error.code) from error


def with_state(environment: Environment, state: str | None) -> Environment:
    """The same environment, with the state store that `--state` names."""
    return environment if state is None else environment.model_copy(update={"state_store": state})


def store_at(settings: Settings, url: str) -> Objects:
    """The state store that `--state URL` names, on a machine that may know nothing else.

    With `--env` it is reached through its site's endpoint; without, as the address says.
    """
    from drkit.providers.objects import open_objects, open_url

    return open_url(url) if settings.env is None else open_objects(load(settings))


def load_project() -> Project | None:
    """The project around the current folder; None if no `drkit.toml` stands there or above."""
    from drkit.plan.project import load_project

    return load_project(Path.cwd())


def has_default() -> bool:
    """A project stands around the current folder and names its own environment. Without one, nothing is loaded."""
    here = Path.cwd()
    if not any((place / PROJECT_FILE).is_file() for place in (here, *here.parents)):
        return False
    project = load_project()
    return project is not None and project.default is not None


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


def find_file(kind: Kind, name: str) -> Path:
    """The file of a runbook or scenario: a path, or a name in the project's folder for them. UsageError if neither."""
    from drkit.plan.project import find

    project = load_project()
    if project is not None:
        return project.runbook(name) if kind == "runbook" else project.scenario(name)
    return find(Path.cwd() / f"{kind}s", name, kind)


def runbook_file(environment: Environment, name: str | None) -> Path:
    """The runbook asked for, else the environment's default."""
    wanted = name or environment.runbook
    if wanted is None:
        raise UsageError(f"which runbook? {environment.name} names no default", hint="add -r RUNBOOK", code="E0217")
    return find_file("runbook", wanted)
