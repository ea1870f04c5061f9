"""Chaos Toolkit's experiments on the command line: what `drkit chaos` does when it is given one of their files."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drkit.cli.settings import Settings, duration
from drkit.errors import Exit, FileError, Mistake, UsageError

if TYPE_CHECKING:
    from drkit.chaos.toolkit.ending import Ended
    from drkit.chaos.toolkit.locks import Hold
    from drkit.chaos.toolkit.model import Experiment
    from drkit.chaos.toolkit.opening import Options
    from drkit.chaos.toolkit.values import Values
    from drkit.engine.runs import RunFolder
    from drkit.model.environment import Environment
    from drkit.model.events import Row

_DRKIT = re.compile(r"^[\"']?(apiVersion|kind)[\"']?\s*:", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was typed that only an experiment knows."""

    rollback_strategy: str | None = None
    hypothesis_strategy: str | None = None
    frequency_s: float = 1.0
    fail_fast: bool = False
    var: tuple[str, ...] = ()
    var_file: tuple[Path, ...] = ()
    journal_path: Path | None = None
    deadline: str | None = None

    def refuse(self) -> None:
        """UsageError if any was typed: this is a scenario of drkit's own."""
        if self != Wishes():
            raise UsageError("these options are for Chaos Toolkit's experiments, and this is a scenario")


def is_experiment(name: str) -> bool:
    """A file in JSON, or in YAML that is no drkit file."""
    path = Path(name)
    if path.suffix == ".json":
        return True
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        return False
    return _DRKIT.search(path.read_text(encoding="utf-8", errors="replace")) is None


def run(
    settings: Settings, path: Path, wishes: Wishes, *, confirm: str | None, allow_production: bool, dry_run: bool,
    detach: bool,
) -> Exit:  # fmt: skip
    """Read, check, confirm and carry out one experiment in this process."""
    from drkit import __version__
    from drkit.chaos.toolkit import opening, running
    from drkit.chaos.toolkit.redaction import Redaction
    from drkit.engine import runs

    if detach:
        raise UsageError("an experiment runs in the foreground", hint=f"nohup drkit chaos run {path} &")
    given = _given(wishes)
    experiment = _read(settings, path, given)
    options = _options(experiment, wishes)
    environment = _environment(settings)
    if dry_run:
        _plan(settings, experiment, options)
        return Exit.DONE
    _permit(settings, experiment, environment, confirm, allow_production)
    values = values_of(settings, experiment, given)
    running.check_controls(experiment, values)
    experiment = running.titled(experiment, values)
    folder = runs.new()
    try:
        hold = _hold(environment, experiment, folder)
        by = me(environment)
        stated = opening.local() if environment is None else environment.model_dump(mode="json", by_alias=True)
        redaction = Redaction(values.secrets)
        opened = opening.open_run(folder, experiment, stated, by, options, given[0], redaction, __version__)
    except BaseException:
        folder.discard()
        raise
    settings.say.note(f"Starting run {folder.id}: {experiment.title}")
    show = running.Show(row=lambda row: tell(settings, experiment, row), warn=settings.say.warn)
    also = wishes.journal_path
    ended = running.carry_out(folder, experiment, values, options, opened, hold, show=show, also=also)
    _conclude(settings, folder, experiment, ended)
    return ended.exit_code


def validate(settings: Settings, path: Path, wishes: Wishes) -> None:
    """Say whether this file can be run; nothing in it is run or imported."""
    experiment = _read(settings, path, _given(wishes))
    count = len(list(experiment.activities()))
    settings.say.result(
        {"file": str(path), "ok": True, "title": experiment.title, "activities": count},
        lambda: settings.say.line(f"{path}: valid, {count} activities"),
    )


def convert(settings: Settings, path: Path, role: str, out: Path | None, *, strict: bool) -> None:
    """Write the scenario that means the same, and say what does not come with it. FileError if nothing is left."""
    from drkit.catalog import Action, Catalog
    from drkit.chaos.toolkit import document
    from drkit.chaos.toolkit.conversion import converted
    from drkit.cli.say import write
    from drkit.plan.files import check
    from drkit.plan.yaml import written

    experiment = _read(settings, path, ({}, {}))
    catalog = Catalog()

    def known(name: str) -> bool:
        entry = catalog.find(name)
        return isinstance(entry, Action) and entry.fault

    found = converted(experiment, document.read(path).document, role, known)
    if found.scenario is None or (strict and found.dropped):
        raise FileError(found.dropped, hint=f"drkit chaos run {path}")
    for dropped in found.dropped:
        settings.say.warn(str(dropped))
    text = written(found.scenario)
    if out is None:
        write(text.rstrip())
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    check(out)
    settings.say.note(f"Wrote {out}; {len(found.dropped)} parts were not carried over")
    settings.say.next(f"drkit chaos run {out} --dry-run")


