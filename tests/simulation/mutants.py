"""The engine broken on purpose, one rule at a time: for the time of a simulation, in this process only.

A mutant that no invariant notices means that something is missing among the invariants, or in the world.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from drkit.engine import (
    compensation,
    copy,
    driver,
    executor,
    fold,
    gates,
    lease,
    memory,
    moves,
    refusals,
    state,
    steering,
    undoing,
    watching,
)
from drkit.engine.state import Phase, Status
from drkit.errors import JournalError
from drkit.model import events as e
from drkit.model.observation import State

Patch = tuple[Any, str, Any]


@dataclass(frozen=True)
class Mutant:
    """One seeded bug. `patches` gives what to put where: owner, attribute, replacement."""

    name: str
    sentence: str
    patches: Callable[[], Sequence[Patch]]


MUTANTS: dict[str, Mutant] = {}


def mutant(function: Callable[[], Sequence[Patch]]) -> Callable[[], Sequence[Patch]]:
    """Declare a mutant: its name is the function's, its sentence the docstring."""
    name = function.__name__.replace("_", "-")
    MUTANTS[name] = Mutant(name, (function.__doc__ or "").strip(), function)
    return function


@contextmanager
def applied(name: str | None) -> Iterator[None]:
    """The engine with this bug; None: without one."""
    patches = [] if name is None else list(MUTANTS[name].patches())
    was = [(owner, attribute, owner.__dict__[attribute]) for owner, attribute, _ in patches]
    try:
        for owner, attribute, value in patches:
            setattr(owner, attribute, value)
        yield
    finally:
        for owner, attribute, value in was:
            setattr(owner, attribute, value)


# Journal and driver


@mutant
def skip_the_fsync() -> Sequence[Patch]:
    """An append returns before its rows are durable; a crash loses them."""
    return [(memory.MemoryStore, "_sync", lambda self: None)]


@mutant
def start_before_commit() -> Sequence[Patch]:
    """Commands are started before the rows that caused them are committed."""
    commit = driver.Driver._commit

    async def eager(self: Any, rows: Sequence[e.Row]) -> None:
        for row in rows:
            for command in row.commands:
                self._start(command)
        await commit(self, [replace(row, commands=row.commands) for row in rows])
        for row in rows:
            object.__setattr__(row, "commands", ())

    return [(driver.Driver, "_commit", eager)]


@mutant
def lose_facts_at_a_failed_commit() -> Sequence[Patch]:
    """When the journal cannot be written, what was to be written is forgotten."""

    async def forgetful(self: Any, rows: Sequence[e.Row]) -> None:
        try:
            self._store.append(rows)
        except JournalError:
            return
        self._head = rows[-1].hash
        if self._copier is not None:
            self._copier.committed(rows)

    return [(driver.Driver, "_commit", forgetful)]


@mutant
def break_the_chain() -> Sequence[Patch]:
    """Rows of one commit do not follow each other: each continues the commit before."""
    link = e.Row.link

    def broken(self: Any, facts: Sequence[e.Fact]) -> list[e.Row]:
        rows = whole(self, facts)
        return [link(row.seq, row.at, row.fact, row.commands, self._head) for row in rows]

    whole = driver.Driver._fold
    return [(driver.Driver, "_fold", broken)]


@mutant
def take_refused_orders() -> Sequence[Patch]:
    """Whatever anybody orders is carried out."""
    return [(driver, "why_not", lambda fact, now: None), (fold, "why_not", lambda fact, now: None)]


# Fold: order and repetition


@mutant
def count_a_need_twice() -> Sequence[Patch]:
    """A step that has ended counts twice for what needs it."""
    end = moves.Moves.end

    def ended(self: Any, step: Any, status: Status, reason: str | None) -> None:
        end(self, step, status, reason)
        for dependent in step.dependents if status is not Status.CANCELLED else ():
            if dependent.missing > 0:
                dependent.missing -= 1
                if not dependent.missing:
                    self.ready.append(dependent)

    return [(moves.Moves, "end", ended)]


@mutant
def reapply_without_looking() -> Sequence[Patch]:
    """After a crash what has an intent and no result is sent again at once."""
    go = moves.Moves.go

    def blind(self: Any, step: Any, verb: str, why: str) -> None:
        go(self, step, "apply" if verb == "recover" and "intent and no result" in why else verb, why)

    return [(moves.Moves, "go", blind)]


