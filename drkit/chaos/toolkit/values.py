"""What `${}` stands for: configuration and secrets, resolved once, and text in which they are filled in.

Substitution follows Chaos Toolkit's rules: text that is nothing but `${name}` becomes the value with its type, else the
value's text; a name that is not known stays as it is written. Configuration wins over secrets.
"""

from __future__ import annotations

import os
from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass, field
from string import Template
from typing import Any

from drkit.plan.yaml import Where

TYPES = ("str", "string", "int", "integer", "float", "number", "bytes", "bool", "json")


@dataclass(slots=True)
class Values:
    """Configuration, and secrets by target. Controls may change both while the experiment runs."""

    configuration: dict[str, Any] = field(default_factory=dict)
    secrets: dict[str, Any] = field(default_factory=dict)

    def fill(self, data: Any) -> Any:
        """`data` with every `${name}` filled in, inside of lists and mappings too. What is given is not changed."""
        if not data or not (self.configuration or self.secrets):
            return data
        return filled(data, self.known)

    @property
    def known(self) -> Mapping[str, Any]:
        """Every name there is."""
        inner = [target for target in self.secrets.values() if isinstance(target, dict)]
        return ChainMap(self.configuration, *inner)


def filled(data: Any, known: Mapping[str, Any]) -> Any:
    """See `Values.fill`."""
    if isinstance(data, str):
        return _text(data, known) if "$" in data else data
    if isinstance(data, dict):
        return {key: filled(value, known) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [filled(value, known) for value in data]
    return data


def _text(text: str, known: Mapping[str, Any]) -> Any:
    whole = Template.pattern.fullmatch(text)
    name = whole and (whole["named"] or whole["braced"])
    if name and name in known:
        return known[name]
    return Template(text).safe_substitute(known)


def converted(kind: str | None, text: Any) -> Any:
    """A variable's text as the type that the file asks for. ValueError if it is not one."""
    if kind is None or kind in ("str", "string"):
        return text
    if kind in ("int", "integer"):
        return int(text)
    if kind in ("float", "number"):
        return float(text)
    if kind == "bytes":
        return str(text).encode()
    if kind == "bool":
        return text if isinstance(text, bool) else str(text).lower() not in ("false", "0", "no")
    if kind == "json":
        import json

        return json.loads(text) if isinstance(text, str) and text else text
    raise ValueError(f"is none of {', '.join(TYPES)}")


@dataclass(frozen=True, slots=True)
class Unresolved:
    """A value that cannot be had: where it is declared, and why."""

    where: Where
    why: str
    hint: str | None = None


def resolve_configuration(
    declared: Mapping[str, Any], given: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], list[Unresolved]]:
    """Values of the environment's variables and of `--var`. Declarations of probes stay: whoever runs asks them."""
    found: dict[str, Any] = {}
    wrong: list[Unresolved] = []
    for key, said in {**declared, **(given or {})}.items():
        found[key] = said
        if not (isinstance(said, dict) and said.get("type") == "env"):
            continue
        name = str(said.get("key"))
        if name not in os.environ and "default" not in said:
            wrong.append(Unresolved(("configuration", key), f"the variable {name} is not set", f"export {name}=..."))
            continue
        try:
            found[key] = converted(said.get("env_var_type"), os.environ.get(name, said.get("default")))
        except (ValueError, TypeError) as error:
            wrong.append(Unresolved(("configuration", key), f"the variable {name}: {error}"))
    return found, wrong


def resolve_secrets(
    declared: Mapping[str, Any], given: Mapping[str, Any] | None = None, where: Where = ("secrets",)
) -> tuple[dict[str, Any], list[Unresolved]]:
    """Secrets of the environment's variables and of variable files. Those in a vault stay declarations."""
    found: dict[str, Any] = {}
    wrong: list[Unresolved] = []
    given = given or {}
    for key, said in declared.items():
        if not isinstance(said, dict) or said.get("type") == "vault":
            found[key] = said
        elif given.get(key) is not None and said.get("type") == "env":
            found[key] = given[key]
        elif said.get("type") == "env":
            name = str(said.get("key"))
            if name not in os.environ:
                wrong.append(Unresolved((*where, key), f"the variable {name} is not set", f"export {name}=..."))
            else:
                found[key] = os.environ[name]
        else:
            inner = given.get(key)
            found[key], more = resolve_secrets(said, inner if isinstance(inner, dict) else None, (*where, key))
            wrong += more
    for key, value in given.items():
        found.setdefault(key, value)
    return found, wrong
