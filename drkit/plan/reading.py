"""Read runbooks and scenarios as far as they can be read; mistakes of form are kept beside what is right."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from drkit.errors import FileError, Mistake
from drkit.model.runbook import Runbook, Spec
from drkit.model.scenario import Scenario
from drkit.plan.hints import meant
from drkit.plan.shapes import shape
from drkit.plan.yaml import Document, Where, read

S = TypeVar("S", bound=Spec)


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
    return _read(Path(path), Loaded, Runbook)


def read_scenario(path: Path | str) -> LoadedScenario:
    """The scenario in this file; mistakes of form are kept while anything is left to check further, else FileError."""
    return _read(Path(path), LoadedScenario, Scenario)


def read_any(path: Path | str) -> Loaded | LoadedScenario:
    """The runbook or scenario in this file: its `kind` says which."""
    document = read(Path(path))
    kind = document.data.get("kind") if isinstance(document.data, dict) else None
    return _shaped(document, LoadedScenario, Scenario) if kind == "Scenario" else _shaped(document, Loaded, Runbook)


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