def is_run(folder: RunFolder) -> bool:
    """This run is an experiment's."""
    from drkit.chaos.toolkit.opening import FILE

    return (folder.path / FILE).exists()


def _read(settings: Settings, path: Path, given: tuple[dict[str, Any], dict[str, Any]]) -> Experiment:
    from drkit.chaos.toolkit.reading import load

    read = load(path, given)
    for warning in read.warnings:
        hint = f"   ({warning.hint})" if warning.hint else ""
        settings.say.warn(f"warning: {warning}{hint}")
    return read.experiment


def _options(experiment: Experiment, wishes: Wishes) -> Options:
    """What was typed, else what the file says, else what is safe."""
    from drkit.chaos.toolkit.opening import Options
    from drkit.chaos.toolkit.reading import HYPOTHESIS_STRATEGIES, ROLLBACK_STRATEGIES

    rollbacks = wishes.rollback_strategy or experiment.rollback_strategy or "always"
    hypothesis = wishes.hypothesis_strategy or experiment.hypothesis_strategy or "default"
    for flag, word, known in (
        ("--rollback-strategy", rollbacks, ROLLBACK_STRATEGIES),
        ("--hypothesis-strategy", hypothesis, HYPOTHESIS_STRATEGIES),
    ):
        if word not in known:
            raise UsageError(f"{flag} {word} is none of {', '.join(known)}")
    if wishes.frequency_s <= 0:
        raise UsageError("--hypothesis-frequency must be more than 0 seconds")
    deadline_s = duration(wishes.deadline, "--deadline") if wishes.deadline else Options().deadline_s
    return Options(hypothesis, rollbacks, wishes.frequency_s, wishes.fail_fast, deadline_s)


