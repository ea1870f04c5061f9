"""What readers of a step read: what its action sees, what a nested runbook's steps see, or a list of these. Pure."""

from __future__ import annotations

from collections.abc import Callable

from drkit.catalog import Entry, Gate
from drkit.model.runbook import RUNBOOK, StepSpec
from drkit.plan.kinds import ANY, Kind, kind_of_fields
from drkit.plan.reading import Library, Loaded
from drkit.plan.risks import may_be_skipped
from drkit.plan.surroundings import answer

Find = Callable[[str], Entry | None]


def kind_of(
    spec: StepSpec, entry: Entry | None, library: Library, find: Find, within: tuple[str, ...] = ()
) -> Kind | str:
    """Its answer, those of a runbook's steps by name, or a list of these; or why there is none."""
    if isinstance(entry, Gate):
        return f"{spec.id} is a gate and observes nothing"
    found = answer(entry) or ANY
    name = spec.uses.removeprefix(RUNBOOK)
    nested = library.found.get(name) if spec.uses.startswith(RUNBOOK) else None
    if isinstance(nested, Loaded) and name not in within:
        kinds = {
            step.id: kind_of(step, _found(step, find), library, find, (*within, name)) for step in nested.runbook.steps
        }  # fmt: skip
        fields = {id: kind for id, kind in kinds.items() if isinstance(kind, Kind)}
        found = kind_of_fields(fields, f"what {spec.uses} saw")
    if spec.for_each is not None:
        return Kind("list", item=found.maybe() if may_be_skipped(spec) else found)
    return found.maybe() if may_be_skipped(spec) else found


def _found(spec: StepSpec, find: Find) -> Entry | None:
    return None if spec.uses.startswith(RUNBOOK) else find(spec.uses)
