"""What is wrong with a run that a fault struck: read from its journal and from the world's own log. Pure.

Every function answers with sentences; none means that nothing is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from drkit.drill.matrix import happening, indispensable
from drkit.drill.pretend import WHOLE, Entry
from drkit.engine.decisions import compare
from drkit.engine.state import Phase, RunState, Status
from drkit.model import events as e
from drkit.model.events import Row
from drkit.model.plan import Plan
from drkit.plan.graph import ancestors

Needs = Mapping[str, frozenset[str]]


def at_rest(state: RunState, parts: Mapping[str, int]) -> Iterator[str]:
    """A run that stands still: what it says of each step is so, and nothing happened that it does not know of."""
    for step in state.steps.values():
        if step.plan.kind != "action":
            continue
        there = parts.get(step.id, 0)
        if step.status is Status.DONE and there != WHOLE:
            yield f"{step.id} is called done, and is not"
        if step.phase in (Phase.IDLE, Phase.HELD) and not step.intent and there:
            yield f"{step.id} was changed, and there is no intent of it"


def at_end(
    plan: Plan, rows: Sequence[Row], builds_on: Needs, parts: Mapping[str, int], log: Sequence[Entry]
) -> list[str]:
    """A run that is over: the world as without the fault, in order, nothing repeated, each decision by the rules."""
    found = by_journal(plan, rows)
    if not isinstance(rows[-1].fact, e.Finished) or rows[-1].fact.outcome != "done":
        return found
    actions = [step for step in plan.steps if step.kind == "action" and indispensable(step)]
    found += [f"{step.id} is not in effect at the end" for step in actions if parts.get(step.id) != WHOLE]
    found += _out_of_order(builds_on, log)
    found += _repeated(plan, builds_on, log)
    return found


def by_journal(plan: Plan, rows: Sequence[Row]) -> list[str]:
    """A run that is over, by its journal alone: done, in order, nothing begun again, each decision by the rules."""
    last = rows[-1].fact
    if not isinstance(last, e.Finished) or last.outcome != "done":
        return [f"it ended {last.outcome}: {last.why}" if isinstance(last, e.Finished) else "it did not end"]
    found = [*_begun_too_early(plan, rows), *_begun_again(rows)]
    return found + [f"event {decision.row.seq} is decided otherwise in a replay" for decision in compare(rows)]


def repeats(log: Sequence[Entry]) -> int:
    """How many halves of effects were sent again although they were there."""
    return sum(entry.what == "again" for entry in log)


def _out_of_order(builds_on: Needs, log: Sequence[Entry]) -> Iterator[str]:
    there: set[str] = set()
    for entry in log:
        if entry.what == "whole":
            there.add(entry.step)
        elif entry.what == "sent":
            yield from (f"{entry.step} was sent before {need} was there" for need in builds_on[entry.step] - there)


def _repeated(plan: Plan, builds_on: Needs, log: Sequence[Entry]) -> Iterator[str]:
    begun: set[str] = set()
    for entry in log:
        if entry.what == "sent":
            begun.add(entry.step)
            late = [step for step in begun if entry.step in builds_on[step]]
            if late:
                yield f"{entry.step} was sent again after {min(late)}, which builds on it, had begun"
        elif entry.what == "again" and plan.step(entry.step).repeat != "safe":
            yield f"{entry.step} took effect twice, and is not declared safe to repeat"


def _begun_too_early(plan: Plan, rows: Sequence[Row]) -> Iterator[str]:
    first = ("prepare", "observe", "ask")
    started = {c.step: row.seq for row in reversed(rows) for c in row.commands if c.verb in first}
    ended = e.Done | e.AlreadySo | e.Answered | e.Ordered
    settled = {row.fact.step: row.seq for row in rows if isinstance(row.fact, ended) and _ends(row.fact)}
    must = {step.id for step in happening(plan) if indispensable(step)}
    every = ancestors({step.id: step.needs for step in plan.steps})
    for step in happening(plan):
        for need in every[step.id] & must:
            if step.id in started and settled.get(need, len(rows)) > started[step.id]:
                yield f"{step.id} was begun before {need} had ended"


def _begun_again(rows: Sequence[Row]) -> Iterator[str]:
    ended: set[str] = set()
    for row in rows:
        if isinstance(row.fact, e.Done | e.AlreadySo):
            ended.add(row.fact.step)
        again = [c.step for c in row.commands if c.verb in ("prepare", "apply", "recover") and c.step in ended]
        yield from (f"{step} was begun again although it was done" for step in again)


def _ends(fact: e.Fact) -> bool:
    return not isinstance(fact, e.Ordered) or (fact.verb == "resolve" and fact.args.get("as") == "done")
