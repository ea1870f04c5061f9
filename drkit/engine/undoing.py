"""Compensations, on the side of the world: what would take a step back, and whether the present allows it.

Which compensations run, and in which order, is decided in `compensation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from drkit.catalog import Action, Catalog
from drkit.context import Context
from drkit.engine.scene import Scene, validated
from drkit.engine.watching import shown
from drkit.model.observation import Observation, State
from drkit.model.params import Params
from drkit.model.values import Json


def undo_of(
    catalog: Catalog, action: Action[Any, Any], params: Params, before: Observation | None, after: Observation | None
) -> dict[str, Json] | None:
    """What takes it back, worked out while everything is known; `{"error": why}` if the action cannot say."""
    if action.undoer is None:
        return None
    try:
        use = action.undoer(params, before, after)
    except Exception as error:  # noqa: BLE001 - recorded: a rollback will name this step
        return {"error": f"{type(error).__name__}: {error}"}
    if use is None:
        return None
    entry = catalog.entry(use.uses)
    assert isinstance(entry, Action)  # `undo` returns a use of an action
    return {
        "uses": use.uses, "params": use.params, "repeat": entry.repeat, "timeout_s": entry.timeout_s,
        "poll_s": entry.poll_s, "settle_s": entry.settle_s,
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Present:
    """How things stand against what a step had set. `differs`: why a person must look before it is undone."""

    differs: str | None = None
    as_before: bool = False
    """Everything is as it was before the step: nothing is left to undo."""


def settle_s(catalog: Catalog, guard: Mapping[str, Any]) -> float:
    """Seconds in which what is to be taken back may still begin to show; until then "as before" is not believed."""
    entry = catalog.entry(str(guard["uses"]))
    assert isinstance(entry, Action)  # only actions are compensated
    return entry.settle_s


async def compare(scene: Scene, ctx: Context, guard: Mapping[str, Any], within_s: float) -> Present:
    """Look with the probe of the step that is to be taken back; `guard` has its `uses`, `params` and `before`."""
    entry = scene.catalog.entry(str(guard["uses"]))
    assert isinstance(entry, Action)  # only actions are compensated
    params = validated(entry, guard["params"])
    now, look, why, _ = await scene.see(entry.observe, ctx, params, within_s)
    if now is None or look is None:
        return Present(f"what it should undo cannot be observed: {why}")
    if entry.state(params, now) is State.HOLDS:
        return Present()
    before = guard.get("before")
    if isinstance(before, dict) and _same(before.get("value"), look["value"]):
        return Present(as_before=True)
    return Present(f"the present is not what the step had set: {shown(now.model_dump(mode='json'))}")


def _same(one: Any, other: Any) -> bool:
    """The same was seen, whoever answered."""
    seen = [{k: v for k, v in value.items() if k != "answered_by"} for value in (one, other) if isinstance(value, dict)]
    return len(seen) == 2 and bool(seen[0] == seen[1])
