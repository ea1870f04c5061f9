"""Expressions and `${ … }` references: check them at load, evaluate and render them in a run. Pure.

The one door to CEL. Plain references (`${ params.replicas }`) are looked up without its parser, which is loaded only
where there is an expression.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from drkit.errors import Unobservable
from drkit.model.observation import Verdict
from drkit.model.values import Json
from drkit.plan import cel
from drkit.plan.checker import Checker, Problem, StepKind
from drkit.plan.evaluator import Unknown
from drkit.plan.evaluator import evaluate as _evaluate
from drkit.plan.kinds import ANY, Kind
from drkit.plan.references import Reference, fill, look_up

__all__ = ["Answer", "Checked", "Problem", "check", "check_reference", "evaluate", "names", "render", "roots", "value"]


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a yes-or-no expression. `reason` names what was read, or why it is unknown."""

    verdict: Verdict
    reason: str


@dataclass(frozen=True, slots=True)
class Checked:
    """What is wrong with an expression, what it gives, and which names it begins from."""

    problems: tuple[Problem, ...]
    kind: Kind
    roots: frozenset[str]


def check(text: str, kinds: Mapping[str, Kind], steps: StepKind | None = None) -> list[Problem]:
    """Everything wrong with a yes-or-no expression that may read `kinds` (and the answers of `steps`)."""
    try:
        tree = cel.read(text)
    except cel.Unreadable as error:
        return [Problem(error.offset, error.message, error.hint)]
    checker = Checker(kinds, steps)
    kind = checker.kind(tree)
    if kind.name not in ("bool", "any") and not checker.problems:
        checker.problems.append(Problem(0, f"{text.strip()} is {kind}, and true or false is needed"))
    return checker.problems


def check_reference(text: str, kinds: Mapping[str, Kind], steps: StepKind | None = None) -> Checked:
    """What stands between `${` and `}`."""
    tree: cel.Tree
    try:
        tree = _plain_tree(text) or cel.read(text)
    except cel.Unreadable as error:
        return Checked((Problem(error.offset, error.message, error.hint),), ANY, frozenset())
    checker = Checker(kinds, steps)
    kind = checker.kind(tree)
    return Checked(tuple(checker.problems), kind, _roots(tree))


def evaluate(text: str, scope: Mapping[str, Any]) -> Answer:
    """PASS, FAIL or UNKNOWN with the reason. Never raises: what cannot be evaluated is unknown."""
    try:
        tree = cel.read(text)
    except cel.Unreadable as error:
        return Answer(Verdict.UNKNOWN, f"{text}: {error.message}")
    found = _evaluate(tree, scope)
    if isinstance(found, Unknown):
        return Answer(Verdict.UNKNOWN, found.reason)
    if not isinstance(found, bool):
        return Answer(Verdict.UNKNOWN, f"{text} is neither true nor false")
    return Answer(Verdict.PASS if found else Verdict.FAIL, _read_values(tree, scope))


def value(text: str, scope: Mapping[str, Any]) -> Json:
    """What an expression gives. Unobservable if that is not known."""
    try:
        found = _evaluate(cel.read(text), scope)
    except cel.Unreadable as error:
        raise Unobservable(f"${{ {text} }}: {error.message}") from error
    if isinstance(found, Unknown):
        raise Unobservable(f"${{ {text} }}: {found.reason}")
    return float(found) if type(found).__name__ == "Seconds" else cast(Json, _plain_json(found))


def render(params: Mapping[str, Json], scope: Mapping[str, Any]) -> dict[str, Json]:
    """Parameters with every reference replaced by what the scope has. Unobservable if something is not there."""

    def resolve(reference: Reference) -> Json:
        if reference.path is not None:
            return look_up(reference.path, scope)
        return value(reference.text, scope)

    return cast(dict[str, Json], fill(cast(Json, dict(params)), resolve))


def roots(text: str) -> frozenset[str]:
    """The names an expression begins from: `steps`, `params`, …; empty if it cannot be read."""
    try:
        return _roots(_plain_tree(text) or cel.read(text))
    except cel.Unreadable:
        return frozenset()


def names(text: str, root: str) -> frozenset[str]:
    """The fields of `root` that an expression reads: `names("probes.lag.value < 3.0", "probes")` is `lag`."""
    try:
        tree = _plain_tree(text) or cel.read(text)
    except cel.Unreadable:
        return frozenset()
    found: set[str] = set()
    for node in cel.below(tree):
        match node:
            case cel.Field(of=cel.Name(name=name), name=field) if name == root:
                found.add(field)
            case cel.Index(of=cel.Name(name=name), key=cel.Literal(value=str(field))) if name == root:
                found.add(field)
    return frozenset(found)


def _plain_tree(text: str) -> cel.Tree | None:
    """The tree of names joined by dots, made without a parser."""
    path = Reference(text, 0).path
    if path is None or text in ("true", "false", "null"):
        return None
    tree: cel.Tree = cel.Name(0, path[0])
    offset = len(path[0]) + 1
    for name in path[1:]:
        tree = cel.Field(offset, tree, name)
        offset += len(name) + 1
    return tree


def _roots(tree: cel.Tree) -> frozenset[str]:
    nodes = list(cel.below(tree))
    bound = {node.name for node in nodes if isinstance(node, cel.Macro)}
    return frozenset(node.name for node in nodes if isinstance(node, cel.Name)) - bound


def _read_values(tree: cel.Tree, scope: Mapping[str, Any]) -> str:
    """`now.ready is 3, params.to is 5`: what the answer rests on."""
    said: dict[str, str] = {}
    for node in _reads(tree):
        found = _evaluate(node, scope)
        if isinstance(found, str | int | float | bool) or found is None:
            said[cel.source(node)] = f"{cel.source(node)} is {_shown(found)}"
    return ", ".join(said[name] for name in sorted(said)) or cel.source(tree)


def _reads(tree: cel.Tree) -> Iterable[cel.Tree]:
    """The longest chains of names."""
    inner = {id(node.of) for node in cel.below(tree) if isinstance(node, cel.Field | cel.Index)}
    return [node for node in cel.below(tree) if isinstance(node, cel.Field | cel.Index) and id(node) not in inner]


def _shown(found: object) -> str:
    if isinstance(found, bool) or found is None:
        return {True: "true", False: "false", None: "missing"}[found]
    return f'"{found}"' if isinstance(found, str) else f"{found:g}" if isinstance(found, float) else str(found)


def _plain_json(found: Any) -> Any:
    from datetime import datetime

    if isinstance(found, datetime):
        return found.isoformat().replace("+00:00", "Z")
    if isinstance(found, float):
        return float(found)
    if isinstance(found, list):
        return [_plain_json(item) for item in found]
    if isinstance(found, Mapping):
        return {key: _plain_json(item) for key, item in found.items()}
    return found
