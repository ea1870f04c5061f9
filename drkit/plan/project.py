"""`drkit.toml`: which environments there are, where runbooks stand, who people are. Reads files only.

```toml
environment = "staging"                  # used when no --env is given; without it drkit asks, it never guesses
runbooks = "runbooks"
scenarios = "scenarios"
state_store = "s3://dr-state/drkit"      # for environments that name none
people = [{name = "dana", uid = 1000, roles = ["incident-commander"]}]

[environments.staging]
file = "environments/staging.yaml"       # keys written beside `file` win over those in the file

[environments.production]
kind = "production"
account = "payments (..4807)"

[calendars.office]                       # for the `schedule:` of scenarios; see `drkit help schedule`
timezone = "America/Los_Angeles"
windows = ["mon-thu 10:00-16:00"]
```
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import Field, ValidationError

from drkit.errors import FileError, Mistake, UsageError
from drkit.model.environment import Environment, Frozen, Person
from drkit.model.params import schema_of
from drkit.model.schedule import Calendar
from drkit.model.values import Json
from drkit.plan import yaml
from drkit.plan.hints import meant
from drkit.plan.reading import in_order
from drkit.plan.shapes import describe, unitless
from drkit.plan.yaml import Document, Place, Where

NAME = "drkit.toml"
M = TypeVar("M", bound=Frozen)


class ProjectFile(Frozen):
    """What `drkit.toml` says."""

    environment: str | None = None
    """Environment used when none is named."""
    runbooks: str = "runbooks"
    """Folder of runbooks, relative to this file."""
    scenarios: str = "scenarios"
    """Folder of scenarios, relative to this file."""
    state_store: str | None = None
    """State store of environments that name none."""
    people: tuple[Person, ...] = ()
    """People of environments that name none."""
    environments: dict[str, dict[str, Json]] = Field(default_factory=dict)
    calendars: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """When something may be broken, by name."""


@dataclass(frozen=True)
class Project:
    """A folder with a `drkit.toml`."""

    folder: Path
    file: ProjectFile
    document: Document

    @property
    def default(self) -> str | None:
        """The environment used when none is named."""
        return self.file.environment

    @property
    def environments(self) -> Mapping[str, Mapping[str, Json]]:
        """What is written about each environment, by name; not checked yet."""
        return self.file.environments

    def environment(self, name: str) -> Environment:
        """The environment called `name`. UsageError if there is none, FileError if it is written wrongly."""
        if name not in self.environments:
            raise UsageError(
                f'there is no environment "{name}" in {self.document.path}', hint=meant(name, self.environments)
            )
        own = dict(self.environments[name])
        file = own.pop("file", None)
        if file is None:
            return _environment(self._with_defaults(own, name), self.document, ("environments", name))
        if not isinstance(file, str):
            raise FileError([self.document.mistake(("environments", name, "file"), "file must be a path")])
        path = self.folder / file
        if not path.is_file():
            message = f"there is no file {yaml.shown(path)}"
            raise FileError([self.document.mistake(("environments", name, "file"), message)])
        document = _document(path)
        data = document.data if isinstance(document.data, dict) else {}
        merged = self._with_defaults(data | own, name)
        # What stands in the file is placed there, what stands beside `file` is not worth a second walk.
        return _environment(merged, document, ())

    def _with_defaults(self, data: Mapping[str, Json], name: str) -> dict[str, Json]:
        defaults: dict[str, Json] = {"name": name}
        if self.file.state_store is not None:
            defaults["state_store"] = self.file.state_store
        if self.file.people:
            defaults["people"] = [person.model_dump(mode="json") for person in self.file.people]
        return defaults | dict(data)

    def calendar(self, name: str) -> Calendar:
        """The calendar called `name`. UsageError if there is none, FileError if it is written wrongly."""
        calendars = self.file.calendars
        if name not in calendars:
            hint = meant(name, calendars, f"add [calendars.{name}]")
            raise UsageError(f'there is no calendar "{name}" in {self.document.path}', hint=hint)
        return _model(Calendar, calendars[name], self.document, ("calendars", name))

    def runbook(self, name: str) -> Path:
        """The file of the runbook called `name` (or that file itself). UsageError names what there is."""
        return find(self.folder / self.file.runbooks, name, "runbook")

    def scenario(self, name: str) -> Path:
        """The file of the scenario called `name` (or that file itself). UsageError names what there is."""
        return find(self.folder / self.file.scenarios, name, "scenario")


def load_project(folder: Path) -> Project | None:
    """The project whose `drkit.toml` stands in `folder` or above it; None if there is none. FileError if it is wrong.

    What is wrong inside one environment or calendar is reported when that one is asked for: the others stay usable.
    """
    for place in (folder.absolute(), *folder.absolute().parents):
        path = place / NAME
        if path.is_file():
            document = _toml(path)
            model = _model(ProjectFile, cast(dict[str, Json], document.data), document, ())
            if model.environment is not None and model.environment not in model.environments:
                hint = meant(model.environment, model.environments)
                message = f'there is no environment "{model.environment}" below'
                raise FileError([document.mistake(("environment",), message, hint)])
            return Project(place, model, document)
    return None


def load_environment_file(path: Path) -> Environment:
    """The environment in a JSON or YAML file. UsageError if there is no such file, FileError if it is wrong."""
    document = _document(path)
    if not isinstance(document.data, dict):
        raise FileError([document.mistake((), "the file must be a mapping of keys to values")])
    return _environment(document.data, document, ())


def find(folder: Path, name: str, kind: str) -> Path:
    """The YAML file called `name` in `folder`; a path to an existing file is taken as it is."""
    if name.endswith((".yaml", ".yml")):
        given = Path(name)
        if given.is_file():
            return given
        raise UsageError(f"there is no file {name}")
    known = {path.stem: path for pattern in ("*.yml", "*.yaml") for path in sorted(folder.glob(pattern))}
    if name not in known:
        hint = meant(name, known) or f"ls {yaml.shown(folder)}"
        raise UsageError(f'there is no {kind} "{name}" in {yaml.shown(folder)}', hint=hint)
    return known[name]


def _environment(data: Mapping[str, Json], document: Document, at: Where) -> Environment:
    return _model(Environment, dict(data), document, at)


def _model(model: type[M], data: dict[str, Json], document: Document, at: Where) -> M:
    mistakes = list(document.mistakes)
    if not document.path.endswith(".json"):  # what machines write carries seconds
        mistakes += unitless(document, data, schema_of(model), at)
    try:
        found = model.model_validate(data)
    except ValidationError as error:
        problems = [(tuple(each["loc"]), each) for each in error.errors(include_url=False)]
        mistakes += describe(document, problems, model, at)
    if mistakes:
        raise FileError(in_order(mistakes))
    return found


def _document(path: Path) -> Document:
    if path.suffix != ".json":
        return yaml.read(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{yaml.shown(path)} cannot be read: {error.strerror}") from error
    document = Document(yaml.shown(path), "", tuple(raw.decode(errors="replace").split("\n")))
    try:
        document.data = json.loads(raw)
    except ValueError as error:
        line, column = getattr(error, "lineno", 1), getattr(error, "colno", 1)
        raise FileError([Mistake(document.path, line, column, f"this is not JSON: {error}")]) from error
    return document


def _toml(path: Path) -> Document:
    """A TOML file; tables and keys at the beginning of a line have a place, what is inside a value has the value's."""
    raw = path.read_bytes()
    text = raw.decode(errors="replace")
    document = Document(yaml.shown(path), "", tuple(text.split("\n")))
    try:
        document.data = tomllib.loads(raw.decode())
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        line, column = (int(found[1]), int(found[2])) if found else (1, 1)
        message = str(error).split(" (at ")[0]
        raise FileError([Mistake(document.path, line, column, f"this is not TOML: {message}")]) from error
    except UnicodeDecodeError as error:
        raise FileError([Mistake(document.path, 1, 1, "the file is not UTF-8 text")]) from error
    table: Where = ()
    counts: dict[Where, int] = {}
    for number, row in enumerate(document.lines, 1):
        header = re.match(r"\s*(\[\[?)\s*([\w.\"'-]+)\s*\]", row)
        key = re.match(r"\s*([\w.\"'-]+)\s*=", row)
        if header:
            table = _path(header[2])
            if header[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            document.values.setdefault(table, Place(number, header.start(2) + 1))
        elif key:
            where = (*table, *_path(key[1]))
            document.keys[where] = Place(number, key.start(1) + 1)
            document.values[where] = Place(number, len(row) - len(row[key.end() :].lstrip()) + 1)
    return document


def _path(text: str) -> Where:
    return tuple(part.strip("\"'") for part in text.split("."))


__all__ = ["NAME", "Project", "find", "load_environment_file", "load_project"]
