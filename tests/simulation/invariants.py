"""What must hold after every history: one function each, named for the rule, its docstring the sentence.

Each yields what broke it, in words; nothing means that it holds.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from drkit.engine.chain import Stored, fitting
from drkit.engine.compensation import PREFIX
from drkit.engine.decisions import compare
from drkit.engine.executor import LEASE_FLOOR_S
from drkit.engine.fold import replay
from drkit.engine.state import RunState, Status
from drkit.errors import JournalError
from drkit.model import events as e
from drkit.model.values import canonical
from simulation.account import SENDING, STARTING, Account, accounts
from simulation.history import History
from simulation.world import Sent, effects


@dataclass
class Aftermath:
    """A history that is over, and its journals."""

    history: History

    @cached_property
    def accounts(self) -> list[Account]:
        return accounts(self.history)

    @cached_property
    def by_machine(self) -> dict[str, Account]:
        return {account.machine: account for account in self.accounts}

    @cached_property
    def final(self) -> Account | None:
        return next((account for account in self.accounts if account.final), None)

    @cached_property
    def state(self) -> RunState | None:
        """How the run stands in the end."""
        return None if self.final is None else replay(self.final.rows).state

    def account_of(self, sent: Sent) -> Account | None:
        """The journal of whoever sent it, unless another run of the machine's disk has replaced it."""
        found = self.by_machine.get(sent.process.machine.name)
        return found if sent.process.machine.disk is sent.journal else None


Invariant = Callable[[Aftermath], Iterator[str]]


def the_run_ends(a: Aftermath) -> Iterator[str]:
    """A run comes to its end whatever happened; none hangs, and no process dies of an error of its own."""
    if not a.history.over:
        state = a.history.state
        yield f"no end: {state.phase if state else 'never begun'} {state.blocks() if state else ''}"
    yield from a.history.errors


def the_chain_is_unbroken(a: Aftermath) -> Iterator[str]:
    """Every row of every journal continues the one before it, by the bytes that lie there."""
    for account in a.accounts:
        stored = []
        for text in account.texts:
            data = json.loads(text)
            hash = data.pop("hash")
            stored.append(Stored(data["seq"], canonical(data).decode(), hash))
        try:
            list(fitting(stored))
        except JournalError as error:
            yield f"{account.machine}: {error}"


def replay_decides_the_same(a: Aftermath) -> Iterator[str]:
    """The fold over a journal makes the decisions that were made."""
    for account in a.accounts:
        for difference in compare(account.rows):
            yield f"{account.machine}: event {difference.row.seq} is decided otherwise"
            break


def an_intent_is_durable_before_its_effect(a: Aftermath) -> Iterator[str]:
    """Nothing leaves a process before its journal says that it is about to."""
    for sent, account in _sent(a):
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
    for sent, account in _sent(a):
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
    for sent, account in _sent(a):
        yield from _too_early(account, sent.step, sent.durable, "sent")
    for account in a.accounts:
        for seq, command in account.commands(*STARTING):
            yield from _too_early(account, command.step or "", seq, command.verb)


def what_must_not_be_repeated_takes_a_word(a: Aftermath) -> Iterator[str]:
    """An action that is not safe to repeat is sent once, and once more for each time that a person said so."""
    for account in a.accounts:
        sent = Counter(s.step for s, by in _sent(a) if by is account)
        for id, count in sent.items():
            repeat = _repeat(account, id)
            if repeat == "ask" and count > 1 + account.consents(id) + _untouched(account, id):
                yield f"{id} was sent {count} times, and people agreed {account.consents(id)} times"


def effects_are_as_the_journal_says(a: Aftermath) -> Iterator[str]:
    """The world ends as in a run without trouble, or the run says which step is not certain."""
    if a.final is None or a.state is None or a.final.outcome is None:
        return
    cut = {"east"} if a.history.world.cut_at < math.inf else set()
    touched = cut | a.history.world.by_hand | {s.name for s in effects(a.history.world) if s.lease_s <= 0}
    # A rollback in the lost tail of a journal that was read back from its copy: `Resumed.from_copy` says so.
    disk = a.history.current.process.machine.disk if a.history.current else None
    touched |= {s.name for s in effects(a.history.world) if s.journal is not disk and s.step.startswith(PREFIX)}
    for name, wanted in _expected(a.state, a.final).items():
        if wanted is not None and name not in touched and a.history.world.values.get(name, 0) != wanted:
            yield f"{name} is {a.history.world.values.get(name, 0)}, and by the journal it must be {wanted}"


def one_holder(a: Aftermath) -> Iterator[str]:
    """Never do two processes hold the environment's lease."""
    yield from a.history.two_holders


def sent_under_a_lease(a: Aftermath) -> Iterator[str]:
    """Whoever sends holds a lease that lasts, unless it was frozen after it had looked."""
    for sent in a.history.world.sent:
        if sent.lease_s < LEASE_FLOOR_S - 1e-6 and sent.process.froze < 0:
            yield f"{sent.step} was sent at {sent.t:.1f} with {sent.lease_s:.1f} s of the lease left"


