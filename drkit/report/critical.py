"""The critical path of a run: which chain of steps its length was made of. Pure, over what really happened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """A step that ran: seconds on one clock. Steps that never started or never ended have no span."""

    id: str
    needs: tuple[str, ...]
    started_t: float
    finished_t: float

    @property
    def seconds(self) -> float:
        """How long it took, waiting for people included."""
        return self.finished_t - self.started_t


@dataclass(frozen=True, slots=True)
class CriticalPath:
    """The longest chain of dependent steps. `makespan_s` over `seconds` is what the engine added."""

    path: tuple[str, ...] = ()
    seconds: float | None = None
    makespan_s: float | None = None


def critical_path(spans: Iterable[Span]) -> CriticalPath:
    """The chain of needs with the largest sum of durations; of equal ones that which ended later."""
    by_id = {span.id: span for span in spans}
    if not by_id:
        return CriticalPath()
    length: dict[str, float] = {}
    before: dict[str, str | None] = {}
    for id in _needs_first(by_id):
        needed = [need for need in by_id[id].needs if need in by_id]
        before[id] = max(needed, key=lambda need: (length[need], by_id[need].finished_t), default=None)
        length[id] = by_id[id].seconds + (length[before[id] or ""] if before[id] is not None else 0.0)
    end: str | None = max(by_id, key=lambda id: (length[id], by_id[id].finished_t))
    total, path = length[end or ""], list[str]()
    while end is not None:
        path.append(end)
        end = before[end]
    makespan_s = max(s.finished_t for s in by_id.values()) - min(s.started_t for s in by_id.values())
    return CriticalPath(tuple(reversed(path)), round(total, 6), round(makespan_s, 6))


def _needs_first(by_id: Mapping[str, Span]) -> Sequence[str]:
    order: dict[str, None] = {}
    for start in by_id:
        stack = [start]
        while stack:  # a runbook may be thousands of steps deep: no recursion
            missing = [need for need in by_id[stack[-1]].needs if need in by_id and need not in order]
            if missing:
                stack.extend(missing)
            else:
                order[stack.pop()] = None
    return list(order)
