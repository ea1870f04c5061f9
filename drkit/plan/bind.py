"""Bind the parameters of one use of an action to its model: references, sites, strict validation. Pure.

What can be known is put in place; references to what steps will have observed stay, and their kinds are checked
against the parameter they are meant for. Every mistake is reported at its own place.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import PydanticUndefined

from drkit.catalog import Entry
from drkit.errors import Mistake, Unobservable
from drkit.model.environment import Environment
from drkit.model.params import SITE_FORMAT, schema_of
from drkit.model.values import Json
from drkit.plan import expressions
from drkit.plan.hints import meant
from drkit.plan.kinds import ANY, STRING, Kind, kind_of_field, kind_of_model, why_not_assignable
from drkit.plan.references import Reference, Unclosed, as_text, fill, look_up, pieces, strings
from drkit.plan.shapes import describe, unitless, walk
from drkit.plan.surroundings import Surroundings
from drkit.plan.yaml import Document, Where, get

LATER = "steps"


@dataclass
class Bound:
    """Parameters as a plan holds them, the sites they name, and what is wrong with them."""

    params: dict[str, Json]
    mistakes: list[Mistake] = field(default_factory=list)
    sites: dict[str, str] = field(default_factory=dict)
    """Site by top-level parameter."""

    @property
    def site(self) -> str | None:
        """The site that `site` or `region` names, else the first one named."""
        for name in ("site", "region"):
            if name in self.sites:
                return self.sites[name]
        return next(iter(self.sites.values()), None)


#: Kind of what a step will have seen, or why it cannot be read here.
StepKind = Callable[[str], Kind | str]


def nothing_yet(step: str) -> str:
    """Where no step has run before."""
    return "nothing has run yet here"


def bind(
    entry: Entry,
    given: Mapping[str, Json],
    around: Surroundings,
    document: Document,
    at: Where,
    steps: StepKind = nothing_yet,
) -> Bound:
    """The parameters `given` at the place `at` of a file, for one use of `entry`."""
    return _Binding(entry.params, around, document, at, steps).bind(dict(given))


def later(text: str, around: Surroundings) -> bool:
    """Whether a reference is answered only while the run goes on."""
    roots = expressions.roots(text)
    if LATER in roots:
        return True
    if around.entry is not None and around.entry.known is None and roots & {"each", "index"}:
        return True
    read = expressions.names(text, "params")
    return "params" in roots and bool(around.later) and (not read or not read.isdisjoint(around.later))


def filled(
    given: Mapping[str, Json], around: Surroundings, document: Document, at: Where, steps: StepKind
) -> tuple[dict[str, Json], dict[str, Kind], list[Mistake]]:
    """Values with what is known put in place; the kinds of those that steps will answer; mistakes."""
    binding = _Binding(BaseModel, around, document, at, steps)
    for where, text in strings(dict(given)):
        binding._references(where, text)
    data = cast(dict[str, Json], binding._filled(dict(given), ()))
    kinds = {str(where[0]): kind if len(where) == 1 else ANY for where, kind in binding.kinds.items()}
    return data, kinds, binding.bound.mistakes


class _Binding:
    def __init__(
        self, model: type[BaseModel], around: Surroundings, document: Document, at: Where, steps: StepKind
    ) -> None:
        self.model, self.around, self.document, self.at, self.steps = model, around, document, at, steps
        self.bound = Bound({})
        self.kinds: dict[Where, Kind] = {}  # of values that steps will answer
        self.open: set[Where] = set()  # places whose value is not known yet, or is wrong already

    def bind(self, given: dict[str, Json]) -> Bound:
        for where, text in strings(given):
            self._references(where, text)
        data = cast(dict[str, Json], self._filled(given, ()))
        data = cast(dict[str, Json], self._sites(data))
        self.bound.mistakes += unitless(self.document, data, schema_of(self.model), self.at)
        self._validate(data, given)
        return self.bound

    def _wrong(self, where: Where, message: str, hint: str | None = None, *, offset: int | None = None) -> None:
        self.open.add(where)
        self.bound.mistakes.append(self.document.mistake((*self.at, *where), message, hint, offset=offset))

    def _references(self, where: Where, text: str) -> None:
        try:
            found = pieces(text)
        except Unclosed as error:
            self._wrong(where, str(error), offset=error.offset)
            return
        alone = len(found) == 1
        for reference in found:
            if isinstance(reference, Reference):
                wanted = _wanted(self.model, where) if alone else STRING
                self._reference(where, reference, wanted, alone=alone)

    def _reference(self, where: Where, reference: Reference, wanted: Kind, *, alone: bool) -> None:
        kinds = self.around.kinds()
        if self.around.environment is None:
            kinds["environment"] = kind_of_model(Environment, "an environment")
        else:
            kinds["environment"] = ANY  # its values are known now; one that is missing is reported when looked up
        checked = expressions.check_reference(reference.text, kinds, self.steps)
        for problem in checked.problems:
            self._wrong(where, problem.message, problem.hint, offset=reference.offset + problem.offset)
        if checked.problems:
            return
        if "environment" in checked.roots and self.around.environment is None:
            self.open.add(where)
        if not later(reference.text, self.around):
            return
        self.open.add(where)
        self.kinds[where] = checked.kind if alone else STRING
        why = why_not_assignable(checked.kind, wanted if alone else ANY)
        if not alone and checked.kind.name in ("list", "map", "object"):
            why = f"it is {checked.kind} and cannot stand inside a text"
        if not alone and checked.kind.optional:
            why = "it may be missing"
        if why:
            hint = f"${{ has({reference.text}) ? {reference.text} : … }}" if why == "it may be missing" else None
            name = next((part for part in reversed(where) if isinstance(part, str)), "this")
            self._wrong(where, f"{reference.text} does not fit {name}: {why}", hint, offset=reference.offset)

    def _filled(self, value: Json, where: Where) -> Json:
        if isinstance(value, dict):
            return {key: self._filled(item, (*where, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self._filled(item, (*where, index)) for index, item in enumerate(value)]
        if not isinstance(value, str) or "${" not in value:
            return value
        if where in self.open:
            return self._half(value)
        try:
            return fill(value, self._now)
        except Unobservable as error:
            self._wrong(where, error.message)
            return value

    def _now(self, reference: Reference) -> Json:
        if reference.path is not None:
            return look_up(reference.path, self.around.values)
        return expressions.value(reference.text, self.around.values)

    def _half(self, value: str) -> Json:
        """The text with only those references left that steps will answer."""
        try:
            found = pieces(value)
        except Unclosed:
            return value
        text = ""
        for piece in found:
            if isinstance(piece, str):
                text += piece.replace("${", "$${")
            elif later(piece.text, self.around):
                text += f"${{ {piece.text} }}"
            else:
                try:
                    text += as_text(self._now(piece), piece).replace("${", "$${")
                except Unobservable:
                    text += f"${{ {piece.text} }}"  # reported already
        return text

    def _sites(self, data: Json) -> Json:
        """Roles replaced by names, wherever the model asks for a site."""
        environment = self.around.environment
        known = [site.name for site in environment.sites] if environment else []
        replaced: dict[Where, str] = {}
        for where, part, value in walk(schema_of(self.model), data):
            if part.get("format") == SITE_FORMAT and isinstance(value, str) and where not in self.open:
                name = self.around.role(value)
                if environment is not None and name not in known:
                    hint = meant(value, [*known, "source", "target"])
                    self._wrong(where, f'there is no site "{value}" in {environment.name}', hint)
                    continue
                replaced[where] = name
                self.bound.sites.setdefault(str(where[0]), name)
        return _replaced(data, replaced, ())

    def _explained(self, mistake: Mistake, given: dict[str, Json]) -> Mistake:
        """A value that came out of a reference is not what stands in the file."""
        for where, text in strings(given):
            place = self.document.place((*self.at, *where))
            if (place.line, place.column) == (mistake.line, mistake.column):
                return replace(mistake, message=f"{mistake.message} ({text})", hint=None)
        return mistake

    def _validate(self, data: dict[str, Json], given: dict[str, Json]) -> None:
        try:
            whole = self.model.model_validate_json(json.dumps(data))
        except ValidationError as error:
            problems = [(tuple(each["loc"]), each) for each in error.errors(include_url=False)]
            real = [(loc, each) for loc, each in problems if not self._is_open(loc)]
            for mistake in describe(self.document, real, self.model, self.at):
                self.bound.mistakes.append(self._explained(mistake, given))
            if not real:
                self.bound.params = cast(dict[str, Json], self._escaped(self._by_field(data), ()))
        else:
            self.bound.params = cast(dict[str, Json], self._escaped(whole.model_dump(mode="json"), ()))
        for name in self.bound.params if self.bound.params else ():
            self._default_site(name)

    def _is_open(self, loc: Where) -> bool:
        """Whether the error is about a value that is not known yet. Rules over several fields wait for all of them."""
        if not loc:
            return bool(self.open)
        return any(loc[: len(where)] == where for where in self.open)

    def _by_field(self, data: dict[str, Json]) -> dict[str, Json]:
        """Every field in its journaled form with defaults, those with open references as they are."""
        result: dict[str, Json] = {}
        unknown = {where[0] for where in self.open}
        for name, info in self.model.model_fields.items():
            if name in unknown:
                result[name] = data[name]
                continue
            value = info.get_default(call_default_factory=True, validated_data={})
            adapter: TypeAdapter[Any] = TypeAdapter(_annotated(info), config=ConfigDict(strict=True))
            if name in data:
                value = adapter.validate_json(json.dumps(data[name]))
            if value is not PydanticUndefined:
                result[name] = adapter.dump_python(value, mode="json")
        return result

    def _escaped(self, value: Any, where: Where) -> Json:
        """A plan's texts are templates until they are rendered: what is a plain `${` stays one."""
        if isinstance(value, dict):
            return {key: self._escaped(item, (*where, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self._escaped(item, (*where, index)) for index, item in enumerate(value)]
        if isinstance(value, str) and where not in self.open:
            return value.replace("${", "$${")
        return cast(Json, value)

    def _default_site(self, name: str) -> None:
        """A default may name a role too."""
        value = self.bound.params[name]
        part = schema_of(self.model).get("properties", {}).get(name, {})
        if name not in self.bound.sites and part.get("format") == SITE_FORMAT and value in ("source", "target"):
            self.bound.sites[name] = self.bound.params[name] = self.around.role(str(value))


def _annotated(info: Any) -> Any:
    from typing import Annotated

    return Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation


def _wanted(model: type[BaseModel], where: Where) -> Kind:
    """The kind of the parameter at this place; `any` where the model leaves it open."""
    info = model.model_fields.get(str(where[0]))
    if info is None:
        return ANY  # an unknown key, reported by validation
    kind = kind_of_field(str(where[0]), info)
    for part in where[1:]:
        below = kind.item if kind.name in ("list", "map") else kind.field(str(part)) if kind.name == "object" else None
        if below is None:
            return ANY
        kind = below
    return kind


def _replaced(value: Json, by: Mapping[Where, str], where: Where) -> Json:
    if where in by:
        return by[where]
    if isinstance(value, dict):
        return {key: _replaced(item, by, (*where, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, by, (*where, index)) for index, item in enumerate(value)]
    return value


__all__ = ["Bound", "StepKind", "bind", "get", "nothing_yet"]
