"""`${ … }` in values: find, tell apart, and put values in their place. Pure.

A value that is one reference and nothing else keeps the type of what it names; with text around it, it becomes text.
`$${` is a plain `${`. Names joined by dots are looked up here; anything else is an expression.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from drkit.errors import Unobservable
from drkit.model.values import Json

_PLAIN = re.compile(r"[A-Za-z_][\w-]*(\.[\w-]+)*")
Where = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Reference:
    """What stands between the braces; `offset` is where its text begins in the value."""

    text: str
    offset: int

    @property
    def path(self) -> tuple[str, ...] | None:
        """The names of a plain reference; None for an expression."""
        return tuple(self.text.split(".")) if _PLAIN.fullmatch(self.text) else None


class Unclosed(ValueError):
    """A `${` without its `}`; `offset` is where it stands."""

    def __init__(self, offset: int) -> None:
        super().__init__("this ${ is not closed by a }")
        self.offset = offset


def pieces(value: str) -> list[str | Reference]:
    """Text and references in turn. Unclosed if a brace is missing."""
    found: list[str | Reference] = []
    text, index = "", 0
    while index < len(value):
        if value.startswith("$${", index):
            text, index = text + "${", index + 3
        elif value.startswith("${", index):
            end = _end(value, index + 2)
            if end is None:
                raise Unclosed(index)
            inner = value[index + 2 : end]
            if text:
                found.append(text)
            found.append(Reference(inner.strip(), index + 2 + len(inner) - len(inner.lstrip())))
            text, index = "", end + 1
        else:
            text, index = text + value[index], index + 1
    return [*found, text] if text or not found else found


def _end(value: str, index: int) -> int | None:
    """Where the closing brace stands: braces nest, and those inside quotes do not count."""
    depth, quote = 0, ""
    while index < len(value):
        char = value[index]
        if quote:
            index += char == "\\"
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char == "{":
            depth += 1
        elif char == "}":
            if not depth:
                return index
            depth -= 1
        index += 1
    return None


def whole(value: str) -> Reference | None:
    """The reference, if the value is one and nothing else."""
    found = pieces(value)
    return found[0] if len(found) == 1 and isinstance(found[0], Reference) else None


def strings(value: Json, where: Where = ()) -> Iterator[tuple[Where, str]]:
    """Every text in a value that holds a `${`, with its place."""
    if isinstance(value, str):
        if "${" in value:
            yield where, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from strings(item, (*where, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from strings(item, (*where, index))


def fill(value: Json, resolve: Callable[[Reference], Json]) -> Json:
    """The value with every reference replaced by what `resolve` gives for it."""
    if isinstance(value, str):
        return _filled(value, resolve) if "${" in value else value
    if isinstance(value, dict):
        return {key: fill(item, resolve) for key, item in value.items()}
    if isinstance(value, list):
        return [fill(item, resolve) for item in value]
    return value


def _filled(value: str, resolve: Callable[[Reference], Json]) -> Json:
    found = pieces(value)
    if len(found) == 1 and isinstance(found[0], Reference):
        return resolve(found[0])
    return "".join(piece if isinstance(piece, str) else as_text(resolve(piece), piece) for piece in found)


def as_text(value: Json, reference: Reference) -> str:
    """A value inside a text. Unobservable for what has no text form."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, str | int | float):
        return str(value)
    what = "nothing" if value is None else "a list" if isinstance(value, list) else "a mapping"
    raise Unobservable(f"${{ {reference.text} }} is {what}, which cannot stand inside a text")


def look_up(path: tuple[str, ...], scope: Mapping[str, Any]) -> Json:
    """What a plain reference names. Unobservable if it is not there."""
    current: Any = scope
    for depth, name in enumerate(path):
        if not isinstance(current, Mapping) or name not in current:
            known = ".".join(path[:depth]) or "the scope"
            raise Unobservable(f"${{ {'.'.join(path)} }}: {known} has no {name}")
        current = current[name]
    return current  # type: ignore[no-any-return]
