"""The world ends as the journal says."""

from __future__ import annotations

import math
from collections.abc import Iterator

from drkit.engine.compensation import PREFIX
from drkit.engine.state import RunState, Status
from simulation.account import Account
from simulation.invariants.aftermath import Aftermath
from simulation.people import filled
from simulation.world import effects


def effects_are_as_the_journal_says(a: Aftermath) -> Iterator[str]:
    """The world ends as in a run without trouble, or the run says which step is not certain."""
    if a.final is None or a.state is None or a.final.outcome is None:
        return
    cut = {"east"} if a.history.world.cut_at < math.inf else set()
    touched = cut | a.history.world.by_hand | {s.name for s in effects(a.history.world) if s.lease_s <= 0}
    # A rollback in the lost tail of a journal that was read back from its copy: `Resumed.from_copy` says so.
    disk = a.history.current.process.machine.disk if a.history.current else None
    touched |= {s.name for s in effects(a.history.world) if s.journal is not disk and s.step.startswith(PREFIX)}
    touched |= _overtaken(a)
    for name, wanted in _expected(a.state, a.final).items():
        if wanted is not None and name not in touched and a.history.world.values.get(name, 0) != wanted:
            yield f"{name} is {a.history.world.values.get(name, 0)}, and by the journal it must be {wanted}"


def what_is_called_absent_stays_absent(a: Aftermath) -> Iterator[str]:
    """What is reported to be absent has not taken effect, and does not later: it may be sent again, or given up."""
    world = a.history.world
    for absence in world.absences:
        mine = (s for s in world.sent[: absence.left] if s.step == absence.step and s.fate == "done" and s.lease_s > 0)
        for s in mine:
            if s.landed > absence.t:
                yield f"{s.step} is called absent at {absence.t:.2f}, and takes effect at {s.landed:.2f}"
            elif world.unchanged_since(s, absence.t):
                yield f"{s.step} is called absent at {absence.t:.2f}, and took effect at {s.landed:.2f}"


def _expected(state: RunState, account: Account) -> dict[str, int | None]:
    """What the world must be, by name; None: the run says itself that it does not know."""
    found: dict[str, int | None] = {}
    taken_back: set[str] = set()
    for step in state.steps.values():
        params = step.params or step.plan.params
        if step.plan.kind != "action" or step.undoes is not None:
            continue
        name, to = filled(state, str(params["name"]), step.plan.scope), params["to"]
        start = 1 if name == "east" else 0
        if step.ended in (Status.DONE, Status.SKIPPED) and step.after is not None and not step.overridden:
            assert isinstance(to, int)
            found[name] = to
        elif step.ended is Status.COMPENSATED:
            undone = state.steps[PREFIX + step.id]
            known = undone.ended is Status.DONE or undone.reason == "already so"
            value = (step.before or {}).get("value")
            if name not in taken_back:  # the first one that was taken back knows what was there before all
                found[name] = value["value"] if known and isinstance(value, dict) else None  # type: ignore[assignment]
            taken_back.add(name)
        elif step.exposed or step.doubtful or step.intent or step.overridden:
            found[name] = None
        else:
            found.setdefault(name, start)
    if any(step.doubtful or step.by_hand for step in state.steps.values()) or len(account.rows) == 0:
        return {name: value for name, value in found.items() if name not in _doubted(state)}
    return found


def _overtaken(a: Aftermath) -> set[str]:
    """Names at which something that failed took effect only when the next step had been sent: the run went on."""
    sent = list(effects(a.history.world))
    return {s.name for s in sent if s.late and any(s.name == o.name and s.t < o.t < s.landed for o in sent)}


def _doubted(state: RunState) -> set[str]:
    """Names at which the journal itself says that its end is missing."""
    return {
        str(step.plan.params.get("name"))
        for step in state.steps.values()
        if step.doubtful and step.ended not in (Status.DONE, Status.COMPENSATED)
    }