def stale_holders_change_nothing(a: Aftermath) -> Iterator[str]:
    """What is sent when the lease is over is refused where the target can, else its outcome is called uncertain."""
    for sent, account in _sent(a):
        if sent.lease_s > 0:
            continue
        if sent.checked and sent.fate == "done":
            yield f"{sent.step} was let in by its target at {sent.t:.1f}, without a lease"
        done = next((seq for seq, f in account.of(sent.step, e.Done) if f.attempt == sent.attempt and not f.adopted), 0)
        if not sent.checked and done and a.history.overtaken(sent.process, sent.t):
            yield f"{sent.step} is called done (event {done}), and was sent when another process held the lease"


def one_writable_side(a: Aftermath) -> Iterator[str]:
    """Never can both sides write, unless two different persons passed the fence and stated the loss."""
    passed = any(
        len(account.overridden(step.id)) > 1 for account in a.accounts for step in account.plan.steps if step.fences
    )
    if not passed:
        yield from (text for rule, text in a.history.world.wrong if rule == "two_writable")


def users_go_where_one_can_write(a: Aftermath) -> Iterator[str]:
    """Users are never sent to a side that cannot write."""
    yield from (text for rule, text in a.history.world.wrong if rule == "users")


def compensations_run_once_and_backwards(a: Aftermath) -> Iterator[str]:
    """Every compensation that is due ran once, and none before those of the steps that needed its own."""
    account, state = a.final, a.state
    if account is None or state is None or account.outcome != "rolled_back":
        return
    due = [s for s in state.steps.values() if s.undoes is None and s.intent and s.undo]
    for step in due:
        ended = list(account.of(PREFIX + step.id, e.Done, e.AlreadySo)) + _settled(account, PREFIX + step.id)
        if len(ended) != 1:
            yield f"{step.id} was to be undone, and was {len(ended)} times"
    for step in due:
        started = _first(account, PREFIX + step.id)
        for later in due:
            if step.id in _ancestors(account, later.id) and started < _last(account, PREFIX + later.id):
                yield f"{step.id} was undone (event {started}) before {later.id}, which needs it"


def due_compensations_are_known(a: Aftermath) -> Iterator[str]:
    """A step that changed the world, or may have, and is taken back is undone; one that cannot be forbids it."""
    account = a.final
    if account is None or account.outcome != "rolled_back":
        return
    for step in account.plan.steps:
        sent = [s for s, by in _sent(a) if by is account and s.step == step.id]
        if sent and step.irreversible:
            yield f"{step.id} was sent and cannot be undone, and the run was rolled back"
        undone = list(account.of(PREFIX + step.id))
        if sent and not step.irreversible and not undone and not _skipped_by_hand(account, step.id):
            yield f"{step.id} was sent, and nothing took it back"


def approvals_are_real(a: Aftermath) -> Iterator[str]:
    """A gate opens when enough different persons in its role said yes to this plan and to what it shows."""
    for account in a.accounts:
        gates = {step.id: step for step in account.plan.steps if step.kind == "gate" and step.on_failure != "skip"}
        for seq, command in account.commands(*STARTING):
            step = account.step(command.step or "")
            for need in step.needs if step is not None else ():
                if need in gates and not account.approved(gates[need], seq):
                    yield f"{command.verb} {command.step} (event {seq}) behind {need}, which nobody approved"


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


def fences_are_seen_or_passed_by_two(a: Aftermath) -> Iterator[str]:
    """What needs a fence starts when the fence was observed, or when two different persons passed it."""
    for account in a.accounts:
        fences = {step.id for step in account.plan.steps if step.fences}
        for seq, command in account.commands(*STARTING):
            step = account.step(command.step or "")
            for need in step.needs if step is not None else ():
                if need in fences and not (
                    any(account.of(need, e.Done, e.AlreadySo, upto=seq)) or len(account.overridden(need)) > 1
                ):
                    yield f"{command.verb} {command.step} (event {seq}) behind {need}, which was not seen"


def retries_have_a_limit(a: Aftermath) -> Iterator[str]:
    """By itself a step is tried again only as often as its plan says, counted from a person's last word."""
    for account in a.accounts:
        tries: Counter[str] = Counter()
        for row in account.rows:
            if isinstance(row.fact, e.Ordered) and row.fact.verb in ("retry", "resolve", "resume", "done"):
                tries.clear()
            for command in row.commands:
                if command.verb == "timer" and str(command.args["timer"]).startswith("retry"):
                    if not isinstance(row.fact, e.Resumed):
                        tries[command.step or ""] += 1
                    step = account.step(command.step or "")
                    limit = 0 if step is None else step.retry.times if step.retry else 3
                    if tries[command.step or ""] > limit:
                        yield f"{command.step} is tried again for the {tries[command.step or '']}th time"


