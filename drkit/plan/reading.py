"""Read runbooks and scenarios as far as they can be read; mistakes of form are kept beside what is right."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from drkit.errors import FileError, Mistake
from drkit.model.runbook import RUNBOOK, Runbook, Spec
from drkit.model.scenario import Scenario
from drkit.plan.hints import meant
from drkit.plan.shapes import shape
from drkit.plan.yaml import Document, Where, read

S = TypeVar("S", bound=Spec)


@dataclass
class Library:
    """The runbooks that steps of a file carry out, directly or not, by name."""

    found: dict[str, Loaded | tuple[Mistake, ...]] = field(default_factory=dict)
    """What could be read of each; or, where nothing could, why."""
    known: tuple[str, ...] = ()
    """Every name there is."""


@dataclass(frozen=True)
class Read(Generic[S]):
    """A file as far as it could be read: `spec` lacks the parts that have mistakes.

    `mistakes` are those of form. Whoever also checks the meaning adds to them, so that all are reported at once.
    """

    path: str
    digest: str
    spec: S
    document: Document
    mistakes: tuple[Mistake, ...] = ()
    origin: dict[str, list[int]] = field(default_factory=dict)
    dropped: frozenset[Where] = frozenset()
    library: Library = field(default_factory=lambda: Library())

    def where(self, *parts: str | int) -> Where:
        """The place in the file of a part of `spec` (the two differ where mistaken entries were left out)."""
        if len(parts) > 1 and isinstance(parts[1], int) and parts[0] in self.origin:
            return (parts[0], self.origin[str(parts[0])][parts[1]], *parts[2:])
        return parts

    @property
    def positions(self) -> dict[Where, tuple[int, int]]:
        """Line and column, from 1, of every value."""
        return {where: (place.line, place.column) for where, place in self.document.values.items()}


class Loaded(Read[Runbook]):
    """A runbook file."""

    @property
    def runbook(self) -> Runbook:
        """What it says."""
        return self.spec


class LoadedScenario(Read[Scenario]):
    """A scenario file."""

    @property
    def scenario(self) -> Scenario:
        """What it says."""
        return self.spec


def read_runbook(path: Path | str) -> Loaded:
    """The runbook in this file; mistakes of form are kept while anything is left to check further, else FileError."""
    return _with_nested(_read(Path(path), Loaded, Runbook))


def read_scenario(path: Path | str) -> LoadedScenario:
    """The scenario in this file; mistakes of form are kept while anything is left to check further, else FileError."""
    return _read(Path(path), LoadedScenario, Scenario)


def read_any(path: Path | str) -> Loaded | LoadedScenario:
    """The runbook or scenario in this file: its `kind` says which."""
    document = read(Path(path))
    kind = document.data.get("kind") if isinstance(document.data, dict) else None
    if kind == "Scenario":
        return _shaped(document, LoadedScenario, Scenario)
    return _with_nested(_shaped(document, Loaded, Runbook))


def _with_nested(loaded: Loaded) -> Loaded:
    """The runbook with all those read that its steps carry out; they stand in the same folder."""
    if not _carried_out(loaded):
        return loaded
    folder = Path(loaded.path).parent
    paths = {path.stem: path for pattern in ("*.yml", "*.yaml") for path in sorted(folder.glob(pattern))}
    library = loaded.library
    library.known = tuple(sorted(paths))
    library.found[Path(loaded.path).stem] = loaded
    front = _carried_out(loaded)
    while front:
        name = front.pop()
        if name in library.found or name not in paths:
            continue
        try:
            nested = _read(paths[name], Loaded, Runbook)
        except FileError as error:
            library.found[name] = tuple(error.mistakes)
            continue
        library.found[name] = replace(nested, library=library)
        front += _carried_out(nested)
    return loaded


def _carried_out(loaded: Loaded) -> list[str]:
    return [step.uses.removeprefix(RUNBOOK) for step in loaded.spec.steps if step.uses.startswith(RUNBOOK)]


R = TypeVar("R", bound=Read[Any])


def _read(path: Path, result: type[R], model: type[Spec]) -> R:
    return _shaped(read(path), result, model)


def _shaped(document: Document, result: type[R], model: type[Spec]) -> R:
    _other_kind(document, model)
    shaped = shape(document, model)
    mistakes = in_order([*document.mistakes, *shaped.mistakes])
    if shaped.model is None:
        raise FileError(mistakes)
    dropped = frozenset(shaped.dropped)
    return result(
        document.path, document.digest, shaped.model, document, mistakes, shaped.origin, dropped
    )  # fmt: skip


def _other_kind(document: Document, model: type[Spec]) -> None:
    """A scenario given for a runbook has one mistake, not thirty."""
    kind = document.data.get("kind") if isinstance(document.data, dict) else None
    if kind in ("Runbook", "Scenario") and kind != model.__name__:
        verb = "drkit chaos run" if kind == "Scenario" else "drkit run"
        message = f"this is a {kind}, and a {model.__name__} is needed here"
        raise FileError([document.mistake(("kind",), message, f"{verb} {document.path}")])
    if isinstance(document.data, dict) and kind is not None and not isinstance(kind, str):
        raise FileError([document.mistake(("kind",), f"kind {json.dumps(kind)} is not Runbook or Scenario")])
    if isinstance(kind, str) and kind not in ("Runbook", "Scenario"):
        hint = meant(kind, ["Runbook", "Scenario"])
        raise FileError([document.mistake(("kind",), f'kind "{kind}" is not known', hint)])


def in_order(mistakes: list[Mistake]) -> tuple[Mistake, ...]:
    """As they stand in the file, each once."""
    return tuple(sorted(dict.fromkeys(mistakes), key=lambda each: (each.file, each.line, each.column)))