@mutant
def repeat_what_must_be_asked() -> Sequence[Patch]:
    """What looks absent is sent again, whatever its action says of repeating."""

    def absent(self: Any, fact: e.NotDone) -> None:
        step = self.working(fact.step, fact.attempt, (Phase.RECOVERING,))
        if step is not None:
            step.attempt += 1
            self.effect(step, "it is absent")

    return [(_Handler(e.NotDone), "function", absent)]


@mutant
def repeat_done_steps() -> Sequence[Patch]:
    """After a crash the steps that were done are started again."""
    resumed = fold.Run._resumed

    def again(self: Any, fact: e.Resumed) -> None:
        resumed(self, fact)
        for step in self.state.steps.values():
            if step.ended is Status.DONE and step.plan.kind == "action" and self.state.aborting is None:
                self.state.unsettled += 1
                self.move(step, Phase.IDLE)
                self.go(step, "prepare", "from the beginning")
                return

    return [(_Handler(e.Resumed), "function", again)]


@mutant
def drop_the_retry_limit() -> Sequence[Patch]:
    """A step is tried again for ever."""
    later = moves.Moves._retry_later

    def endless(self: Any, step: Any, retry: Any) -> None:
        step.retries = 0
        later(self, step, retry)
        step.retries = 0

    return [(moves.Moves, "_retry_later", endless)]


@mutant
def ignore_the_pause() -> Sequence[Patch]:
    """A paused run goes on."""

    def refresh(self: Any) -> None:
        self._open = self.state.began_t is not None and self.state.outcome is None and not self.state.lease_lost

    return [(moves.Moves, "refresh", refresh)]


@mutant
def send_before_the_copy() -> Sequence[Patch]:
    """What cannot be undone is sent before its intent is in the state store."""
    go = moves.Moves.go

    def hasty(self: Any, step: Any, verb: str, why: str) -> None:
        go(self, step, "apply" if verb == "copy" else verb, why)

    return [(moves.Moves, "go", hasty)]


@mutant
def prepare_again_at_each_attempt() -> Sequence[Patch]:
    """What was there before is observed anew at each attempt, so that an undo restores what is half changed."""

    def again(self: Any, step: Any, why: str) -> None:
        step.attempt += 1
        step.error = step.hint = step.reason = None
        step.ended = Status.PENDING
        self.go(step, moves.FIRST_VERB[step.plan.kind], why)

    return [(moves.Moves, "again", again)]


# Compensation


@mutant
def compensate_forward() -> Sequence[Patch]:
    """Compensations run in the order of the steps that they take back."""

    def forward(now: Any, *, to: str | None = None) -> list[Any]:
        undone = {s.id: compensation._compensation(s) for s in compensation.changed(now, to=to) if s.undo}
        for step in now.steps.values():
            before = [undone[id] for id in compensation.ancestors(now, step) if id in undone]
            if step.id in undone:
                undone[step.id].missing = len(before)
                for earlier in before:
                    earlier.dependents.append(undone[step.id])
        return list(undone.values())

    return [(compensation, "plan_rollback", forward)]


@mutant
def forget_to_undo_what_failed() -> Sequence[Patch]:
    """Only what is known to be done is taken back."""
    changed = compensation.changed

    def known(now: Any, *, to: str | None = None) -> list[Any]:
        return [step for step in changed(now, to=to) if step.ended is Status.DONE]

    return [(compensation, "changed", known)]


@mutant
def roll_back_what_is_final() -> Sequence[Patch]:
    """A run is rolled back although a step of it cannot be undone."""
    return [(compensation, "why_not_rollback", lambda now, to=None: None)]


# People


@mutant
def one_approval_for_two() -> Sequence[Patch]:
    """The first yes opens a gate that takes two."""
    gate_terms = gates.terms

    def single(params: Any) -> Any:
        return replace(gate_terms(params), approvals=1)

    return [(gates, "terms", single)]


@mutant
def one_person_is_two() -> Sequence[Patch]:
    """The same person may approve twice."""
    return [(gates, "same_person", lambda one, other: False)]


@mutant
def old_approvals_count() -> Sequence[Patch]:
    """An approval counts although what was shown, or the plan, is another one now."""

    def lenient(fact: e.Answered, now: Any) -> str | None:
        step = now.steps[fact.step]
        if step.phase is not Phase.ASKED or step.ask is None:
            return "nobody asks"
        return why_not_answer(replace(fact, plan_hash=now.plan_hash, shown_hash=step.ask.shown_hash), now)

    why_not_answer = refusals._why_not_answer
    return [(refusals, "_why_not_answer", lenient)]


@mutant
def any_role_approves() -> Sequence[Patch]:
    """Whoever answers is taken to be in the role."""
    return [(gates, "in_role", lambda by, claimed, role: True)]


