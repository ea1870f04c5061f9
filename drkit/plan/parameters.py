"""Values of a runbook's or scenario's parameters: defaults, and what the environment and the caller changed. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drkit.errors import UsageError
from drkit.model.plan import Shortened
from drkit.model.runbook import Parameter
from drkit.model.values import Json, parse_duration
from drkit.plan.hints import meant
from drkit.plan.kinds import kind_of_value, why_not_assignable


def chosen(
    declared: Mapping[str, Parameter],
    environment: Mapping[str, Json],
    given: Mapping[str, Json],
    given_by: str | Mapping[str, str],
) -> tuple[dict[str, Json], tuple[Shortened, ...]]:
    """The values, and which were changed by whom. UsageError for a name that is not declared or a value that is not
    of the default's kind; every such mistake is in its message.

    An environment serves several runbooks: names that this one does not declare are not for it.
    """
    values = {name: parameter.default for name, parameter in declared.items()}
    changed: dict[str, Shortened] = {}
    wrong: list[str] = []
    offers = [(name, value, "environment") for name, value in environment.items() if name in declared]
    offers += [(n, v, given_by if isinstance(given_by, str) else given_by.get(n, "--set")) for n, v in given.items()]
    for name, offered, by in offers:
        if name not in declared:
            hint = meant(name, declared)
            wrong.append(f'there is no parameter "{name}"' + (f"; {hint}" if hint else ""))
            continue
        why = why_not(declared[name].default, offered)
        if why:
            wrong.append(f"parameter {name} ({by}): {why}")
            continue
        values[name] = offered
        if offered == declared[name].default:
            changed.pop(name, None)
        else:
            changed[name] = Shortened(name=name, default=declared[name].default, value=offered, by=by)
    if wrong:
        raise UsageError("\n".join(wrong))
    return values, tuple(changed.values())


def why_not(default: Json, offered: Json) -> str | None:
    """Why a value cannot stand in for a default; None if it can."""
    if default is None:
        return None
    why = why_not_assignable(kind_of_value(offered), kind_of_value(default))
    if why is None and isinstance(default, str) and is_duration(default) and not is_duration(offered):
        return f'"{offered}" is not a duration; write 90s, 5m or 1h'
    return why and f"{offered!r} does not fit: {why}"


def is_duration(value: Any) -> bool:
    """Whether a text says how long."""
    try:
        parse_duration(value)
    except ValueError:
        return False
    return isinstance(value, str)


def setting(text: str) -> tuple[str, Json]:
    """`name=value` of `--set`: numbers, true and false as YAML reads them, anything else as text. UsageError."""
    name, sign, value = text.partition("=")
    if not sign or not name.strip():
        raise UsageError(f'--set "{text}" is not name=value', hint="--set hold=10s")
    return name.strip(), _scalar(value.strip())


def _scalar(text: str) -> Json:
    if text in ("true", "false"):
        return text == "true"
    for python in (int, float):
        try:
            number: Json = python(text)
        except ValueError:
            continue
        return number if text.lstrip("+-")[:1].isdigit() else text  # `nan` and `inf` are words here
    return text
