"""What people may say, and that it is heard."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from drkit.model import events as e
from simulation.account import LAST, STARTING, roles_after
from simulation.invariants.aftermath import Aftermath


def approvals_are_real(a: Aftermath) -> Iterator[str]:
    """A gate opens when enough different persons in roles that are asked said yes to this plan and what it shows."""
    for account in a.accounts:
        opened = {
            id: min(account.approved_at(step), account.not_needed_at(id), account.left_out_at(id))
            for id, step in account.steps.items()
            if step.kind == "gate" and step.on_failure != "skip" and not step.optional
        }
        for seq, command in account.commands(*STARTING) if opened else ():
            waits = command.step in account.steps and not account.heals_early(command.step or "", seq)
            before = account.before(command.step or "") if waits else frozenset()
            for gate in sorted(before.intersection(opened)):
                if opened[gate] > seq:
                    yield f"{command.verb} {command.step} (event {seq}) behind {gate}, which nobody approved"


def answers_fit_their_question(a: Aftermath) -> Iterator[str]:
    """Every answer that was taken is to this plan and to what was shown last, and nobody's second yes."""
    for account in a.accounts:
        shown: dict[str, e.Asked] = {}
        yes: dict[str, list[Any]] = {}
        for row in account.rows:
            fact = row.fact
            if isinstance(fact, e.Asked):
                shown[fact.step], yes[fact.step] = fact, []
            elif isinstance(fact, e.Answered):
                question = shown.get(fact.step)
                if question is None or fact.shown_hash != question.shown_hash or fact.plan_hash != account.plan.hash:
                    yield f"event {row.seq}: an answer to something else was taken at {fact.step}"
                elif fact.answer == "approve" and fact.by["uid"] is not None:
                    if fact.by["uid"] in yes[fact.step]:
                        yield f"event {row.seq}: {fact.by['name']} approved {fact.step} twice"
                    yes[fact.step].append(fact.by["uid"])


def approvals_are_not_skipped_with_others(a: Aftermath) -> Iterator[str]:
    """Whoever skips a runbook does not skip an approval in it, unless nobody can tell whether it is needed at all."""
    for account in a.accounts:
        gates = [step for step in account.plan.steps if step.kind == "gate" and "/" in step.id]
        for seq, order in account.orders("skip") if gates else ():
            for gate in gates:
                over = min(account.over_by_itself_at(gate), account.left_out_at(gate.id))
                if gate.id.startswith(f"{order.step}/") and over > seq:
                    yield f"{gate.id} was skipped with {order.step} (event {seq}), and nobody had approved it"


def an_escalation_is_heard(a: Aftermath) -> Iterator[str]:
    """Once others are asked too, nobody is refused without being told so."""
    for account in a.accounts:
        armed: dict[str, tuple[str, str]] = {}
        asked: dict[str, set[str]] = defaultdict(set)
        for row in account.rows:
            fact = row.fact
            if isinstance(fact, e.Asked) and fact.purpose == "gate":
                timers = [str(c.args["timer"]) for c in row.commands if str(c.args.get("timer")).startswith("escalate")]
                roles = roles_after(account.steps[fact.step], math.inf)[1:]
                armed = {timer: asks for timer, asks in armed.items() if asks[0] != fact.step}  # of earlier questions
                armed |= {timer: (fact.step, role) for timer, role in zip(timers, roles, strict=False)}
                asked[fact.step] = set()
            if isinstance(fact, e.Fired) and fact.timer in armed:
                step, role = armed.pop(fact.timer)
                asked[step].add(role)
            if isinstance(fact, e.Refusal) and "must be answered by somebody in the role" in fact.why:
                for role in sorted(asked[fact.step or ""]):
                    if role not in fact.why:
                        yield f"event {row.seq}: {role} is asked at {fact.step} too by now, and was not named"


def fences_are_seen_or_passed_by_two(a: Aftermath) -> Iterator[str]:
    """What needs a fence starts when the fence was observed, or when two different persons passed it."""
    for account in a.accounts:
        fences = [step.id for step in account.steps.values() if step.fences]
        passed = {id: account.done_at(id) or (0 if len(account.overridden(id)) > 1 else LAST) for id in fences}
        for seq, command in account.commands(*STARTING) if fences else ():
            waits = command.step in account.steps and not account.heals_early(command.step or "", seq)
            before = account.before(command.step or "") if waits else frozenset()
            for fence in before.intersection(fences):
                if passed[fence] > seq:
                    yield f"{command.verb} {command.step} (event {seq}) behind {fence}, which was not seen"
