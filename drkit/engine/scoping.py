"""What a step of a nested runbook, or for an entry of a list, reads instead of the run's own. Pure.

A nested runbook sees its own steps and parameters and nothing else of the run; parameters may come from results, which
are filled in when a step is about to begin.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from drkit.engine.board import Board
from drkit.engine.state import StepState
from drkit.errors import DrkitError
from drkit.model.plan import PlanProbe
from drkit.model.values import Json
from drkit.plan.surroundings import run_scope


class Below(Mapping[str, Json]):
    """Results of the steps below one, by the names they have there."""

    def __init__(self, results: Mapping[str, Json], prefix: str) -> None:
        self._results, self._prefix = results, prefix

    def __getitem__(self, name: str) -> Json:
        return self._results[self._prefix + name]

    def __iter__(self) -> Iterator[str]:
        return (name[len(self._prefix) :] for name in self._results if name.startswith(self._prefix))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def visible(run: Board, key: str | None) -> dict[str, Any]:
    """Everything references in this scope read. Whatever filling in parameters raises."""
    if key is None:
        return run_scope(run.plan, steps=run.state.results)
    scope = run.state.scopes[key]
    found = visible(run, scope.outer)
    if scope.item:
        found |= {"each": scope.each, "index": scope.index}
    if scope.runbook is None:
        return found
    later = run.render(scope.later, found) if scope.later else {}
    return run_scope(run.plan, steps=Below(run.state.results, f"{key}/")) | {"params": {**scope.parameters, **later}}


def probes_of(run: Board, key: str | None) -> Mapping[str, PlanProbe]:
    """The probes that expressions in this scope read."""
    while key is not None:
        scope = run.state.scopes[key]
        if scope.runbook is not None:
            return scope.probes
        key = scope.outer
    return run.plan.probes


def tell(run: Board, args: dict[str, Json], step: StepState) -> None:
    """Put what its expressions read into a command for a step that has any."""
    if step.plan.verify is None and step.plan.when is None:
        return
    from drkit.plan.expressions import names  # costs a parser: only for plans that have expressions

    try:
        found = visible(run, step.plan.scope)
        read = {name for text in (step.plan.verify, step.plan.when) if text for name in names(text, "steps")}
        seen = found.pop("steps")
        args["steps"] = {name: seen[name] for name in sorted(read) if name in seen}
        everything = {**found, "steps": seen}
        args["probes"] = {
            name: {"uses": probe.uses, "params": dict(run.render(probe.params, everything))}
            for name, probe in probes_of(run, step.plan.scope).items()
        }
    except (DrkitError, LookupError, TypeError, ValueError) as error:
        args["broken"] = f"what it reads cannot be filled in: {error}"
        return
    args["scope"] = {name: found[name] for name in ("params", "each", "index") if name in found}
