"""Evaluate an expression's tree over plain JSON, with a third outcome: unknown, and why. Pure.

What is missing (null, a key that is not there), cannot be compared, or goes wrong is unknown; `true || unknown` is
true, `false && unknown` is false, and everything else made of an unknown is unknown. `has(x)` asks whether x is there;
comparing with the literal `null` asks too.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from drkit.plan import cel
from drkit.plan.functions import FUNCTIONS, Seconds, as_instant, as_seconds, kind


@dataclass(frozen=True, slots=True)
class Unknown:
    """No answer, and why."""

    reason: str


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def evaluate(tree: cel.Tree, scope: Mapping[str, Any]) -> Any:
    """The value, or Unknown."""
    match tree:
        case cel.Literal(value=value):
            return value
        case cel.Name(name=name):
            return scope[name] if name in scope else Unknown(f"{name} is not known here")
        case cel.Field(of=of, name=name):
            return _field(evaluate(of, scope), name, tree)
        case cel.Index(of=of, key=key):
            return _index(evaluate(of, scope), evaluate(key, scope), tree)
        case cel.Logic(op=op, terms=terms):
            return _logic(op, terms, scope)
        case cel.Choice(when=when, yes=yes, no=no):
            chosen = _truth(evaluate(when, scope), when)
            return chosen if isinstance(chosen, Unknown) else evaluate(yes if chosen else no, scope)
        case cel.Unary(op="!", of=of):
            truth = _truth(evaluate(of, scope), of)
            return truth if isinstance(truth, Unknown) else not truth
        case cel.Unary(of=of):
            value = _there(evaluate(of, scope), of)
            return type(value)(-value) if _number(value) else _or_cannot(value, f"negate {kind(value)}")
        case cel.Binary(op=op, left=left, right=right):
            return _binary(op, left, right, scope)
        case cel.ListOf(items=items):
            values = [evaluate(item, scope) for item in items]
            return next((value for value in values if isinstance(value, Unknown)), values)
        case cel.Macro():
            return _macro(tree, scope)
        case cel.Call():
            return _call(tree, scope)


def _field(of: Any, name: str, tree: cel.Field) -> Any:
    if isinstance(of, Unknown):
        return of
    if of is None:
        return Unknown(f"{cel.source(tree.of)} is missing")
    if not isinstance(of, Mapping):
        return Unknown(f"{cel.source(tree.of)} is {kind(of)} and has no {name}")
    return of[name] if name in of else Unknown(f"{cel.source(tree)} is missing")


def _index(of: Any, key: Any, tree: cel.Index) -> Any:
    of, key = _there(of, tree.of), _there(key, tree.key)
    for value in (of, key):
        if isinstance(value, Unknown):
            return value
    if isinstance(of, Mapping) and isinstance(key, str):
        return of[key] if key in of else Unknown(f"{cel.source(tree)} is missing")
    if isinstance(of, list) and type(key) is int:
        return of[key] if 0 <= key < len(of) else Unknown(f"{cel.source(tree.of)} has no entry {key}")
    return Unknown(f"{cel.source(tree.of)} is {kind(of)} and cannot be indexed by {kind(key)}")


def _there(value: Any, tree: cel.Tree) -> Any:
    """The value; Unknown if it is null."""
    return Unknown(f"{cel.source(tree)} is missing") if value is None else value


def _or_cannot(value: Any, what: str) -> Unknown:
    return value if isinstance(value, Unknown) else Unknown(f"cannot {what}")


def _truth(value: Any, tree: cel.Tree) -> bool | Unknown:
    value = _there(value, tree)
    return value if isinstance(value, bool | Unknown) else Unknown(f"{cel.source(tree)} is {kind(value)}, not a truth")


def _logic(op: str, terms: tuple[cel.Tree, ...], scope: Mapping[str, Any]) -> bool | Unknown:
    decisive = op == "||"
    unknown: Unknown | None = None
    for term in terms:
        truth = _truth(evaluate(term, scope), term)
        if isinstance(truth, Unknown):
            unknown = unknown or truth
        elif truth is decisive:
            return decisive
    return unknown or (not decisive)


def _binary(op: str, left: cel.Tree, right: cel.Tree, scope: Mapping[str, Any]) -> Any:
    a, b = evaluate(left, scope), evaluate(right, scope)
    if op in ("==", "!=") and any(isinstance(side, cel.Literal) and side.value is None for side in (left, right)):
        other = b if isinstance(left, cel.Literal) and left.value is None else a
        return other if isinstance(other, Unknown) else (other is None) == (op == "==")
    a, b = _there(a, left), _there(b, right)
    for value in (a, b):
        if isinstance(value, Unknown):
            return value
    if op == "in":
        return _contains(b, a)
    if op in ("==", "!="):
        equal = _equal(a, b)
        return equal if isinstance(equal, Unknown) else equal == (op == "==")
    a, b = _alike(a, b)
    if op in _COMPARE:
        if (_number(a) and _number(b)) or (type(a) is type(b) and isinstance(a, str | datetime)):
            return _COMPARE[op](a, b)
        return Unknown(f"cannot compare {kind(a)} with {kind(b)}")
    return _arithmetic(op, a, b)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _alike(a: Any, b: Any) -> tuple[Any, Any]:
    """JSON has no durations and instants: text beside one is read as one."""
    for python, reader in ((Seconds, as_seconds), (datetime, as_instant)):
        if isinstance(a, python) and isinstance(b, str):
            return a, reader(b)
        if isinstance(b, python) and isinstance(a, str):
            return reader(a), b
    return a, b


def _equal(a: Any, b: Any) -> bool | Unknown:
    """Equality; unknown between kinds that never equal, and where a part is missing."""
    a, b = _alike(a, b)
    if a is None or b is None:
        return Unknown("a part of it is missing")
    if _number(a) and _number(b):
        return bool(a == b)
    if isinstance(a, list) and isinstance(b, list):
        if len(a) != len(b):
            return False
        return _all([_equal(x, y) for x, y in zip(a, b, strict=True)])
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        if set(a) != set(b):
            return False
        return _all([_equal(a[key], b[key]) for key in a])
    if type(a) is type(b):
        return bool(a == b)
    return Unknown(f"cannot compare {kind(a)} with {kind(b)}")


def _all(answers: list[bool | Unknown]) -> bool | Unknown:
    if any(answer is False for answer in answers):
        return False
    return next((answer for answer in answers if isinstance(answer, Unknown)), True)


def _any(answers: list[bool | Unknown]) -> bool | Unknown:
    if any(answer is True for answer in answers):
        return True
    return next((answer for answer in answers if isinstance(answer, Unknown)), False)


def _contains(of: Any, value: Any) -> bool | Unknown:
    if isinstance(of, Mapping):
        return value in of if isinstance(value, str) else Unknown(f"the keys of a mapping are text, not {kind(value)}")
    if isinstance(of, list):
        return _any([_equal(value, item) for item in of])
    return Unknown(f"{kind(of)} contains nothing")


def _arithmetic(op: str, a: Any, b: Any) -> Any:
    if op == "+" and type(a) is type(b) and isinstance(a, str | list):
        return a + b
    if isinstance(a, datetime) or isinstance(b, datetime):
        return _with_instants(op, a, b)
    if not (_number(a) and _number(b)):
        return Unknown(f"cannot compute {kind(a)} {op} {kind(b)}")
    whole = type(a) is int and type(b) is int
    try:
        if op == "/":
            # Whole numbers divide toward zero, as in CEL.
            result: Any = (abs(a) // abs(b)) * (1 if (a < 0) == (b < 0) else -1) if whole else a / b
        elif op == "%":
            if not whole:
                return Unknown("% needs whole numbers")
            result = abs(a) % abs(b) * (1 if a >= 0 else -1)
        else:
            result = {"+": operator.add, "-": operator.sub, "*": operator.mul}[op](a, b)
    except ZeroDivisionError:
        return Unknown("a division by zero")
    except OverflowError:
        return Unknown("a number too large")
    of_time = isinstance(a, Seconds) or isinstance(b, Seconds)
    ratio = op == "/" and isinstance(a, Seconds) and isinstance(b, Seconds)
    return Seconds(result) if of_time and not ratio else result


def _with_instants(op: str, a: Any, b: Any) -> Any:
    try:
        if op == "-" and isinstance(a, datetime) and isinstance(b, datetime):
            return Seconds((a - b).total_seconds())
        if op in "+-" and isinstance(a, datetime) and isinstance(b, Seconds):
            return a + timedelta(seconds=b if op == "+" else -b)
        if op == "+" and isinstance(a, Seconds) and isinstance(b, datetime):
            return b + timedelta(seconds=a)
    except OverflowError:
        return Unknown("an instant too far away")
    return Unknown(f"cannot compute {kind(a)} {op} {kind(b)}")


def _macro(tree: cel.Macro, scope: Mapping[str, Any]) -> Any:
    of = _there(evaluate(tree.of, scope), tree.of)
    if isinstance(of, Unknown):
        return of
    if not isinstance(of, list | Mapping):
        return Unknown(f"{cel.source(tree.of)} is {kind(of)}, not a list")
    items = list(of)
    results = [evaluate(tree.body, {**scope, tree.name: item}) for item in items]
    if tree.macro == "map":
        return next((result for result in results if isinstance(result, Unknown)), results)
    truths = [_truth(result, tree.body) for result in results]
    if tree.macro == "all":
        return _all(truths)
    if tree.macro == "exists":
        return _any(truths)
    unknown = next((truth for truth in truths if isinstance(truth, Unknown)), None)
    if tree.macro == "exists_one":
        # Two are two, whatever the unknown ones turn out to be.
        return False if sum(truth is True for truth in truths) > 1 else unknown or truths.count(True) == 1
    return unknown or [item for item, truth in zip(items, truths, strict=True) if truth is True]


def _call(tree: cel.Call, scope: Mapping[str, Any]) -> Any:
    if tree.function == "has":
        return _has(tree.args[0], scope)
    function = FUNCTIONS.get(tree.function)
    if function is None:
        return Unknown(f"there is no function {tree.function}")
    args = [_there(evaluate(arg, scope), arg) for arg in tree.args]
    unknown = next((arg for arg in args if isinstance(arg, Unknown)), None)
    if unknown:
        return unknown
    try:
        return function(*args)
    except (TypeError, ValueError, OverflowError) as error:
        return Unknown(f"{cel.source(tree)}: {error}")


def _has(tree: cel.Tree, scope: Mapping[str, Any]) -> bool | Unknown:
    """Whether a field is there. What it would be a field of may be missing too: then it is not there."""
    match tree:
        case cel.Name(name=name):
            return scope.get(name) is not None
        case cel.Field(of=of, name=key) | cel.Index(of=of, key=cel.Literal(value=str(key))):
            if not _has(of, scope):
                return False
            holder = evaluate(of, scope)
            return isinstance(holder, Mapping) and holder.get(key) is not None
        case _:
            value = evaluate(tree, scope)
            return value if isinstance(value, Unknown) else value is not None
