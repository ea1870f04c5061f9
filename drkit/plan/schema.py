"""JSON Schema of runbooks and scenarios for editors, with every installed action's parameters. Pure.

Draft 2020-12, without tuples (`prefixItems`), which widespread language servers do not read. A `${ … }` reference is
permitted at every leaf of `with:`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel

from drkit.catalog import Action, Catalog, Entry, Probe
from drkit.errors import UsageError
from drkit.model.inventory import FILLED
from drkit.model.runbook import REFERENCE_PATTERN, RUNBOOK, Runbook
from drkit.model.scenario import Scenario
from drkit.plan.hints import meant

DRAFT = "https://json-schema.org/draft/2020-12/schema"
KINDS: dict[str, type[BaseModel]] = {"runbook": Runbook, "scenario": Scenario}
_REFERENCE = {"type": "string", "pattern": REFERENCE_PATTERN}
Wanted = Callable[[Entry], bool]


def schema(kind: str, catalog: Catalog | None = None) -> dict[str, Any]:
    """The schema of `runbook` or `scenario` files. UsageError for another kind."""
    if kind not in KINDS:
        raise UsageError(f'there is no kind of file "{kind}"', hint=meant(kind, KINDS))
    entries = (catalog or Catalog()).load_all()
    found = KINDS[kind].model_json_schema(by_alias=True)
    definitions = found["$defs"]
    fills: list[tuple[str, str, str, Wanted]] = [("ProbeSpec", "uses", "with", _is_probe)]
    if kind == "runbook":
        fills.append(("StepSpec", "uses", "with", _is_step))
    else:
        fills += [
            ("Given", "uses", "with", _is_change),
            ("Target", "uses", "where", _is_probe),
            ("MethodStep", "inject", "with", _is_fault),
        ]
    used: set[str] = set()
    for definition, name, params, wanted in fills:
        chosen = {each: entry for each, entry in entries.items() if wanted(entry)}
        used |= set(chosen)
        _fill(definitions[definition], name, params, chosen)
    for name in sorted(used):
        definitions |= _parameters(name, entries[name])
    return {"$schema": DRAFT, "title": f"drkit {kind}", **found}


def _is_probe(entry: Entry) -> bool:
    return isinstance(entry, Probe)


def _is_fault(entry: Entry) -> bool:
    return isinstance(entry, Action) and entry.fault


def _is_change(entry: Entry) -> bool:
    return isinstance(entry, Action) and not entry.fault


def _is_step(entry: Entry) -> bool:
    return not _is_fault(entry)


def _fill(definition: dict[str, Any], name: str, params: str, entries: Mapping[str, Entry]) -> None:
    """Let `name` be one of the entries, and `params` what that entry takes."""
    if not entries:
        return
    told = definition["properties"][name]
    words = {"enum": list(entries), "markdownEnumDescriptions": [entry.doc for entry in entries.values()]}
    definition["properties"][name] = {k: v for k, v in told.items() if k in ("title", "description")} | words
    if definition["title"] == "StepSpec":
        kept = definition["properties"][name]
        told = {k: kept.pop(k) for k in ("title", "description") if k in kept}
        runbook = {"type": "string", "pattern": f"^{RUNBOOK}.+"}
        definition["properties"][name] = told | {"anyOf": [kept, runbook]}
    definition["allOf"] = [
        {
            "if": {"properties": {name: {"const": each}}, "required": [name]},
            "then": {
                "properties": {params: {"$ref": f"#/$defs/{_named(each)}"}},
                "required": [params] if any(i.is_required() for i in entry.params.model_fields.values()) else [],
            },
        }
        for each, entry in entries.items()
    ]


def _named(entry: str) -> str:
    return f"with.{entry}"


def _parameters(name: str, entry: Entry) -> dict[str, Any]:
    """Definitions for one entry's parameters, under names that no other entry has."""
    own = copy.deepcopy(entry.params.model_json_schema())
    inner = own.pop("$defs", {})
    if _is_fault(entry):  # what `on:` fills in need not be written; the file's own check knows when it must be
        own["required"] = [each for each in own.get("required", []) if each != FILLED]
    prefix = _named(name)
    definitions = {f"{prefix}.{each}": _open(part, prefix) for each, part in inner.items()}
    top = _open(own, prefix)
    top["description"] = entry.doc
    return {prefix: top} | definitions


def _open(part: dict[str, Any], prefix: str) -> dict[str, Any]:
    """An object whose properties may each be a reference instead."""
    if "properties" in part:
        return {**part, "properties": {key: _or_reference(each, prefix) for key, each in part["properties"].items()}}
    closed: dict[str, Any] = _moved(part, prefix)
    return closed


def _or_reference(part: dict[str, Any], prefix: str) -> dict[str, Any]:
    kept = {key: part[key] for key in ("title", "description", "default") if key in part}
    return kept | {"anyOf": [_moved({k: v for k, v in part.items() if k not in kept}, prefix), dict(_REFERENCE)]}


def _moved(part: Any, prefix: str) -> Any:
    """The same, with its references to definitions renamed and the leaves of its lists and mappings opened."""
    if isinstance(part, list):
        return [_moved(each, prefix) for each in part]
    if not isinstance(part, dict):
        return part
    result: dict[str, Any] = {}
    for key, value in part.items():
        if key == "$ref":
            result[key] = f"#/$defs/{prefix}.{value.rsplit('/', 1)[1]}"
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            result[key] = _or_reference(value, prefix)
        elif key == "prefixItems":
            result["items"] = {"anyOf": [_or_reference(each, prefix) for each in value]}
        elif key == "properties":
            result[key] = {name: _or_reference(each, prefix) for name, each in value.items()}
        else:
            result[key] = _moved(value, prefix) if key in ("anyOf", "oneOf", "allOf") else value
    return result
