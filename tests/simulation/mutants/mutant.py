"""What a seeded bug is, and how it is put in and taken out again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from drkit.engine import fold
from drkit.model import events as e

Patch = tuple[Any, str, Any]


@dataclass(frozen=True)
class Mutant:
    """One seeded bug. `patches` gives what to put where: owner, attribute, replacement."""

    name: str
    sentence: str
    patches: Callable[[], Sequence[Patch]]


MUTANTS: dict[str, Mutant] = {}


def mutant(function: Callable[[], Sequence[Patch]]) -> Callable[[], Sequence[Patch]]:
    """Declare a mutant: its name is the function's, its sentence the docstring."""
    name = function.__name__.replace("_", "-")
    MUTANTS[name] = Mutant(name, (function.__doc__ or "").strip(), function)
    return function


@contextmanager
def applied(name: str | None) -> Iterator[None]:
    """The engine with this bug; None: without one."""
    patches = [] if name is None else list(MUTANTS[name].patches())
    was = [(owner, attribute, owner.__dict__[attribute]) for owner, attribute, _ in patches]
    try:
        for owner, attribute, value in patches:
            setattr(owner, attribute, value)
        yield
    finally:
        for owner, attribute, value in was:
            setattr(owner, attribute, value)


class Handler:
    """A place in the fold's table of handlers, as an owner of one attribute, `function`."""

    def __init__(self, kind: type[e.Fact]) -> None:
        object.__setattr__(self, "kind", kind)

    def __setattr__(self, name: str, value: Any) -> None:
        fold._HANDLERS[self.kind] = value  # type: ignore[attr-defined]

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        return {"function": fold._HANDLERS[object.__getattribute__(self, "kind")]}
