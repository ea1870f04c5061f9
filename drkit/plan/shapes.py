"""From pydantic's errors to sentences, and to what is left of a file when the mistaken parts are taken out. Pure."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from drkit.errors import Mistake
from drkit.model.params import schema_of
from drkit.model.values import DURATION_PATTERN, Json
from drkit.plan.hints import meant
from drkit.plan.yaml import Document, Where, get

M = TypeVar("M", bound=BaseModel)

_KINDS = {
    "string_type": "text", "int_type": "a whole number", "int_from_float": "a whole number", "float_type": "a number",
    "bool_type": "true or false", "list_type": "a list", "tuple_type": "a list", "dict_type": "a mapping",
    "model_type": "a mapping", "none_required": "left out", "enum": "one of the listed words",
}  # fmt: skip


@dataclass
class Shaped(Generic[M]):
    """What could be made of a file: the model without its mistaken parts (None if nothing was left), and the mistakes.

    `origin` says which entry of the file an entry of a top-level list was: mistaken entries are gone from the list.
    """

    model: M | None
    mistakes: list[Mistake]
    origin: dict[str, list[int]] = field(default_factory=dict)
    dropped: set[Where] = field(default_factory=set)


def shape(document: Document, model: type[M]) -> Shaped[M]:
    """Validate a whole file; every mistake is described, and the model is made of what is right."""
    if not isinstance(document.data, dict):
        return Shaped(None, [document.mistake((), "the file must be a mapping of keys to values")])
    mistakes = unitless(document, document.data, schema_of(model), ())
    rest = _Rest(document.data)
    while True:
        try:
            return Shaped(model.model_validate_json(json.dumps(rest.data)), mistakes, rest.origin, rest.dropped)
        except ValidationError as error:
            problems = error.errors(include_url=False)
            found = [(rest.in_file(tuple(problem["loc"])), problem) for problem in problems]
            # What is missing only because it was taken out a round ago is not a mistake of its own.
            fresh = [(where, each) for where, each in found if each["type"] != "missing" or where not in rest.dropped]
            mistakes += describe(document, fresh, model)
            if not rest.drop(problems):
                return Shaped(None, mistakes, rest.origin, rest.dropped)


#: Stands in for what every file needs at its top and this one got wrong, so that the rest can still be checked.
_STAND_INS: dict[str, Json] = {
    "apiVersion": "drkit/v1",
    "metadata": {"name": "unnamed", "owner": "unknown"},
    "hypothesis": "unknown",
}


class _Rest:
    """A file's data from which mistaken parts are taken out, and where its parts stood before that."""

    def __init__(self, data: dict[str, Json]) -> None:
        self.data: dict[str, Json] = json.loads(json.dumps(data))
        self.origin = {key: list(range(len(value))) for key, value in self.data.items() if isinstance(value, list)}
        self.dropped: set[Where] = set()

    def in_file(self, loc: Where) -> Where:
        """Where in the file stands what is at `loc` in the rest."""
        if len(loc) > 1 and isinstance(loc[1], int) and loc[0] in self.origin:
            return (loc[0], self.origin[str(loc[0])][loc[1]], *loc[2:])
        return loc

    def drop(self, problems: Iterable[Any]) -> bool:
        """Take out what these errors are about. False if nothing would be left to check."""
        targets = {self._target(problem) for problem in problems}
        if () in targets:
            return False
        # The last first, so that no index moves before its turn; a part of what goes anyway needs no own removal.
        for target in sorted(targets, key=lambda each: [(isinstance(part, str), part) for part in each], reverse=True):
            parent: Any = get(self.data, target[:-1])
            if target[0] in _STAND_INS:
                self.data[str(target[0])] = _STAND_INS[str(target[0])]
                continue
            self.dropped.add(self.in_file(target))
            if isinstance(target[-1], int):
                del self.origin[str(target[0])][target[-1]]
            del parent[target[-1]]
        return True

    def _target(self, problem: Any) -> Where:
        """What has to go: the value that is wrong, or the mapping that lacks a key."""
        loc = tuple(problem["loc"])
        if loc and loc[0] in _STAND_INS:
            return loc[:1]
        target: Where = loc[:-1] if problem["type"] == "missing" else loc
        while target and not _holds(get(self.data, target[:-1]), target[-1]):
            target = target[:-1]  # a union adds the name of its alternative
        # Of an inner list the whole list goes: only the indices of outer lists are kept track of.
        inner = next((n for n, part in enumerate(target) if isinstance(part, int) and n != 1), None)
        return target[:inner]


def unitless(document: Document, data: Json, schema: Mapping[str, Any], at: Where) -> list[Mistake]:
    """Durations written as bare numbers. The models accept those, since plans and journals carry seconds."""
    return [
        document.mistake((*at, *where), f"{_name(where)} {value} has no unit", "write 90s, 5m or 1h")
        for where, part, value in walk(schema, data)
        if part.get("pattern", "").startswith(DURATION_PATTERN)
        and isinstance(value, int | float)
        and not isinstance(value, bool)
    ]


def walk(schema: Mapping[str, Any], value: Json) -> Iterator[tuple[Where, Mapping[str, Any], Json]]:
    """Every value with the part of the JSON schema that speaks of it; once per alternative."""
    yield from _walk(schema, schema, value, ())


