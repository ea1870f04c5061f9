"""The environment's lease, broken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from drkit.context import Context
from drkit.engine import lease
from simulation.mutants.mutant import Patch, mutant


@mutant
def take_over_without_waiting() -> Sequence[Patch]:
    """Whoever says that it takes over has the lease at once."""

    def at_once(self: Any, record: Any, holder: Any, run: str, drill: bool, take_over: bool) -> bool:
        return take_over or may_take(self, record, holder, run, drill, take_over)

    may_take = lease.LeaseProtocol._may_take
    return [(lease.LeaseProtocol, "_may_take", at_once)]


@mutant
def renew_over_a_rival() -> Sequence[Patch]:
    """A renewal is written whoever holds the lease by now."""
    write = lease.LeaseProtocol._write

    def regardless(self: Any, record: Any, tag: str | None) -> Any:
        found = self._objects.get(self._key)
        return write(self, record, None if found is None else found[1])

    return [(lease.LeaseProtocol, "_write", regardless)]


@mutant
def lease_never_runs_out() -> Sequence[Patch]:
    """Whoever got the lease once believes in it until told otherwise."""

    def forever(self: Any) -> float:
        return 0.0 if self._record is None else 5.0

    return [(lease.LeaseProtocol, "remaining_s", forever)]


@mutant
def tell_targets_no_end() -> Sequence[Patch]:
    """Targets are not told until when a change may be started."""
    return [(Context, "not_after", property(lambda self: None))]