def _given(wishes: Wishes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Configuration and secrets from `--var` and `--var-file`. UsageError for what is none."""
    from drkit.chaos.toolkit.values import converted

    configuration: dict[str, Any] = {}
    secrets: dict[str, Any] = {}
    for path in wishes.var_file:
        told = _variables(path)
        configuration |= told.get("configuration") or {}
        secrets |= told.get("secrets") or {}
    for word in wishes.var:
        name, is_one, value = word.partition("=")
        name, _, kind = name.partition(":")
        if not is_one or not name:
            raise UsageError(f'--var "{word}" is not NAME=VALUE or NAME:TYPE=VALUE')
        try:
            configuration[name] = converted(kind or None, value)
        except ValueError as error:
            raise UsageError(f'--var "{word}": {error}') from error
    return configuration, secrets


def _variables(path: Path) -> Mapping[str, Any]:
    """Variables: JSON or YAML with `configuration` and `secrets`; else lines `NAME=VALUE`, for the environment."""
    if path.suffix in (".json", ".yaml", ".yml"):
        from drkit.chaos.toolkit.document import read

        data = read(path).data
        if not isinstance(data, dict):
            raise FileError([Mistake(str(path), 1, 1, "a file of variables is a mapping of configuration and secrets")])
        return data
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--var-file {path} cannot be read: {error}") from error
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            name, is_one, value = line.strip().partition("=")
            if not is_one:
                raise FileError([Mistake(str(path), number, 1, "a line of variables is NAME=VALUE")])
            os.environ[name] = value
    return {}


def values_of(settings: Settings, experiment: Experiment, given: tuple[dict[str, Any], dict[str, Any]]) -> Values:
    """Configuration and secrets, resolved. PreflightFailed for what cannot be had."""
    from drkit.chaos.toolkit.resolving import resolve

    return resolve(experiment, given, warn=settings.say.warn)


def _environment(settings: Settings) -> Environment | None:
    """The environment that was named, or is the project's own; an experiment outside of a project needs none."""
    from drkit.cli import environment as environments

    if settings.env is None and not environments.has_default():
        return None
    return environments.load(settings)


def _permit(
    settings: Settings, experiment: Experiment, environment: Environment | None, confirm: str | None,
    allow_production: bool,
) -> None:  # fmt: skip
    """Nothing is broken in an environment unasked; without one, whoever sits at a terminal is asked.

    What no terminal started (a pipeline, as it starts `chaos run`) is taken at its word: it named the file.
    """
    if environment is not None:
        from drkit.cli.rehearsing import permitted

        what = f'"{experiment.title}" will break things in {environment.name.upper()}, on purpose.'
        permitted(settings, environment, what, confirm, allow_production)
    elif confirm is not None or settings.can_ask:
        from drkit.chaos.toolkit.opening import HERE
        from drkit.cli import asking

        what = f'"{experiment.title}" will break things on THIS MACHINE and wherever its file says, on purpose.'
        asking.confirmed(settings, what, HERE, "--confirm", confirm)
    else:
        settings.say.note(
            "No environment is named: this acts on this machine and wherever the file says.  "
            "--env NAME adds its lease, its lever and its gates."
        )


def _hold(environment: Environment | None, experiment: Experiment, folder: RunFolder) -> Hold:
    from drkit.chaos.toolkit.locks import EnvironmentLock, MachineLock
    from drkit.engine.runs import state_home

    if environment is None:
        return MachineLock(state_home() / "locks", experiment.title, folder.id)
    from drkit.providers.objects import open_objects

    return EnvironmentLock(environment, open_objects(environment), folder.id)


def me(environment: Environment | None) -> dict[str, Any]:
    """Who types here, as the environment knows them, if one was named."""
    from drkit.engine.identity import login

    if environment is None:
        return {"name": login(), "uid": os.getuid(), "how": "terminal", "roles": []}
    from drkit.cli.ordering import me

    return me(environment)


def _plan(settings: Settings, experiment: Experiment, options: Options) -> None:
    """What would be done."""
    from drkit.chaos.toolkit.opening import local, plan_of

    plan = plan_of(experiment, local(), "")
    rows = [(step["id"], step["kind"], step["title"], step["params"]["calls"]) for step in plan["steps"]]
    told = {"title": experiment.title, "rollbacks": options.rollbacks, "steps": plan["steps"]}
    settings.say.result(told, lambda: settings.say.table(("step", "kind", "what", "calls"), rows))
    settings.say.note("Dry run: nothing was run.")


def tell(settings: Settings, experiment: Experiment, row: Row) -> None:
    """One line for what people want to know."""
    from drkit.model import events as e

    if settings.output == "jsonl":
        from drkit.cli.say import write
        from drkit.model.values import canonical

        write(canonical(row.to_json()).decode())
        return
    if settings.output != "text" or settings.verbosity < 0:
        return
    fact = row.fact
    titles = {step: f"{step}  {activity.name}" for step, _, activity in experiment.steps()}
    told: tuple[str, str] | None = None
    if isinstance(fact, e.Prepared):
        told = "RUN", titles[fact.step]
    elif isinstance(fact, e.Done):
        told = "OK", f"{titles[fact.step]}  {_shown((fact.after or {}).get('value'))}"
    elif isinstance(fact, e.Failed):
        told = "FAIL", f"{titles[fact.step]}  {fact.error}"
    elif isinstance(fact, e.FaultChanged) and fact.state in ("armed", "healed", "failed"):
        told = "FAULT", fact.state
    elif isinstance(fact, e.Finished):
        told = "END", fact.outcome + (f": {fact.why}" if fact.why else "")
    if told is not None:
        settings.say.line(f"{row.at[11:19]} {told[0]:<5} {told[1]}".rstrip())


def _shown(value: Any) -> str:
    text = "" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."


def _conclude(settings: Settings, folder: RunFolder, experiment: Experiment, ended: Ended) -> None:
    """How it ended, and where it is written down."""
    from drkit.chaos.toolkit.ending import JOURNAL

    status = "deviated" if ended.deviated else ended.status
    told = {
        "schema": "drkit.experiment/1", "run": folder.id, "title": experiment.title, "status": ended.status,
        "deviated": ended.deviated, "steady_state_before": ended.gate, "why": ended.why or None,
        "rolled_back": ended.rolled_back, "failed_rollbacks": ended.failures,
        "journal": str(folder.path / JOURNAL),
    }  # fmt: skip

    def text() -> None:
        settings.say.line(f"{status}: {experiment.title}" + (f"  ({ended.why})" if ended.why else ""))
        settings.say.line(f"Journal: {folder.path / JOURNAL}")

    if settings.output != "jsonl":
        settings.say.result(told, text)
    commands: Sequence[str] = [f"drkit events {folder.id}", f"drkit evidence verify {folder.id}"]
    if ended.failures or (ended.acted and experiment.rollbacks and not ended.rolled_back):
        commands = [f"drkit chaos stop --run {folder.id}"]
    settings.say.next(*commands)