def copied_before_it_is_final(a: Aftermath) -> Iterator[str]:
    """What cannot be undone is sent when its intent is in the state store, or when a person goes on without."""
    for sent, account in _sent(a):
        step = account.step(sent.step)
        if step is None or step.irreversible is None:
            continue
        intent = next((seq for seq, _ in account.of(sent.step, e.Prepared)), 10**9)
        word = any(f.purpose == "uncopied" for _, f in account.of(sent.step, e.Asked, upto=sent.durable))
        if sent.copied < intent and not word:
            yield f"{sent.step} was sent at {sent.t:.1f}; the state store had {sent.copied} of {intent} events"


def a_pause_holds(a: Aftermath) -> Iterator[str]:
    """While a run is paused, or its lease is lost, it starts nothing; it only looks at what was sent."""
    for account in a.accounts:
        paused = lost = False
        for row in account.rows:
            fact = row.fact
            if isinstance(fact, e.Ordered):
                paused = fact.verb == "pause" or (paused and fact.verb not in ("resume", "abort"))
            if isinstance(fact, e.Failed | e.Interrupted | e.Answered | e.Fired) and _ends_the_run(account, row):
                paused = False  # the runbook chose ahead
            if isinstance(fact, e.LeaseChanged):
                lost = fact.state != "held"
            for command in row.commands:
                resumed = isinstance(fact, e.Resumed) or command.verb == "ask"
                if (paused or lost) and command.verb in STARTING and not resumed:
                    yield f"{command.verb} {command.step} (event {row.seq}) while the run is held"


INVARIANTS: tuple[Invariant, ...] = (
    the_run_ends,
    the_chain_is_unbroken,
    replay_decides_the_same,
    an_intent_is_durable_before_its_effect,
    what_was_before_is_recorded_once,
    nothing_completed_is_sent_again,
    needs_have_ended,
    what_must_not_be_repeated_takes_a_word,
    effects_are_as_the_journal_says,
    one_holder,
    sent_under_a_lease,
    stale_holders_change_nothing,
    one_writable_side,
    users_go_where_one_can_write,
    compensations_run_once_and_backwards,
    due_compensations_are_known,
    approvals_are_real,
    answers_fit_their_question,
    fences_are_seen_or_passed_by_two,
    retries_have_a_limit,
    copied_before_it_is_final,
    a_pause_holds,
)


def broken(history: History) -> list[str]:
    """`rule: how it was broken`, for each rule that was; the first way only."""
    aftermath = Aftermath(history)
    found = ((rule.__name__, next(rule(aftermath), None)) for rule in INVARIANTS)
    return [f"{name}: {how}" for name, how in found if how is not None]


def _sent(a: Aftermath) -> Iterator[tuple[Sent, Account]]:
    """What left a process, with that process's journal."""
    for sent in a.history.world.sent:
        account = a.account_of(sent)
        if account is not None:
            yield sent, account


def _too_early(account: Account, id: str, seq: int, verb: str) -> Iterator[str]:
    step = account.step(id)
    for need in step.needs if step is not None else ():
        if not account.may_have_ended(account.plan.step(need), seq):
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


def _expected(state: RunState, account: Account) -> dict[str, int | None]:
    """What the world must be, by name; None: the run says itself that it does not know."""
    found: dict[str, int | None] = {}
    taken_back: set[str] = set()
    for step in state.steps.values():
        params = step.params or step.plan.params
        if step.plan.kind != "action" or step.undoes is not None:
            continue
        name, to = str(params["name"]), params["to"]
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


def _doubted(state: RunState) -> set[str]:
    """Names at which the journal itself says that its end is missing."""
    return {
        str(step.plan.params.get("name"))
        for step in state.steps.values()
        if step.doubtful and step.ended not in (Status.DONE, Status.COMPENSATED)
    }


def _ends_the_run(account: Account, row: e.Row) -> bool:
    """Whether a step ended so that its `on_failure` says: abort."""
    fact = row.fact
    id = fact.timer.split()[1] if isinstance(fact, e.Fired) else str(getattr(fact, "step", ""))
    step = None if id.startswith(PREFIX) else account.plan.step(id)
    return step is not None and step.on_failure in ("abort", "rollback")


def _settled(account: Account, id: str) -> list[tuple[int, Any]]:
    """Where people declared a compensation over."""
    if any(account.of(id, e.Done, e.AlreadySo)):
        return []
    return [(seq, o) for seq, o in account.of(id, e.Ordered) if o.verb in ("skip", "resolve", "done")][-1:]


def _first(account: Account, id: str) -> int:
    return next((seq for seq, _ in account.of(id, e.Prepared, e.AlreadySo)), 10**9)


def _last(account: Account, id: str) -> int:
    return max((seq for seq, f in account.of(id) if isinstance(f, e.Done | e.AlreadySo)), default=0)


def _ancestors(account: Account, id: str) -> set[str]:
    found: set[str] = set()
    queue = [id]
    for each in queue:
        new = [need for need in account.plan.step(each).needs if need not in found]
        found.update(new)
        queue.extend(new)
    return found


def _skipped_by_hand(account: Account, id: str) -> bool:
    return any(o.verb in ("skip", "resolve") for _, o in account.of(id, e.Ordered))


__all__ = ["INVARIANTS", "SENDING", "broken"]
