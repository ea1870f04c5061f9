"""Every rule of a run: facts go in, commands come out. No I/O, no clock, no randomness; time is `fact.t`.

`Run(plan).take(fact)` is called once per fact, in journal order, and answers with what shall be done about it. Its
state is a function of the plan and of the facts, so whoever reads a journal arrives at the same state (`replay`) and
the same commands. One owner; a fact costs O(1) plus the steps it makes ready.

What each kind of fact does is here; how a step is taken further is in `moves`, on the `board` that all rules share;
who may order what is in `refusals`, what operators' orders do in `steering`, how a run is taken back in
`compensation`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from drkit.engine import compensation, fanout, gates, healing, steering, timers
from drkit.engine.moves import FIRST_VERB, Moves
from drkit.engine.refusals import why_not
from drkit.engine.state import Phase, Status, StepState
from drkit.model import events as e
from drkit.model.events import Command, Fact, Row
from drkit.model.plan import Plan
from drkit.model.values import Json

_WORKING = frozenset({Phase.APPLYING, Phase.OBSERVING, Phase.RECOVERING})
_LOOKING = frozenset({Phase.PREPARING, Phase.OBSERVING, Phase.ASKING})


class Run(Moves):
    """The fold over one run's facts."""

    def take(self, fact: Fact) -> tuple[Command, ...]:
        """The commands this fact causes. A fact that no longer concerns anybody causes none."""
        self.state.seq += 1
        self.state.t = fact.t
        self.out = []
        handler = _HANDLERS.get(type(fact))
        if handler is not None:
            handler(self, fact)
            if self.state.chosen and self.state.paused is None:
                self._take_the_choice()
            if self.state.aborting is not None:
                healing.proceed(self)
            while self.ready:
                self._begin(self.ready.popleft())
            self._conclude()
        return tuple(self.out)

    # The run as a whole

    def _opened(self, fact: e.Opened) -> None:
        state = self.state
        state.run, state.kind, state.drill = fact.run, fact.run_kind, fact.drill
        state.plan_hash, state.policy, state.incident = fact.plan_hash, fact.policy, fact.incident
        state.opened_by = fact.by
        state.anchor(fact.t, fact.wall)

    def _began(self, fact: e.Began) -> None:
        if self.state.began_t is None:
            self.state.began_t = fact.t
            self.refresh()
            timers.deadline(self)
            self.ready.extend(step for step in self.state.steps.values() if not step.missing)

    def _resumed(self, fact: e.Resumed) -> None:
        """A new runner: nobody is at work any more. What had an intent and no result is looked at first."""
        state = self.state
        state.anchor(fact.t, fact.wall)
        state.resumed += 1
        state.fencing_token = fact.fencing_token or state.fencing_token
        for step in list(state.steps.values()):
            if fact.from_copy and step.phase not in (Phase.ENDED, Phase.BLOCKED):
                step.doubtful = True
            if step.phase is Phase.ASKING and step.ask is not None and step.ask.purpose != "gate":
                self.ask_again(step, step.ask, "it was cut off before the question was put")
            elif step.phase in (Phase.PREPARING, Phase.OBSERVING, Phase.ASKING):
                verb = {Phase.PREPARING: "prepare", Phase.ASKING: "ask"}.get(step.phase, FIRST_VERB[step.plan.kind])
                self.move(step, Phase.IDLE)
                self.go(step, verb, "its start was cut off; nothing had been sent")
            elif step.phase is Phase.COPYING and not fact.from_copy:
                self.move(step, Phase.IDLE)
                self.go(step, "copy", "its intent was not yet known to be copied; nothing had been sent")
            elif step.phase in (Phase.APPLYING, Phase.RECOVERING, Phase.COPYING):
                # From a copy also COPYING: that it was copied, and sent after that, may be in the lost tail.
                self.move(step, Phase.IDLE)
                step.exposed = True
                self.go(step, "recover", "it has an intent and no result: look before anything is sent again")
            elif step.phase is Phase.ASKED:
                self._answer_by_policy(step)
        for timer, (whose, at_t) in self.timers.items():
            self.command("timer", "armed again", whose, {"timer": timer, "at_t": at_t})
        if state.announcing is not None:
            compensation.announce(self)
        self.state.finishing = False

    def _lease(self, fact: e.LeaseChanged) -> None:
        self.state.lease = fact
        self.state.fencing_token = fact.token or self.state.fencing_token
        self.refresh()
        self.release_held()

    def _copied(self, fact: e.Copied) -> None:
        announcing = self.state.announcing
        if announcing is not None and (fact.error is not None or fact.upto >= announcing):
            compensation.announced(self)
        for step in self.state.steps.values():
            if step.phase is not Phase.COPYING:
                continue
            if fact.error is not None:
                shown = {"error": fact.error, "irreversible": step.plan.irreversible}
                self.question(step, "uncopied", "the state store is down and this step cannot be undone", shown=shown)
            elif fact.upto >= step.copy_upto:
                self.go(step, "apply", "its intent is in the state store too")

    def _noted(self, fact: e.Noted) -> None:
        self.state.notes.append({"t": fact.t, "text": fact.text, "by": fact.by})

    def _finished(self, fact: e.Finished) -> None:
        state = self.state
        state.outcome, state.why, state.finished_t = fact.outcome, fact.why, fact.t
        for step in state.steps.values():
            if step.phase is not Phase.ENDED and step.ended not in (Status.FAILED, Status.UNCERTAIN):
                self.end(step, Status.CANCELLED, f"the run ended: {fact.outcome}")
        self.ready.clear()
        self.refresh()

    def _take_the_choice(self) -> None:
        """Carry out what failed steps' `on_failure` says; where it cannot be, the run pauses at the step."""
        chosen, self.state.chosen = self.state.chosen, {}
        for id, order in chosen.items():
            step = self.state.steps[id]
            if self.state.aborting is not None or step.phase is not Phase.BLOCKED:
                continue  # people decided otherwise meanwhile
            refused = why_not(order, self.state)
            if refused is None:
                steering.abort(self, order)
            else:
                step.reason = refused
        self.release_held()

    def _conclude(self) -> None:
        """Say `finish` once, when nothing is left to do."""
        state = self.state
        if state.busy or self.state.finishing or state.began_t is None or state.outcome is not None:
            return
        if state.aborting is not None:
            if state.backing_off or not compensation.complete(self) or healing.unfinished(state):
                return
            left = healing.failures(state)
            if left:
                names = ", ".join(f"{step.plan.heals} ({step.error})" for step in left)
                self._finish("failed", f"not healed: {names}; drkit chaos stop --all heals what is left")
                return
            outcome = "rolled_back" if state.rolling_back else "aborted"
            self._finish(outcome, state.aborting.reason or "an operator ended it")
        elif not state.unsettled:
            self._finish("done", "every step is done or skipped")

    def _finish(self, outcome: str, why: str) -> None:
        self.state.finishing = True
        self.command("finish", why, None, {"outcome": outcome})

    # Steps

    def _begin(self, step: StepState) -> None:
        """Its needs have ended: start it, or skip it as was ordered."""
        if step.phase is not Phase.IDLE or healing.must_wait(self.state, step):
            return
        if step.skip is not None:
            self.end(step, Status.SKIPPED, step.skip.reason)
        elif step.plan.join is not None:
            fanout.take_turn(self, step, step.plan.join)
        else:
            count = len(step.plan.needs)
            self.go(step, FIRST_VERB[step.plan.kind], f"its {count} needs have ended" if count else "it needs nothing")

    def _prepared(self, fact: e.Prepared) -> None:
        step = self.working(fact.step, fact.attempt, (Phase.PREPARING,))
        if step is None:
            return
        step.intent, step.params, step.before, step.undo = True, fact.params, fact.before, fact.undo
        if step.plan.irreversible is None:
            self.go(step, "apply", "its intent is durable")
            return
        if step.undoes is None:
            self.state.point_of_no_return = self.state.point_of_no_return or step.id
        self.go(step, "copy", "it cannot be undone: its intent must be in the state store first")

    def _already(self, fact: e.AlreadySo) -> None:
        step = self.working(fact.step, None, (Phase.PREPARING,))
        if step is not None:
            step.params, step.after = fact.params, fact.seen
            self.end(step, Status.SKIPPED, "already so")

    def _not_needed(self, fact: e.NotNeeded) -> None:
        step = self.working(fact.step, fact.attempt, _LOOKING)
        if step is not None and step.plan.fences:
            self.fail(step, f"a fence is never skipped ({fact.why})", "untouched", None)
        elif step is not None and step.plan.kind == "when":
            fanout.not_needed(self, step, fact.why)
        elif step is not None:
            self.end(step, Status.SKIPPED, fact.why)

    def _done(self, fact: e.Done) -> None:
        step = self.working(fact.step, fact.attempt, _WORKING)
        if step is None:
            return
        step.after, step.adopted = fact.after, fact.adopted
        step.params = step.params if fact.params is None else fact.params
        step.undo = step.undo if fact.undo is None else fact.undo
        if step.claim is not None:
            step.by_hand, step.claim = step.claim.by, None
        self.end(step, Status.DONE, None)

    def _failed(self, fact: e.Failed) -> None:
        step = self.working(fact.step, fact.attempt, _WORKING | _LOOKING)
        if step is None:
            return
        step.seen = fact.seen
        step.exposed |= step.intent and fact.world != "untouched"
        if self.state.lease_lost and fact.world == "untouched" and step.phase is Phase.APPLYING:
            self.effect(step, "it was not sent, because the lease was lost")
        elif step.claim is not None:
            self.second_person(step)
        else:
            self.fail(step, fact.error, fact.world, fact.hint)

    def _uncertain(self, fact: e.Uncertain) -> None:
        step = self.working(fact.step, fact.attempt, _WORKING | {Phase.PREPARING})
        if step is None:
            return
        step.seen = fact.seen
        step.exposed |= step.intent
        if step.claim is not None:
            self.second_person(step)
        else:
            self.uncertain(step, fact.reason)

    def _absent(self, fact: e.NotDone) -> None:
        step = self.working(fact.step, fact.attempt, (Phase.RECOVERING,))
        if step is None:
            return
        step.seen = fact.seen
        if step.claim is not None:
            self.second_person(step)
        elif self.state.aborting is not None and step.undoes is None and step.plan.heals is None:
            self.end(step, Status.CANCELLED, "looked absent when the run was aborted")
        elif step.consent or step.plan.repeat in ("safe", "token"):
            step.consent = False
            step.attempt += 1
            self.effect(step, f"it is absent, and its action may be repeated ({step.plan.repeat})")
        else:
            self.uncertain(step, "it may have been sent, looks absent, and its action is not safe to repeat")

    def _interrupted(self, fact: e.Interrupted) -> None:
        step = self.working(fact.step, fact.attempt, _WORKING | _LOOKING)
        if step is None:
            return
        if fact.sent:
            step.exposed = True
            self.go(step, "recover", "whoever sent it was stopped: look what it left")
        else:
            self.fail(step, "whoever carried it out was stopped", "untouched", None)

    # People and timers

    def _asked(self, fact: e.Asked) -> None:
        step = self.working(fact.step, None, (Phase.ASKING,))
        ask = step.ask if step is not None else None
        if step is None or ask is None or ask.purpose != fact.purpose:
            return
        ask.shown, ask.shown_hash, ask.asked_t = fact.shown, fact.shown_hash, fact.t
        self.move(step, Phase.ASKED)
        timers.question(self, step, ask)
        self._answer_by_policy(step)

    def _answer_by_policy(self, step: StepState) -> None:
        """A drill's recorded answer, if this is a gate and the policy speaks for its role."""
        ask = step.ask
        if ask is None or ask.purpose != "gate":
            return
        answers = ((role, gates.policy_answer(self.state.policy, role)) for role in ask.roles)
        role, recorded = next(((role, found) for role, found in answers if found is not None), (None, None))
        if recorded is not None:
            answer, name, reason = recorded
            by: dict[str, Json] = {"name": name, "uid": None, "how": f"{gates.POLICY} {name}"}
            args: dict[str, Json] = {
                "answer": answer, "by": by, "role": role, "reason": reason, "shown_hash": ask.shown_hash,
                "plan_hash": self.state.plan_hash,
            }  # fmt: skip
            self.command("answer", "the drill's recorded policy answers this role", step, args)

    def _answered(self, fact: e.Answered) -> None:
        if why_not(fact, self.state) is not None:
            return
        step = self.state.steps[fact.step]
        ask = step.ask
        assert ask is not None  # why_not
        ask.answers.append({"by": fact.by, "answer": fact.answer, "reason": fact.reason, "t": fact.t})
        if fact.answer != "approve":
            steering.rejected(self, step, ask, f"rejected by {fact.by.get('name')}: {fact.reason}")
        elif gates.is_policy(fact.by) or len(ask.approved_by) >= ask.approvals:
            steering.granted(self, step, ask)

    def _ordered(self, fact: e.Ordered) -> None:
        if why_not(fact, self.state) is None:
            steering.ORDERS[fact.verb](self, fact)

    def _fired(self, fact: e.Fired) -> None:
        armed = self.timers.pop(fact.timer, None)
        if armed is None:
            return
        step = armed[0]
        if step is None:
            timers.overdue(self)
        elif step.phase is Phase.BACKOFF and fact.timer == f"retry {step.id} {step.attempt}":
            self.again(step, "the wait before its retry is over")
        elif step.phase is Phase.ASKED and step.ask is not None and fact.timer == f"ask {step.id} {step.questions}":
            steering.rejected(self, step, step.ask, f"nobody answered within {step.ask.timeout_s:g} s")
        elif step.ask is not None and timers.escalates(step, step.ask, fact.timer):
            self._answer_by_policy(step)


