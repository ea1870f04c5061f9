"""What `drkit explain ACTION` prints, and the example that stands at its end. Pure."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from annotated_types import Le
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from drkit.catalog import Action, Entry, Gate, Probe
from drkit.model.params import SITE_FORMAT, schema_of
from drkit.model.runbook import RUNBOOK
from drkit.model.values import DURATION_PATTERN, Json, parse_duration, show_duration
from drkit.plan.kinds import Kind, kind_of_field
from drkit.plan.reading import Loaded

_SOME_TIME = "30s"
_REPEAT = {
    "safe": "may be sent again: however often it runs, the final state is the same",
    "token": "may be sent again: the API recognises the run's token and does it once",
    "ask": "is never sent again by itself: after a lost answer a person looks first",
}
_SIDE = {
    "source": "the region left", "target": "the region entered", "neither": "neither region",
    "site": "the site its parameter names",
}  # fmt: skip
_PLANE = {"control": "a control plane", "data": "only what already runs (data plane)", "none": "nothing"}


def what(entry: Entry) -> str:
    """`action`, `fault`, `probe` or `gate`."""
    if isinstance(entry, Action):
        return "fault" if entry.fault else "action"
    return "probe" if isinstance(entry, Probe) else "gate"


def purpose(entry: Entry) -> str:
    """What it is for, and how it goes about it: the docstrings of its parameters and of its function."""
    own = textwrap.dedent(entry.params.__dict__.get("__doc__") or "").strip()
    how = textwrap.dedent(entry.doc).strip()
    return "\n\n".join(dict.fromkeys(text for text in (own, how) if text))


def explain(entry: Entry) -> str:
    """The whole page, plain text."""
    parts = [f"{entry.name}   {what(entry)}", "", purpose(entry), ""]
    facts = _facts(entry)
    width = max((len(name) for name, _ in facts), default=0)
    parts += [f"  {name:<{width}}  {text}" for name, text in facts] + ([""] if facts else [])
    parts += ["Parameters", *_fields(entry.params, required=True), ""]
    observed = entry if isinstance(entry, Probe) else entry.observe if isinstance(entry, Action) else None
    if observed is not None:
        parts += ["Answer (what `now` and `${ steps.ID. }` have)", *_fields(observed.answer, required=False), ""]
    return "\n".join([*parts, "Example", *(f"  {line}" for line in example(entry).splitlines())])


def explain_runbook(loaded: Loaded) -> str:
    """The page of a runbook that a step may carry out: its parameters and steps, and how it is used."""
    book, name = loaded.runbook, loaded.runbook.metadata.name
    own = [(key, f"default {json.dumps(each.default)}", each.description) for key, each in book.parameters.items()]
    steps = [(step.id, step.uses, step.title) for step in book.steps]
    given = {key: each.default for key, each in book.parameters.items()}
    use = f"uses: {RUNBOOK}{Path(loaded.path).stem}" + (f", with: {_flow(given)}" if given else "")
    about = book.metadata.description or "All its steps are carried out by the step that uses it."
    return "\n".join(
        [
            f"{name}   runbook of {book.metadata.owner}", "", about, "",
            "Parameters", *(_columns(own) or ["  none"]), "", "Steps", *_columns(steps), "",
            "Example", f"  - {{id: my-step, {use}}}",
            f"  - {{id: my-list, for_each: [one, two], at_once: 1, {use}}}    # `each` is the entry",
        ]
    )  # fmt: skip


def _columns(rows: list[tuple[str, str, str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(2)] if rows else []
    return [
        "  " + "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[2]]).rstrip()
        for row in rows
    ]


def _facts(entry: Entry) -> list[tuple[str, str]]:
    if isinstance(entry, Gate):
        return []
    facts = [("touches", _SIDE[entry.side]), ("needs", _PLANE[entry.plane])]
    if isinstance(entry, Probe):
        return [("looks at", _SIDE[entry.side]), facts[1]]
    facts += [
        ("observed by", entry.observe.name),
        ("repeat", f"{entry.repeat}: {_REPEAT[entry.repeat]}"),
        ("undo", "yes" if entry.undoer is not None else f"no: {entry.irreversible}"),
        ("timeout", f"{entry.timeout_s:g} s unless the step says otherwise"),
    ]
    if entry.settle_s:
        facts.append(("settles", f"a check that fails after a lost answer is believed after {entry.settle_s:g} s"))
    if entry.fault:
        facts.append(("lease", entry.lease or "none: never injected unattended, and only with two persons' consent"))
    if entry.consent is not None:
        facts.append(("consent", f"of two persons unless {entry.consent} is false; then never unattended"))
    if entry.fences:
        facts.append(("fence", "done only when observed; never optional, conditional or skipped"))
    if entry.promotes:
        facts.append(("promotes", "a fence must be certain to be done before it"))
    if entry.unfenced:
        facts.append(("unfenced", "its target cannot refuse a command from a run that has lost its lease"))
    return facts


def _fields(model: type[BaseModel], *, required: bool) -> list[str]:
    rows = []
    for name, info in model.model_fields.items():
        kind = kind_of_field(name, info)
        told = _shown(kind, schema_of(model)["properties"][name])
        if required:
            need = "required" if info.is_required() else f"default {_default(info, kind)}"
        else:
            need = "may be missing" if kind.optional else ""
        rows.append((name, told, need, info.description or ""))
    if not rows:
        return ["  none"]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = []
    for row in rows:
        cells = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False) if width)
        lines.append(f"  {cells}  {' '.join(row[3].split())}".rstrip())
    return lines


def _default(info: Any, kind: Kind) -> str:
    value = info.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    if kind.name == "duration" and value is not None:
        return show_duration(value)
    return "none" if value is None else json.dumps(value, default=str)


def _shown(kind: Kind, part: Mapping[str, Any]) -> str:
    if SITE_FORMAT in json.dumps(part):
        return "site"
    names = {"string": "text", "bool": "true or false", "int": "whole number", "float": "number", "map": "mapping",
             "object": "mapping", "timestamp": "instant"}  # fmt: skip
    if kind.name == "object" and kind.known() and not part:
        return f"{{{', '.join(kind.known())}}}"
    text = " or ".join(kind.words) if kind.words else names.get(kind.name, kind.name)
    if kind.name == "list" and kind.item is not None:
        text = f"list of {_shown(kind.item, {})}"
    return text


def example(entry: Entry) -> str:
    """One step that uses it, with every required parameter; it loads as it stands."""
    with_ = example_parameters(entry)
    step = f"id: my-step, uses: {entry.name}"
    if with_:
        step += f", with: {_flow(with_)}"
    return f"- {{{step}}}"


def example_parameters(entry: Entry) -> dict[str, Json]:
    """A value for every required parameter."""
    schema = schema_of(entry.params)
    given: dict[str, Json] = {}
    for name, info in entry.params.model_fields.items():
        if info.is_required():
            examples = info.examples or []
            sample = _sample(name, schema["properties"][name], schema)
            given[name] = examples[0] if examples else _within(sample, info)
    return given


def _within(sample: Json, info: FieldInfo) -> Json:
    """A duration below the bound that its schema does not show."""
    bounds = [each.le for each in info.metadata if isinstance(each, Le)]
    if sample == _SOME_TIME and bounds and isinstance(bounds[0], int | float):
        return f"{min(bounds[0], parse_duration(_SOME_TIME)):g}s"
    return sample


def _sample(name: str, part: Mapping[str, Any], root: Mapping[str, Any]) -> Json:
    """A value that the schema permits."""
    if "$ref" in part:
        part = root["$defs"][part["$ref"].rsplit("/", 1)[1]]
    if part.get("format") == SITE_FORMAT:
        return "target"
    if part.get("pattern", "").startswith(DURATION_PATTERN):
        return _SOME_TIME
    for key in ("default", "const"):
        if part.get(key) is not None:
            return part[key]  # type: ignore[no-any-return]
    for key in ("enum", "examples"):
        if part.get(key):
            return part[key][0]  # type: ignore[no-any-return]
    for choice in part.get("anyOf", ()):
        return _sample(name, choice, root)
    kind = part.get("type")
    if kind in ("integer", "number"):
        least = part.get("minimum", part.get("exclusiveMinimum", 0) + ("exclusiveMinimum" in part))
        return int(max(1, least)) if part.get("maximum", 1) >= 1 else least
    if kind == "boolean":
        return True
    if kind == "array":
        return [_sample(name, part.get("items", {}), root)]
    if kind == "object" and "properties" in part:
        return {key: _sample(key, part["properties"][key], root) for key in part.get("required", ())}
    if kind == "object":
        return {}
    return name if "pattern" not in part else _fitting(part["pattern"])


def _fitting(pattern: str) -> str:
    """A text for the few patterns that parameters use; authors give `examples` for others."""
    known = ("secret://file/name", "sha256:" + "0" * 64, "https://example.com", "/path", "name", "1")
    return next((text for text in known if re.search(pattern, text)), "name")


def _flow(value: Json) -> str:
    """YAML in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    plain = isinstance(value, str) and value.replace("-", "").replace("_", "").isalnum() and value[:1].isalpha()
    return str(value) if plain and value not in ("true", "false", "null") else json.dumps(value)