@mutant
def questions_become_approvals() -> Sequence[Patch]:
    """A question that a crash cut off is put again as the approval of the step that it was about."""
    ask_again = moves.Moves.ask_again

    def as_gate(self: Any, step: Any, ask: Any, why: str) -> None:
        if "cut off" in why:
            self.move(step, Phase.IDLE)
            self.go(step, "ask", why)
        else:
            ask_again(self, step, ask, why)

    return [(moves.Moves, "ask_again", as_gate)]


# Fences


@mutant
def skip_a_fence() -> Sequence[Patch]:
    """A fence may be skipped like any other step."""
    skip = refusals._skip

    def lenient(fact: e.Ordered, now: Any) -> str | None:
        refused = skip(fact, now)
        return None if refused is not None and "is a fence" in refused else refused

    return [(refusals, "_skip", lenient), (refusals, "_RULES", {**refusals._RULES, "skip": lenient})]


@mutant
def override_a_fence_alone() -> Sequence[Patch]:
    """One person is enough to pass a fence."""

    def alone(run: Any, order: e.Ordered) -> None:
        given = {"by": order.by, "answer": "approve", "reason": order.reason, "t": run.state.t}
        step = run.state.steps[order.step or ""]
        step.ask = state.Ask("override-fence", answers=[given], shown={"loss_s": order.args.get("loss_s")})
        steering.granted(run, step, step.ask)

    return [(steering, "ORDERS", {**steering.ORDERS, "override-fence": alone})]


@mutant
def believe_a_blind_fence() -> Sequence[Patch]:
    """A side that does not answer is taken to be fenced."""
    settled = executor.Executor._settled

    async def trusting(self: Any, job: Any, action: Any, *rest: Any) -> e.Fact:
        fact = await settled(self, job, action, *rest)
        if action.fences and not isinstance(fact, e.Done):
            return e.Done(step=job.step.id, attempt=job.attempt, after=job.command.args["before"])
        return fact

    return [(executor.Executor, "_settled", trusting)]


# Looking and sending


@mutant
def believe_the_answer() -> Sequence[Patch]:
    """What an API acknowledged is taken to be done, without looking."""
    settled = executor.Executor._settled

    async def trusting(self: Any, job: Any, action: Any, sent: float, lost: str | None, before: Any) -> e.Fact:
        if lost is None:
            return e.Done(step=job.step.id, attempt=job.attempt, after=job.command.args["before"])
        return await settled(self, job, action, sent, lost, before)

    return [(executor.Executor, "_settled", trusting)]


@mutant
def believe_a_stale_look() -> Sequence[Patch]:
    """What looks absent after a lost answer is believed at once, however long its effect takes to show."""
    watch = watching.watch

    async def hasty(look: Any, clock: Any, **more: Any) -> Any:
        stop = more.get("stop")
        if stop is not None and stop.__name__ == "absent":
            more["stop"] = lambda sight: "absent" if sight.checked is State.ABSENT else None
        return await watch(look, clock, **more)

    return [(executor, "watch", hasty)]


@mutant
def believe_that_nothing_is_left_to_undo() -> Sequence[Patch]:
    """What is to be taken back and does not show yet is taken to have left nothing."""
    return [(undoing, "settle_s", lambda catalog, guard: 0.0)]


@mutant
def forget_the_lease() -> Sequence[Patch]:
    """Nobody looks at the lease before an effect is sent."""

    async def unchecked(self: Any, job: Any) -> Any:
        return job

    return [(executor.Executor, "_with_lease", unchecked)]


@mutant
def call_stale_sends_done() -> Sequence[Patch]:
    """What was sent after the lease had run out is called done when it looks so."""

    async def trusting(self: Any, job: Any, action: Any, fact: e.Fact) -> e.Fact:
        return fact

    return [(executor.Executor, "_still_ours", trusting)]


# The lease


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
def copy_claims_success() -> Sequence[Patch]:
    """What is to be in the state store is said to be there before it is."""

    def claim(self: Any, upto: int) -> None:
        want(self, upto)
        self._inbox.put(e.Copied(upto=upto))

    want = copy.JournalCopier.want
    return [(copy.JournalCopier, "want", claim)]


class _Handler:
    """A place in the fold's table of handlers, as an owner of one attribute, `function`."""

    def __init__(self, kind: type[e.Fact]) -> None:
        object.__setattr__(self, "kind", kind)

    def __setattr__(self, name: str, value: Any) -> None:
        fold._HANDLERS[self.kind] = value  # type: ignore[attr-defined]

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        return {"function": fold._HANDLERS[object.__getattribute__(self, "kind")]}