_HANDLERS: dict[type[Fact], Callable[[Run, Any], None]] = {
    e.Opened: Run._opened,
    e.Began: Run._began,
    e.Resumed: Run._resumed,
    e.LeaseChanged: Run._lease,
    e.Copied: Run._copied,
    e.Prepared: Run._prepared,
    e.AlreadySo: Run._already,
    e.Done: Run._done,
    e.Failed: Run._failed,
    e.Uncertain: Run._uncertain,
    e.NotDone: Run._absent,
    e.NotNeeded: Run._not_needed,
    e.Interrupted: Run._interrupted,
    e.Asked: Run._asked,
    e.Answered: Run._answered,
    e.Ordered: Run._ordered,
    e.Noted: Run._noted,
    e.Fired: Run._fired,
    e.Finished: Run._finished,
}


def replay(rows: Iterable[Row]) -> Run:
    """The run that a journal tells of, ready to take what follows. ValueError if there is no first event."""
    run: Run | None = None
    for row in rows:
        if run is None:
            run = opening(row)
        run.take(row.fact)
    if run is None:
        raise ValueError("the journal is empty")
    return run


def opening(row: Row) -> Run:
    """The run that a journal's first event opens, before it is taken. ValueError if it opens none."""
    if not isinstance(row.fact, e.Opened):
        raise ValueError(f"the journal begins with {row.fact.kind}, not with {e.Opened.kind}")
    return Run(Plan.model_validate(row.fact.plan))