def _walk(root: Mapping[str, Any], part: Any, value: Json, where: Where) -> Iterator[tuple[Where, Any, Json]]:
    if not isinstance(part, dict):
        return
    if "$ref" in part:
        yield from _walk(root, root["$defs"][part["$ref"].rsplit("/", 1)[1]], value, where)
    yield where, part, value
    for choice in (*part.get("anyOf", ()), *part.get("oneOf", ()), *part.get("allOf", ())):
        yield from _walk(root, choice, value, where)
    if isinstance(value, dict):
        for key, item in value.items():
            below = part.get("properties", {}).get(key, part.get("additionalProperties"))
            yield from _walk(root, below, item, (*where, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _walk(root, part.get("items"), item, (*where, index))


def describe(
    document: Document, problems: Iterable[tuple[Where, Any]], model: type[BaseModel], at: Where = ()
) -> list[Mistake]:
    """A sentence for each of pydantic's errors. `at` is where in the file the model's data stands."""
    told: dict[tuple[Where, str], list[tuple[str, str | None]]] = {}
    for loc, problem in problems:
        where, kind = _existing(document, (*at, *loc)), problem["type"]
        which = kind if kind == "extra_forbidden" else str(loc[-1]) if kind == "missing" else ""
        told.setdefault((where, which), []).append(_sentence(loc, where, problem, model))
    return [
        # A union complains once per alternative; that is one mistake.
        document.mistake(where, _merged([message for message, _ in said]), said[0][1], key=which == "extra_forbidden")
        for (where, which), said in told.items()
    ]


def _merged(messages: list[str]) -> str:
    unique = list(dict.fromkeys(messages))
    if all(" must be " in message for message in unique):
        head = unique[0].split(" must be ")[0]
        return f"{head} must be {' or '.join(message.split(' must be ', 1)[1] for message in unique)}"
    return unique[0]


def _sentence(loc: Where, where: Where, problem: Any, model: type[BaseModel]) -> tuple[str, str | None]:
    kind, value, context = problem["type"], problem["input"], problem.get("ctx", {})
    name = str(loc[-1]) if loc and loc[-1] in keys_at(model, loc[:-1]) else _name(where)
    if kind == "extra_forbidden":
        return f'unknown key "{loc[-1]}"', meant(str(loc[-1]), keys_at(model, loc[:-1]))
    if kind == "missing":
        return f'"{loc[-1]}" is missing', None
    if kind == "literal_error":
        words = [word.strip("' ") for word in context["expected"].replace(" or ", ",").split(",")]
        return f'{name} "{value}" is not one of {context["expected"]}', meant(str(value), words)
    if kind == "value_error":
        message, _, advice = str(context["error"]).partition("; ")
        return (f"{name} {message}" if message.startswith('"') else message), advice or None
    hint: str | None = None
    if kind == "string_pattern_mismatch":
        hint = "use small letters, digits, - and _" if context["pattern"].startswith("^[a-z0-9]") else None
        return f'{name} "{value}" does not fit {context["pattern"]}', hint
    if kind in _KINDS:
        if kind == "string_type" and isinstance(value, bool | int | float):
            hint = f'write "{json.dumps(value)}"'
        elif kind == "list_type" and isinstance(value, str):
            hint = f"write [{value}]"
        elif isinstance(value, str) and kind in ("int_type", "float_type", "bool_type"):
            hint = "write it without quotes" if _unquotable(value, kind) else None
        return f"{name} must be {_KINDS[kind]}, not {_shown(value)}", hint
    message = problem["msg"].removeprefix("Input should be ")
    if "ge" in context:
        hint = f"write {context['ge']:g} or more"
    if "gt" in context:
        hint = f"write more than {context['gt']:g}"
    return f"{name} {_shown(value)} must be {message}" if message != problem["msg"] else f"{name}: {message}", hint


def _unquotable(text: str, kind: str) -> bool:
    if kind == "bool_type":
        return text in ("true", "false")
    return text.lstrip("-").replace(".", "", int(kind == "float_type")).isdigit()


def _shown(value: object) -> str:
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False, default=str)


def _name(where: Where) -> str:
    """What to call the value at `where`: its key, or that of the list it stands in."""
    words = [part for part in where if isinstance(part, str)]
    if where and isinstance(where[-1], int):
        return f"entry {where[-1] + 1} of {words[-1]}" if words else f"entry {where[-1] + 1}"
    return words[-1] if words else "the file"


def _existing(document: Document, where: Where) -> Where:
    """`where` without the parts pydantic adds for alternatives of a union."""
    for length in range(len(where), 0, -1):
        if where[:length] in document.values:
            return where[:length]
    return ()


def keys_at(model: Any, loc: Where) -> list[str]:
    """The keys that the mapping at `loc` may have, as files spell them."""
    for part in loc:
        model = _below(model, part)
    found = _model(model)
    return [info.alias or name for name, info in found.model_fields.items()] if found else []


def _below(annotation: Any, part: str | int) -> Any:
    found = _model(annotation)
    if found is not None:
        for name, info in found.model_fields.items():
            if part in (name, info.alias):
                return info.annotation
        return None
    for choice in _choices(annotation):
        arguments = typing.get_args(choice)
        if typing.get_origin(choice) in (list, tuple) and arguments:
            return arguments[0]
        if typing.get_origin(choice) is dict:
            return arguments[1]
    return None


def _model(annotation: Any) -> type[BaseModel] | None:
    for choice in _choices(annotation):
        if isinstance(choice, type) and issubclass(choice, BaseModel):
            return choice
    return None


def _choices(annotation: Any) -> list[Any]:
    """The alternatives of a type, without what `Annotated` adds."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _choices(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [found for argument in typing.get_args(annotation) for found in _choices(argument)]
    return [annotation]


def _holds(parent: Json, part: str | int) -> bool:
    if isinstance(parent, dict):
        return part in parent
    return isinstance(parent, list) and isinstance(part, int) and part < len(parent)
