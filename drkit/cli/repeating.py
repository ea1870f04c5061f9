"""Which recorded runs can be repeated: those of a scenario. All others are refused, with what to type instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drkit.cli import seen
from drkit.errors import UsageError

if TYPE_CHECKING:
    from drkit.engine.runs import Request


def recorded(run: str) -> Request:
    """What was asked of a run that carried out a scenario. UsageError if it did not, or names its targets itself."""
    from drkit.chaos.toolkit.opening import HERE, kept_in

    folder = seen.find(run)
    kept = kept_in(folder)
    if kept is not None:
        named = folder.request().environment.name
        raise UsageError(
            f"run {folder.id} carried out a Chaos Toolkit experiment, whose file says all that is done: run it again",
            hint=f"drkit chaos run {kept.path}" + ("" if named == HERE else f" --env {named}"),
        )
    before = folder.request()
    if before.plan.scenario is None or before.kind not in ("run", "drill"):
        raise UsageError(f"run {folder.id} carried out no scenario", hint="drkit runs")
    return before
