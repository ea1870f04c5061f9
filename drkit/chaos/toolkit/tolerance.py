"""Whether what a probe saw is within its tolerance, by Chaos Toolkit's rules. Pure but for the probe that it may ask.

Where Chaos Toolkit trips over a value that cannot be compared, the value is out of tolerance here, and `why` says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from numbers import Number
from typing import Any

Fill = Callable[[Any], Any]
NEEDS_JSONPATH = "jsonpath tolerances need jsonpath2"


@dataclass(frozen=True, slots=True)
class Met:
    """The answer, and for a person why it is no."""

    met: bool
    why: str = ""

    def __bool__(self) -> bool:
        return self.met


def within(
    tolerance: Any, value: Any, *, fill: Fill = lambda data: data, ask: Callable[[Any], bool] | None = None
) -> Met:
    """Whether `value` is within. `fill` puts values for `${}`; `ask` answers for a tolerance that is a probe."""
    try:
        met = _within(tolerance, value, fill, ask)
    except (TypeError, ValueError, AttributeError, LookupError, InvalidOperation) as error:
        return Met(False, f"{_short(value)} cannot be compared with {_short(tolerance)}: {error}")
    return Met(met, "" if met else f"{_short(value)} is not within {_short(tolerance)}")


def _within(tolerance: Any, value: Any, fill: Fill, ask: Callable[[Any], bool] | None) -> bool:
    if isinstance(tolerance, bool | str):
        return bool(value == tolerance)
    if isinstance(tolerance, int):
        return bool((value["status"] if _has_status(value) else value) == tolerance)
    if isinstance(tolerance, list):
        if _has_status(value):
            return value["status"] in tolerance
        if len(tolerance) == 2:
            return bool(tolerance[0] <= value <= tolerance[1])
        return value in tolerance
    if not isinstance(tolerance, dict):
        return False
    kind = tolerance.get("type")
    if kind == "probe":
        return ask is not None and ask(value)
    target = tolerance.get("target")
    if target:
        value = value.get(target, value)
    if kind == "regex":
        return re.search(fill(tolerance["pattern"]), value) is not None
    if kind == "jsonpath":
        return _jsonpath(tolerance, value, fill)
    if kind == "range":
        return _range(tolerance["range"], value)
    return False


def _has_status(value: Any) -> bool:
    return isinstance(value, dict) and "status" in value


def _jsonpath(tolerance: dict[str, Any], value: Any, fill: Fill) -> bool:
    from jsonpath2.path import Path

    if isinstance(value, bytes):
        value = value.decode()
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            value = str(value)  # text that is not JSON is looked into as it is
    found = [match.current_value for match in Path.parse_str(fill(tolerance["path"])).match(value)]
    met = bool(found)
    if tolerance.get("count") is not None:
        met = len(found) == tolerance["count"]
    if "expect" in tolerance:
        expected = fill(tolerance["expect"])
        met = found == (expected if isinstance(expected, list) else [expected])
    return met


def _range(bounds: list[Any], value: Any) -> bool:
    return Decimal(bounds[0]) <= Decimal(value) <= Decimal(bounds[1])


def why_not_valid(tolerance: Any) -> str | None:
    """Why this cannot be a tolerance; None: it can. A tolerance that is a probe is checked as an activity."""
    if isinstance(tolerance, bool | int | list | str):
        return None
    if not isinstance(tolerance, dict):
        return "tolerance must be true or false, a whole number, text, a list or a mapping with a type"
    kind = tolerance.get("type")
    if kind == "probe":
        return None
    rule = {"regex": _why_not_regex, "jsonpath": _why_not_jsonpath, "range": _why_not_range}.get(str(kind))
    if rule is None:
        return f"tolerance type {json.dumps(kind)} is not one of probe, regex, jsonpath, range"
    return rule(tolerance)


def _why_not_regex(tolerance: dict[str, Any]) -> str | None:
    if "pattern" not in tolerance:
        return 'a regex tolerance needs a "pattern"'
    try:
        re.compile(tolerance["pattern"])
    except (re.error, TypeError, RecursionError) as error:
        return f"pattern {tolerance['pattern']} is no regular expression: {error}"
    return None


def _why_not_jsonpath(tolerance: dict[str, Any]) -> str | None:
    try:
        from jsonpath2.path import Path
    except ImportError:
        return f"{NEEDS_JSONPATH}: pip install 'drkit[chaostoolkit]'"
    path = tolerance.get("path")
    if not isinstance(path, str) or not path.strip():
        return 'a jsonpath tolerance needs a "path"'
    try:
        Path.parse_str(path.strip())
    except (ValueError, TypeError) as error:
        return f"path {path} is no JSON path: {error}"
    return None


def _why_not_range(tolerance: dict[str, Any]) -> str | None:
    bounds = tolerance.get("range")
    if not isinstance(bounds, list) or len(bounds) != 2 or not all(isinstance(bound, Number) for bound in bounds):
        return 'a range tolerance needs a "range" of two numbers'
    return None


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."
