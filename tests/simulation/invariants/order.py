"""Nothing begins too early, and nothing is sent more often than is allowed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from drkit.engine.compensation import PREFIX
from drkit.model import events as e
from simulation.account import STARTING, Account, is_undo
from simulation.invariants.aftermath import Aftermath, sent_by


def an_intent_is_durable_before_its_effect(a: Aftermath) -> Iterator[str]:
    """Nothing leaves a process before its journal says that it is about to."""
    for sent, account in sent_by(a):
        if not any(account.of(sent.step, e.Prepared, upto=sent.durable)):
            yield f"{sent.step} was sent at {sent.t:.1f} without an intent on disk"


def what_was_before_is_recorded_once(a: Aftermath) -> Iterator[str]:
    """A step has one intent, and whatever happens later neither its parameters nor what was there before change."""
    for account in a.accounts:
        steps = {row.fact.step for row in account.rows if isinstance(row.fact, e.Prepared)}
        for id in sorted(steps):
            intents = [seq for seq, _ in account.of(id, e.Prepared, e.AlreadySo)]
            if len(intents) > 1:
                yield f"{id} has intents at events {intents}"


def nothing_completed_is_sent_again(a: Aftermath) -> Iterator[str]:
    """A step whose end is in the journal is never sent, and never even begun, again."""
    for sent, account in sent_by(a):
        done = account.done_at(sent.step)
        if done is not None and done <= sent.durable:
            yield f"{sent.step} was done (event {done}) and was sent at {sent.t:.1f}"
    for account in a.accounts:
        for seq, command in account.commands(*STARTING):
            done = account.done_at(command.step or "")
            if done is not None and done < seq:
                yield f"{command.verb} {command.step} (event {seq}) after it was done (event {done})"


def needs_have_ended(a: Aftermath) -> Iterator[str]:
    """No step starts, and none is sent, before everything that it needs has ended and that is durable."""
    for sent, account in sent_by(a):
        yield from _too_early(account, sent.step, sent.durable, "sent")
    for account in a.accounts:
        for seq, command in account.commands(*STARTING):
            yield from _too_early(account, command.step or "", seq, command.verb)


def what_must_not_be_repeated_takes_a_word(a: Aftermath) -> Iterator[str]:
    """An action that is not safe to repeat is sent once, and once more for each time that a person said so."""
    for account in a.accounts:
        sent = Counter(s.step for s, by in sent_by(a) if by is account)
        for id, count in sent.items():
            repeat = _repeat(account, id)
            if repeat == "ask" and count > 1 + account.consents(id) + _untouched(account, id):
                yield f"{id} was sent {count} times, and people agreed {account.consents(id)} times"


def retries_have_a_limit(a: Aftermath) -> Iterator[str]:
    """By itself a step is tried again only as often as its plan says, counted from a person's last word."""
    for account in a.accounts:
        tries: Counter[str] = Counter()
        for row in account.rows:
            if isinstance(row.fact, e.Ordered) and row.fact.verb in ("retry", "resolve", "resume", "done"):
                tries.clear()
            for command in row.commands:
                if "turned away" in command.why:
                    continue  # that is no retry: nothing was done
                if command.verb == "timer" and str(command.args["timer"]).startswith("retry"):
                    if not isinstance(row.fact, e.Resumed):
                        tries[command.step or ""] += 1
                    step = account.step(command.step or "")
                    limit = 0 if step is None else step.retry.times if step.retry else 3
                    if tries[command.step or ""] > limit:
                        yield f"{command.step} is tried again for the {tries[command.step or '']}th time"


def who_is_turned_away_knocks_for_as_long_as_the_step_may_take(a: Aftermath) -> Iterator[str]:
    """What passes by itself is waited out within the step's own time, and only where an action may be repeated."""
    for account in a.accounts:
        first: dict[str, float] = {}
        for row in account.rows:
            if isinstance(row.fact, e.Ordered):
                first.clear()
            for command in row.commands:
                id, step = command.step or "", account.step(command.step or "")
                if command.verb == "timer" and "turned away" in command.why and step is not None:
                    since = first.setdefault(id, row.fact.t)
                    if step.repeat == "ask":
                        yield f"{id} must not be repeated, and is sent again by itself"
                    if row.fact.t >= since + step.timeout_s:
                        yield f"{id} was turned away since {since:.1f}, and still waits at {row.fact.t:.1f}"


def copied_before_it_is_final(a: Aftermath) -> Iterator[str]:
    """What cannot be undone, or lifts a fence, is sent when its intent is in the state store, or a person says so."""
    for sent, account in sent_by(a):
        step = account.step(sent.step.removeprefix(PREFIX))
        if step is None or not (step.fences if is_undo(sent.step) else step.irreversible):
            continue
        intent = next((seq for seq, _ in account.of(sent.step, e.Prepared)), 10**9)
        word = any(f.purpose == "uncopied" for _, f in account.of(sent.step, e.Asked, upto=sent.durable))
        if sent.copied < intent and not word:
            yield f"{sent.step} was sent at {sent.t:.1f}; the state store had {sent.copied} of {intent} events"


def _too_early(account: Account, id: str, seq: int, verb: str) -> Iterator[str]:
    for need in account.needs(id) if id in account.steps and not account.heals_early(id, seq) else ():
        if account.ended_at(need) > seq:
            yield f"{id} was {verb} at event {seq}, and {need} had not ended"


def _repeat(account: Account, id: str) -> str:
    step = account.step(id)
    if step is not None:
        return step.repeat
    made = next((f.undo for _, f in account.of(id.removeprefix(PREFIX), e.Prepared)), None) or {}
    return str(made.get("repeat", "ask"))


def _untouched(account: Account, id: str) -> int:
    """How often it said that nothing was changed: then it may be sent again."""
    return sum(f.world == "untouched" for _, f in account.of(id, e.Failed))
