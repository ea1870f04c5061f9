"""What a value is, as far as expressions and references care; made from pydantic models and from values. Pure.

`seconds` is a number whose field is named `…_s`: it compares with numbers and with `duration('5m')`.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from drkit.model.values import parse_duration

Name = Literal[
    "bool", "int", "float", "string", "duration", "seconds", "timestamp", "list", "map", "object", "null", "any"
]  # fmt: skip
NUMBERS = frozenset({"int", "float", "seconds"})
TIMES = frozenset({"duration", "seconds"})
_WORDS: dict[str, str] = {
    "bool": "true or false", "int": "a whole number", "float": "a number", "string": "text", "duration": "a duration",
    "seconds": "a number of seconds", "timestamp": "an instant", "list": "a list", "map": "a mapping",
    "object": "a mapping", "null": "null", "any": "anything",
}  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A kind of value. `item` is that of a list's entries or a map's values, `words` the only texts it may be.

    `optional`: it may be missing; then what is made of it is unknown.
    """

    name: Name
    item: Kind | None = None
    fields: Mapping[str, Kind] | None = None
    model: type[BaseModel] | None = None
    words: tuple[str, ...] = ()
    optional: bool = False
    what: str = ""
    """What an object is called in messages: `the answer of k8s.replicas`."""

    def __str__(self) -> str:
        return _WORDS[self.name]

    def known(self) -> list[str]:
        """Names of an object's fields."""
        return list(self.model.model_fields) if self.model else list(self.fields or ())

    def field(self, name: str) -> Kind | None:
        """The kind of an object's field; None if it has none of that name."""
        if self.model is not None:
            info = self.model.model_fields.get(name)
            return kind_of_field(name, info) if info is not None else None
        return (self.fields or {}).get(name)

    def maybe(self) -> Kind:
        """The same, possibly missing."""
        return replace(self, optional=True)

    def surely(self) -> Kind:
        """The same, certainly there."""
        return replace(self, optional=False)


ANY = Kind("any")
BOOL = Kind("bool")
INT = Kind("int")
FLOAT = Kind("float")
STRING = Kind("string")
DURATION = Kind("duration")
TIMESTAMP = Kind("timestamp")
NULL = Kind("null")


def kind_of_model(model: type[BaseModel], what: str = "") -> Kind:
    """An object with the model's fields."""
    return Kind("object", model=model, what=what)


def kind_of_fields(fields: Mapping[str, Kind], what: str = "") -> Kind:
    """An object with these fields."""
    return Kind("object", fields=dict(fields), what=what)


def kind_of_field(name: str, info: FieldInfo) -> Kind:
    """The kind of a model's field."""
    annotation = Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation
    kind = kind_of(annotation)
    return replace(kind, name="seconds") if kind.name in ("int", "float") and name.endswith("_s") else kind


def kind_of(annotation: Any) -> Kind:
    """The kind of an annotation; `any` where it cannot be told."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        parsed = any(isinstance(each, BeforeValidator) and each.func is parse_duration for each in arguments[1:])
        return DURATION if parsed else kind_of(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return _union([kind_of(argument) for argument in arguments])
    if origin is Literal:
        return _literal(arguments)
    if origin in (list, tuple, set, frozenset) or origin is typing.get_origin(typing.Sequence[int]):
        single = len(arguments) == 1 or (len(arguments) == 2 and arguments[1] is ...)
        return Kind("list", item=kind_of(arguments[0]) if single else ANY)
    if origin in (dict, typing.get_origin(typing.Mapping[str, int])):
        return Kind("map", item=kind_of(arguments[1]))
    return _plain(annotation)


def _plain(annotation: Any) -> Kind:
    if annotation is None or annotation is type(None):
        return NULL
    if not isinstance(annotation, type):
        return ANY
    if issubclass(annotation, BaseModel):
        return kind_of_model(annotation)
    if issubclass(annotation, Enum):
        return _literal(tuple(member.value for member in annotation))
    for python, kind in ((bool, BOOL), (int, INT), (float, FLOAT), (str, STRING), (timedelta, DURATION),
                         (datetime, TIMESTAMP), (list, Kind("list", item=ANY)), (tuple, Kind("list", item=ANY)),
                         (dict, Kind("map", item=ANY))):  # fmt: skip
        if issubclass(annotation, python):
            return kind
    return ANY


def _literal(values: tuple[Any, ...]) -> Kind:
    if all(isinstance(value, str) for value in values):
        return Kind("string", words=tuple(values))
    return _union([kind_of_value(value) for value in values])


def _union(kinds: list[Kind]) -> Kind:
    real = [kind for kind in kinds if kind.name != "null"]
    optional = len(real) < len(kinds) or any(kind.optional for kind in real)
    if not real:
        return NULL
    names = {kind.name for kind in real}
    if len(names) == 1:
        words = () if any(not kind.words for kind in real) else tuple(word for kind in real for word in kind.words)
        same = real[0] if len(real) == 1 else replace(real[0], words=words)
        return replace(same, optional=optional)
    return Kind("float" if names <= NUMBERS else "any", optional=optional)


def kind_of_value(value: Any) -> Kind:
    """The kind of a JSON value."""
    if value is None:
        return NULL
    if isinstance(value, dict):
        return kind_of_fields({key: kind_of_value(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        kinds = [kind_of_value(item) for item in value]
        return Kind("list", item=_union(kinds) if kinds else ANY)
    return _plain(type(value))


def why_not_assignable(given: Kind, wanted: Kind) -> str | None:
    """Why a value of kind `given` cannot stand where `wanted` is asked for; None if it can.

    What depends on the value itself (a pattern, a bound, one of several words) is checked again when it is known.
    """
    if given.optional and not wanted.optional and wanted.name not in ("any", "null"):
        return "it may be missing"
    if "any" in (given.name, wanted.name) or (given.name == "null" and wanted.optional):
        return None
    if wanted.words and given.words and not set(given.words) & set(wanted.words):
        return f"it is one of {', '.join(given.words)}, never one of {', '.join(wanted.words)}"
    if given.name == wanted.name:
        if given.item and wanted.item:
            why = why_not_assignable(given.item, wanted.item)
            return f"of its entries, {why}" if why else None
        return None
    if given.name == "int" and wanted.name in ("float", "seconds", "duration"):
        return None
    if {given.name, wanted.name} in ({"float", "seconds"}, {"seconds", "duration"}, {"float", "duration"}):
        return None
    if {given.name, wanted.name} == {"object", "map"}:
        return None
    return f"it is {given}, and {wanted} is needed"
