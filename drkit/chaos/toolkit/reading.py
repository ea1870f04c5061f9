"""Read an experiment file: every mistake with its place, all at once; what would be ignored silently is a warning.

Nothing named in the file is run or imported. A key close to a known one is a mistake, any other unknown key a warning.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drkit.chaos.toolkit import document
from drkit.chaos.toolkit.activities import Activities, named
from drkit.chaos.toolkit.model import Experiment, Hypothesis
from drkit.chaos.toolkit.noticing import Noticing
from drkit.chaos.toolkit.values import TYPES, resolve_configuration, resolve_secrets
from drkit.errors import FileError, Mistake
from drkit.plan.yaml import Document

KEYS = (
    "title", "description", "version", "tags", "contributions", "extensions", "configuration", "secrets", "controls",
    "steady-state-hypothesis", "method", "rollbacks", "runtime", "dry",
)  # fmt: skip
ROLLBACK_STRATEGIES = ("always", "default", "deviated", "never")
HYPOTHESIS_STRATEGIES = (
    "default", "before-method-only", "after-method-only", "during-method-only", "continuously", "skip",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Read:
    """An experiment without mistakes, and what its author should know."""

    experiment: Experiment
    warnings: tuple[Mistake, ...]


def load(path: Path, given: tuple[Mapping[str, Any], Mapping[str, Any]] = ({}, {})) -> Read:
    """The experiment in this file. `given`: configuration and secrets that stand in for those of the file.

    UsageError if there is no such file, FileError with every mistake in it.
    """
    return _read(document.read(path), given)


def from_data(
    data: dict[str, Any], path: str, digest: str, given: tuple[Mapping[str, Any], Mapping[str, Any]] = ({}, {})
) -> Read:
    """The experiment that was read from this file before. Raises as `load`."""
    return _read(document.Source(Document(path, digest, (), data)), given)


def _read(source: document.Source, given: tuple[Mapping[str, Any], Mapping[str, Any]]) -> Read:
    reader = _Reader(Noticing(source.document, list(source.document.mistakes), source.warnings), given)
    experiment = reader.experiment(source.data)
    notes = reader.notes
    if notes.mistakes or experiment is None:
        raise FileError(_in_order(notes.mistakes or source.document.mistakes))
    return Read(experiment, _in_order(notes.warnings))


class _Reader:
    def __init__(self, notes: Noticing, given: tuple[Mapping[str, Any], Mapping[str, Any]]) -> None:
        self.notes, self.given = notes, given

    def experiment(self, data: Any) -> Experiment | None:
        notes = self.notes
        if not isinstance(data, dict) or not data:
            notes.wrong((), "an experiment is a mapping with title, description and method")
            return None
        notes.keys(data, KEYS, ())
        title, description = notes.text(data, "title", ()), notes.text(data, "description", ())
        self._tags(data)
        configuration, secrets = self._values(data)
        activities = Activities(notes, named(data))
        hypothesis = self._hypothesis(data, activities)
        method = activities.many(data, "method", required=True)
        rollbacks = activities.many(data, "rollbacks")
        controls = activities.controls(data, ())
        activities.check_control_refs()
        rollback, strategy = self._runtime(data)
        if method and not rollbacks and any(each.kind == "action" for each in method):
            notes.warn(("method",), "no rollbacks: what these actions do is undone by nobody", key=True)
        document = notes.document
        return Experiment(
            document.path, document.digest, title, description, hypothesis, method, rollbacks, configuration, secrets,
            controls, rollback, strategy, data,
        )  # fmt: skip

    def _tags(self, data: dict[str, Any]) -> None:
        tags = data.get("tags") or []
        for index, tag in enumerate(tags if isinstance(tags, list) else [tags]):
            if not isinstance(tag, str) or not tag:
                self.notes.wrong(("tags", index), "a tag must be text")
        extensions = data.get("extensions") or []
        if not isinstance(extensions, list):
            self.notes.wrong(("extensions",), "extensions must be a list")
            return
        for index, extension in enumerate(extensions):
            name = extension.get("name") if isinstance(extension, dict) else None
            if not isinstance(name, str) or not name.strip():
                self.notes.wrong(("extensions", index), "an extension needs a name")

    def _values(self, data: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Declarations, checked; that they can be resolved is tried, and the values are forgotten again."""
        notes = self.notes
        configuration = notes.mapping(data, "configuration", ())
        secrets = notes.mapping(data, "secrets", ())
        probes = Activities(notes)
        for key, said in configuration.items():
            where = ("configuration", key)
            if not isinstance(said, dict) or "type" not in said:
                continue
            if said["type"] == "env":
                notes.keys(said, ("type", "key", "default", "env_var_type"), where)
                self._env(said, where)
            elif said["type"] == "probe":
                probes.one(said, where)
            else:
                notes.warn(where, f"type {said['type']} is none of env and probe: the mapping itself is the value")
        self._secrets(secrets, ("secrets",))
        for problem in (
            *resolve_configuration(configuration, self.given[0])[1],
            *resolve_secrets(secrets, self.given[1])[1],
        ):
            if isinstance(said := _at(data, problem.where), dict) and said.get("key"):
                notes.wrong(problem.where, problem.why, problem.hint)
        return configuration, secrets

    def _secrets(self, secrets: dict[str, Any], where: tuple[str, ...]) -> None:
        for target, said in secrets.items():
            at = (*where, target)
            if not isinstance(said, dict):
                if len(where) == 1:
                    self.notes.wrong(at, f'a secret stands under a target: "{target}" must be a mapping')
                elif isinstance(said, str) and said:
                    self.notes.warn(at, "a secret in a file is known to whoever reads the file", "use type: env")
            elif said.get("type") == "env":
                self.notes.keys(said, ("type", "key"), at)
                self._env(said, at)
            elif said.get("type") == "vault":
                self.notes.keys(said, ("type", "path", "key"), at)
                self.notes.warn(
                    at, "is read from the vault by chaoslib when it runs: pip install 'chaostoolkit-lib[vault]'"
                )
            else:
                self._secrets(said, at)

    def _env(self, said: dict[str, Any], where: tuple[str | int, ...]) -> None:
        if not isinstance(said.get("key"), str) or not said["key"]:
            self.notes.wrong(where, 'type env needs "key", the name of a variable')
        if said.get("env_var_type") not in (None, *TYPES):
            self.notes.wrong((*where, "env_var_type"), f"env_var_type is none of {', '.join(TYPES)}")

    def _hypothesis(self, data: dict[str, Any], activities: Activities) -> Hypothesis | None:
        key, notes = "steady-state-hypothesis", self.notes
        said = data.get(key)
        if said is None:
            return None
        if not isinstance(said, dict):
            notes.wrong((key,), "a steady-state hypothesis is a mapping with title and probes")
            return None
        notes.keys(said, ("title", "probes", "controls"), (key,))
        title = notes.text(said, "title", (key,))
        probes = activities.many(said, "probes", (key,), tolerances=True)
        for probe in probes:
            if probe.kind == "action":
                notes.warn(probe.where, "an action in a steady-state hypothesis changes what it looks at")
        return Hypothesis(title, probes, activities.controls(said, (key,)), said)

    def _runtime(self, data: dict[str, Any]) -> tuple[str | None, str | None]:
        runtime = self.notes.mapping(data, "runtime", ())
        self.notes.keys(runtime, ("rollbacks", "hypothesis"), ("runtime",))
        found: list[str | None] = []
        for part, known in (("rollbacks", ROLLBACK_STRATEGIES), ("hypothesis", HYPOTHESIS_STRATEGIES)):
            said = self.notes.mapping(runtime, part, ("runtime",))
            self.notes.keys(said, ("strategy",), ("runtime", part))
            strategy = said.get("strategy")
            if strategy is not None and strategy not in known:
                self.notes.wrong(("runtime", part, "strategy"), f"strategy is none of {', '.join(known)}")
            found.append(strategy)
        return found[0], found[1]


def _at(data: Any, where: Iterable[str | int]) -> Any:
    for part in where:
        data = data.get(part) if isinstance(data, dict) else None
    return data


def _in_order(mistakes: Iterable[Mistake]) -> tuple[Mistake, ...]:
    return tuple(sorted(dict.fromkeys(mistakes), key=lambda each: (each.line, each.column)))
