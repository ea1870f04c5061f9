"""Steps that stand for several: every entry of a list, nothing else, no more at once than was asked."""

from __future__ import annotations

import math
from collections.abc import Iterator

from drkit.model import events as e
from drkit.model.plan import PlanStep
from drkit.plan.fanning import is_below
from simulation.account import SENDING, STARTING, Account, is_undo
from simulation.invariants.aftermath import Aftermath, sent_by


def only_entries_of_a_seen_list_are_begun(a: Aftermath) -> Iterator[str]:
    """Whatever begins or is sent stands in the plan, or is for an entry of a list whose look is durable."""
    for account in a.accounts:
        begun = [(c.step or "", seq, c.verb) for seq, c in account.commands(*STARTING)]
        for id, seq, verb in begun + [(s.step, s.durable, "sent") for s, by in sent_by(a) if by is account]:
            if is_undo(id) or (id in account.grown and account.grown[id].known <= seq):
                continue
            if account.step(id) is None or id in account.grown:
                yield f"{id} was {verb} at event {seq}, and nothing that was seen by then asks for it"


def each_entry_has_its_own(a: Aftermath) -> Iterator[str]:
    """What is done for an entry of a list is done to this entry."""
    for account in a.accounts:
        for seq, command in account.commands(*SENDING):
            grown, params = account.grown.get(command.step or ""), command.args["params"]
            if grown is not None and grown.step.kind == "action" and isinstance(params, dict):
                strange = [key for key in grown.keys if not str(params["name"]).startswith(key)]
                if strange:
                    yield f"{command.step} (event {seq}) changes {params['name']}, and is for {strange[0]}"


def no_more_at_once_than_asked(a: Aftermath) -> Iterator[str]:
    """Never are more entries of a list under way than its `at_once` says."""
    for account in a.accounts:
        for step in account.steps.values():
            if step.join is not None and step.join.at_once is not None:
                yield from _too_many(account, step, step.join.at_once)


def _too_many(account: Account, step: PlanStep, at_once: int) -> Iterator[str]:
    roots = [id for id in account.needs(step.id) if is_below(id, step.id)]
    spans = {root: (_begun(account, root), account.ended_at(root)) for root in roots}
    for root, (begun, _) in spans.items():
        busy = [other for other, (start, end) in spans.items() if start <= begun < end]
        if begun < math.inf and len(busy) > at_once:
            yield f"{', '.join(busy)} were under way when {root} began (event {begun:g}), and {at_once} may be"


def _begun(account: Account, root: str) -> float:
    """The first event that has anything of it begun."""
    return next((s for s, c in account.commands(*STARTING) if c.step == root or is_below(c.step or "", root)), math.inf)


def what_is_not_needed_is_not_begun(a: Aftermath) -> Iterator[str]:
    """When a nested runbook's `when` has come out false, no step of it begins."""
    for account in a.accounts:
        for seq, command in account.commands(*STARTING, "recover"):
            if not is_undo(command.step or "") and account.not_needed_at(command.step or "") <= seq:
                yield f"{command.verb} {command.step} (event {seq}), which is not needed"


def nothing_is_left_out(a: Aftermath) -> Iterator[str]:
    """When a run is done, every step of it has ended, those for every entry of every list included."""
    account = a.final
    if account is not None and account.outcome == "done":
        left = [id for id in account.steps if account.ended_at(id) == math.inf]
        if left:
            yield f"the run is done, and {', '.join(left)} is not"


def conditions_are_asked(a: Aftermath) -> Iterator[str]:
    """No step under a condition begins before that was found to hold, or people said so."""
    for account in a.accounts:
        whens = {id.rpartition("/")[0]: id for id, step in account.steps.items() if step.kind == "when"}
        for seq, command in account.commands(*STARTING):
            id = command.step or ""
            for above in account.above(id) if whens and not is_undo(id) else ():
                when = whens.get(above, id)
                if when != id and not any(account.of(when, e.Done, upto=seq)):
                    yield f"{command.verb} {id} (event {seq}), and {when} had not been found to hold"
