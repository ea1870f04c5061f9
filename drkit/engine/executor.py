"""Carry out one command of the fold and report what happened. No rules here but those of looking and sending.

Whatever goes wrong becomes a fact; nothing is raised but cancellation, and that only after it was reported. Before
anything is sent the lease is checked; what an API answers to a write is not believed, only what is observed after it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import anyio

from drkit.catalog import Action, Catalog, Entry, Gate, Probe
from drkit.context import Context, Providers, Secrets
from drkit.engine import undoing
from drkit.engine.gates import shown_hash
from drkit.engine.scene import CannotStart, Evaluate, Scene, evaluate_expression, validated
from drkit.engine.watching import Sight, verified, watch
from drkit.errors import DrkitError, NotSupported, OutcomeUnknown, Refused, StepFailed, Unreachable
from drkit.model import events as e
from drkit.model.events import Command, Fact
from drkit.model.observation import Observation, State, Verdict
from drkit.model.params import Params
from drkit.model.plan import Plan, PlanStep
from drkit.model.ports import Clock, Lease
from drkit.model.values import Json

Report = Callable[[Fact], None]

#: An effect starts only while the lease still lasts this long, or as long as its call, whichever is less. A rival
#: that takes over waits for the longest call on top of the lease's term.
LEASE_FLOOR_S = 2.0
LEASE_POLL_S = 0.25
#: So long a renewal that is under way may take to show whether the lease was ours all the while.
LEASE_VERDICT_S = 6.0


class Job(NamedTuple):
    """A command with everything it refers to looked up."""

    command: Command
    step: PlanStep
    entry: Entry
    params: Params
    attempt: int
    ctx: Context
    deadline: float

    @property
    def plain(self) -> dict[str, Json]:
        """The parameters as they are journaled."""
        return self.params.model_dump(mode="json")


class Executor:
    """Carries out commands for one run. Reached through `carry_out` only."""

    def __init__(
        self,
        plan: Plan,
        catalog: Catalog,
        providers: Providers,
        secrets: Secrets,
        clock: Clock,
        *,
        run: str,
        drill: bool = False,
        lease: Lease | None = None,
        fencing_token: int = 0,
        evaluate: Evaluate = evaluate_expression,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        """`log` receives redacted lines for the run's log: what actions found out, and tracebacks' last words."""
        self._scene = Scene(
            plan, catalog, providers, secrets, clock, run=run, drill=drill, lease=lease, fencing_token=fencing_token,
            evaluate=evaluate,
        )  # fmt: skip
        self._plan, self._catalog, self._clock, self._secrets, self._log = plan, catalog, clock, secrets, log
        self._looked_up: dict[str, tuple[dict[str, Json], Params]] = {}  # of steps whose intent is being recorded
        self._verbs = {
            "prepare": self._prepare, "apply": self._apply, "observe": self._observe, "recover": self._recover,
        }  # fmt: skip

    async def carry_out(self, command: Command, report: Report) -> None:
        """Do it and report how it ended as exactly one fact (none if it was cancelled before anything could be said).

        Beside it an action may have told what became of a fault.
        """
        attempt = _attempt(command)
        step = command.step or ""
        sent = command.verb in ("apply", "recover")
        try:
            if command.verb == "ask":
                fact = await self._ask(command)
            elif command.verb == "decide":
                fact = await self._decide(command)
            elif command.verb == "answer":
                fact = e.Answered(step=step, **_answer(command))
            else:
                fact = await self._verbs[command.verb](self._job(command, report))
        except anyio.get_cancelled_exc_class():
            report(e.Interrupted(step=step, attempt=attempt, sent=sent))
            raise
        except CannotStart as error:
            # What recovery is about was sent by an earlier attempt.
            world = "unknown" if command.verb == "recover" else "untouched"
            fact = e.Failed(step=step, attempt=attempt, error=str(error), world=world)
        except Exception as error:  # noqa: BLE001 - a bug in an action or here is a failed step, not a lost run
            world = "unknown" if sent else "untouched"
            fact = e.Failed(step=step, attempt=attempt, error=f"{type(error).__name__}: {error}", world=world)
        report(fact)

    # What a command means

    def _job(self, command: Command, report: Report) -> Job:
        args = command.args
        if args.get("broken"):
            raise CannotStart(str(args["broken"]))
        step = self._step(command)
        entry = self._catalog.entry(step.uses)
        if isinstance(entry, Gate):
            raise CannotStart(f"{step.uses} is an approval, not something to carry out")
        attempt = _attempt(command)
        ctx = self._scene.context(step.id, attempt, args.get("overrides"), tell=report)
        deadline = self._clock.monotonic() + step.timeout_s
        return Job(command, step, entry, self._params(step, entry, args["params"]), attempt, ctx, deadline)

    def _params(self, step: PlanStep, entry: Probe[Any, Any] | Action[Any, Any], given: Json) -> Params:
        """Validated; what was so before the intent is so still, unless an operator changed it since."""
        plain, params = self._looked_up.pop(step.id, (None, None))
        return params if params is not None and plain == given else validated(entry, given)

    def _step(self, command: Command) -> PlanStep:
        """The step it is about; those that are not in the plan come with the command."""
        own = command.args.get("as")
        return PlanStep.model_validate(own) if own is not None else self._plan.step(command.step or "")

    async def _decide(self, command: Command) -> Fact:
        """Whether a nested runbook is needed."""
        if command.args.get("broken"):
            raise CannotStart(str(command.args["broken"]))
        unneeded = await self._unneeded(command, self._step(command))
        return unneeded or e.Done(step=command.step or "", attempt=_attempt(command), after=None)

    async def _prepare(self, job: Job) -> Fact:
        """Look before anything is sent: already so, or the intent."""
        action = _action(job)
        unneeded = await self._unneeded(job.command, job.step)
        if unneeded is not None:
            return unneeded
        guard = job.command.args.get("guard")
        settle_s = undoing.settle_s(self._catalog, guard) if isinstance(guard, dict) else 0.0
        sight = await self._first_look(job, action, settle_s)
        if sight.look is None:
            error = f"could not be observed before anything was sent: {sight.why}"
            return e.Failed(step=job.step.id, attempt=job.attempt, error=error, world="untouched")
        if isinstance(guard, dict) and sight.state is not State.HOLDS:
            present = await undoing.compare(self._scene, job.ctx, guard, job.step.timeout_s)
            if present.as_before and settle_s:
                await self._clock.sleep(settle_s)
                present = await undoing.compare(self._scene, job.ctx, guard, job.step.timeout_s)
            if present.as_before:
                return e.AlreadySo(step=job.step.id, params=job.plain, seen=sight.look)
            if present.differs is not None:
                return e.Uncertain(step=job.step.id, attempt=job.attempt, reason=present.differs, seen=sight.look)
        if sight.state is State.HOLDS and job.step.skippable and action.skippable:
            return e.AlreadySo(step=job.step.id, params=job.plain, seen=sight.look)
        if job.command.args.get("doubtful") and action.repeat == "ask":
            return self._doubted(job, sight)
        undo = self._undo(job, action, sight.observation, None)
        plain = job.plain
        self._looked_up[job.step.id] = plain, job.params
        return e.Prepared(step=job.step.id, attempt=job.attempt, params=plain, before=sight.look, undo=undo)

    async def _first_look(self, job: Job, action: Action[Any, Any], settle_s: float) -> Sight:
        """What is there before: seen at least once, and for as long as `hold` if all is as wanted already.

        Before something is taken back also for as long as that may take to show (`settle_s`).
        """
        end = await watch(
            lambda within_s: self._look(job, action.observe, action, None, within_s), self._clock,
            deadline=job.deadline, poll_s=job.step.poll_s,
            hold_s=max(job.step.hold_s if job.step.skippable else 0.0, settle_s),
            stop=lambda sight: "seen" if sight.look is not None else None,
        )  # fmt: skip
        return end.sight

    def _doubted(self, job: Job, sight: Sight) -> Fact:
        """The journal's tail is missing, and the action must not be repeated blindly."""
        if sight.state is State.HOLDS:
            return e.Done(step=job.step.id, attempt=job.attempt, after=sight.look, adopted=True, params=job.plain)
        reason = "the end of the journal is missing: it may have been sent before, and is not safe to repeat"
        return e.Uncertain(step=job.step.id, attempt=job.attempt, reason=reason, seen=sight.look)

    async def _apply(self, job: Job) -> Fact:
        """Send, then look until the effect is there. The lease is checked directly before the send."""
        action = _action(job)
        before = _before(job, action)
        await self._with_lease(job)
        sent = self._clock.monotonic()
        lost: str | None = None
        world = "unknown"
        try:
            with anyio.move_on_after(job.step.timeout_s) as call:
                await action.apply(job.ctx, job.params, before)
            if call.cancelled_caught:
                lost = f"no answer within {job.step.timeout_s:g} s"
        except (NotSupported, Refused) as error:
            return self._failed(job, error, "untouched")
        except OutcomeUnknown as error:
            lost = str(error)
        except StepFailed as error:
            if error.world != "unknown":
                return self._failed(job, error, error.world)
            lost = str(error)
        except Exception as error:  # noqa: BLE001 - the answer is lost, whatever it was: look
            lost = f"{type(error).__name__}: {error}"
            world = "turned-away" if isinstance(error, Unreachable) else "unknown"
        finally:
            self._write_down(job)
        return await self._still_ours(job, action, await self._settled(job, action, sent, lost, world, before))

    async def _with_lease(self, job: Job) -> None:
        """Directly before the send; waits while too little of the lease is left, CannotStart at the deadline."""
        lease = self._scene.lease
        needed_s = min(job.step.timeout_s, LEASE_FLOOR_S)
        while lease is not None and (lasts_s := lease.remaining_s()) < needed_s:
            if self._clock.monotonic() >= job.deadline:
                left = f"{max(lasts_s, 0):.1f} s of it are left, {needed_s:.1f} s are needed"
                raise CannotStart(f"not sent: the environment's lease runs out ({left})")
            await self._clock.sleep(LEASE_POLL_S)

    async def _still_ours(self, job: Job, action: Action[Any, Any], fact: Fact) -> Fact:
        """What became of it, if the lease was ours all the while; a renewal that succeeds shows that it was.

        Whoever is frozen between check and send sends under a lease that is over. A target that can, refuses; where
        it cannot, another holder may have changed the same before or since, and what was seen says nothing about us.
        """
        lease = self._scene.lease
        if lease is None or not action.unfenced or not isinstance(fact, e.Done):
            return fact
        until = self._clock.monotonic() + LEASE_VERDICT_S
        while lease.remaining_s() <= 0:
            if self._clock.monotonic() >= until:
                reason = "it was sent, and the lease ran out meanwhile: another run may have changed the same"
                return e.Uncertain(step=job.step.id, attempt=job.attempt, reason=reason, seen=fact.after)
            await self._clock.sleep(LEASE_POLL_S)
        return fact

    async def _settled(
        self, job: Job, action: Action[Any, Any], sent: float, lost: str | None, world: str, before: Observation
    ) -> Fact:
        """What became of something that was sent; `lost`: why its answer is not known, `world`: what is, if absent."""
        settle_s = max(job.step.settle_s, action.settle_s)
        # Whoever is frozen over the call, or connects again in it, sends only just before it ends.
        ended = self._clock.monotonic()

        def absent(sight: Sight) -> str | None:
            # Only a lost answer makes absence final; what was acknowledged may still be on its way.
            gone = lost is not None and sight.checked is State.ABSENT
            return "absent" if gone and self._clock.monotonic() - ended >= settle_s else None

        end = await watch(
            lambda within_s: self._look(job, action.observe, action, before, within_s), self._clock,
            deadline=max(sent + job.step.timeout_s, ended + (settle_s if lost else 0)),
            poll_s=job.step.poll_s, hold_s=_hold_s(job, action, before, settle_s), stop=absent,
        )  # fmt: skip
        sight = end.sight
        if end.reason == "holds":
            undo = self._undo(job, action, before, sight.observation)
            return e.Done(step=job.step.id, attempt=job.attempt, after=sight.look, undo=undo)
        if sight.checked is State.UNKNOWN:
            reason = f"{lost or 'sent, and acknowledged'}; {sight.why}"
            return e.Uncertain(step=job.step.id, attempt=job.attempt, reason=reason, seen=sight.look)
        error = f"{lost or f'not as wanted within {job.step.timeout_s:g} s'}; {sight.why}"
        world = "changed" if lost is None else world
        return e.Failed(step=job.step.id, attempt=job.attempt, error=error, world=world, seen=sight.look)

    async def _observe(self, job: Job) -> Fact:
        """A probe step: done when it was seen and `verify` holds, for as long as `hold`."""
        probe = job.entry
        assert isinstance(probe, Probe)  # the plan's kind says so
        unneeded = await self._unneeded(job.command, job.step)
        if unneeded is not None:
            return unneeded
        once = bool(job.command.args.get("once"))
        end = await watch(
            lambda within_s: self._look(job, probe, None, None, within_s), self._clock,
            deadline=self._clock.monotonic() if once else job.deadline, poll_s=job.step.poll_s,
            hold_s=0.0 if once else job.step.hold_s,
        )  # fmt: skip
        self._write_down(job)
        if end.reason == "holds":
            return e.Done(step=job.step.id, attempt=job.attempt, after=end.sight.look, params=job.plain)
        error = f"not so within {job.step.timeout_s:g} s: {end.sight.why}"
        return e.Failed(
            step=job.step.id, attempt=job.attempt, error=error, world="untouched", seen=end.sight.look
        )  # fmt: skip

    async def _recover(self, job: Job) -> Fact:
        """After a crash or a lost answer: adopt what is there, wait for what is in progress, report what is absent."""
        action = _action(job)
        before = _recorded(job, action)
        once = bool(job.command.args.get("once"))
        started = self._clock.monotonic()
        settle_s = 0.0 if once else max(job.step.settle_s, action.settle_s)

        def absent(sight: Sight) -> str | None:
            return "absent" if sight.checked is State.ABSENT and self._clock.monotonic() - started >= settle_s else None

        end = await watch(
            lambda within_s: self._look(job, action.observe, action, before, within_s), self._clock,
            deadline=started if once else max(job.deadline, started + settle_s), poll_s=job.step.poll_s,
            hold_s=0.0 if once else _hold_s(job, action, before, settle_s), stop=absent,
        )  # fmt: skip
        sight, id, attempt = end.sight, job.step.id, job.attempt
        if end.reason == "holds":
            undo = None if before is None else self._undo(job, action, before, sight.observation)
            return e.Done(step=id, attempt=attempt, after=sight.look, adopted=True, params=job.plain, undo=undo)
        if end.reason == "absent":
            return e.NotDone(step=id, attempt=attempt, seen=sight.look)
        if sight.checked is State.UNKNOWN:
            reason = f"it may have been sent, and cannot be observed: {sight.why}"
            return e.Uncertain(step=id, attempt=attempt, reason=reason, seen=sight.look)
        error = f"not as wanted within {job.step.timeout_s:g} s: {sight.why}"
        return e.Failed(step=id, attempt=attempt, error=error, world="changed", seen=sight.look)

    async def _ask(self, command: Command) -> Fact:
        """Put a question: what is shown is fixed from here on, and an answer binds to it."""
        args, step = command.args, command.step or ""
        if args.get("broken"):
            raise CannotStart(str(args["broken"]))
        if args.get("purpose") == "gate":
            unneeded = await self._unneeded(command, self._step(command))
            if unneeded is not None:
                return unneeded
        given = args.get("shown")
        what: dict[str, Json] = given if isinstance(given, dict) else {}
        purpose = str(args.get("purpose"))
        hash = shown_hash(str(args.get("plan_hash")), step, purpose, what)
        return e.Asked(step=step, shown=what, shown_hash=hash, purpose=purpose)

    # Looking

    async def _look(
        self, job: Job, probe: Probe[Any, Any], action: Action[Any, Any] | None, before: Observation | None,
        within_s: float,
    ) -> Sight:  # fmt: skip
        now, look, why = await self._scene.see(probe, job.ctx, job.params, within_s)
        if now is None:
            return Sight(State.UNKNOWN, State.UNKNOWN, why)
        checked = State.HOLDS if action is None else action.state(job.params, now)
        seen = look["value"] if look is not None else None
        sight = Sight(checked, checked, "", now, look)
        if checked is not State.HOLDS or job.step.verify is None:
            return sight
        was = None if before is None else before.model_dump(mode="json")
        answer = await self._scene.answer(
            job.step.verify, job.ctx, args=job.command.args, now=seen, before=was
        )  # fmt: skip
        return verified(sight, answer.verdict, f"{answer.reason} ({sight.why})")

    async def _unneeded(self, command: Command, step: PlanStep) -> Fact | None:
        """What `when` says: needed (None), not needed, or it cannot be told and a person must say."""
        if step.when is None:
            return None
        ctx = self._scene.context(step.id, _attempt(command))
        answer = await self._scene.answer(step.when, ctx, args=command.args)
        attempt = _attempt(command)
        if answer.verdict is Verdict.PASS:
            return None
        if answer.verdict is Verdict.FAIL:
            return e.NotNeeded(step=step.id, attempt=attempt, why=f"when: {answer.reason}")
        error = f"whether it is needed is unknown: {answer.reason}"
        hint = f"drkit skip {self._scene.run} {step.id} --reason ..."
        return e.Failed(step=step.id, attempt=attempt, error=error, world="untouched", hint=hint)

    # Words

    def _undo(
        self, job: Job, action: Action[Any, Any], before: Observation | None, after: Observation | None
    ) -> dict[str, Json] | None:  # fmt: skip
        return undoing.undo_of(self._catalog, action, job.params, before, after)

    def _failed(self, job: Job, error: DrkitError, world: str) -> Fact:
        return e.Failed(step=job.step.id, attempt=job.attempt, error=str(error), world=world, hint=error.hint)

    def _write_down(self, job: Job) -> None:
        for key, text in job.ctx.scratch.items():
            self._log(self._secrets.redact(f"{job.step.id} attempt {job.attempt}: {key}: {text}"))


def _attempt(command: Command) -> int:
    attempt = command.args.get("attempt")
    return attempt if isinstance(attempt, int) else 1


def _answer(command: Command) -> dict[str, Any]:
    return {key: command.args[key] for key in ("answer", "by", "role", "reason", "plan_hash", "shown_hash")}


def _action(job: Job) -> Action[Any, Any]:
    assert isinstance(job.entry, Action)  # the plan's kind says so
    return job.entry


def _hold_s(job: Job, action: Action[Any, Any], before: Observation | None, settle_s: float) -> float:
    """How long it must look as wanted. A fault may show only after the first look for it: what looked healed already
    must look so for as long as effects take to show."""
    healed = job.step.heals is not None and before is not None and action.state(job.params, before) is State.HOLDS
    return max(job.step.hold_s, settle_s) if healed else job.step.hold_s


def _before(job: Job, action: Action[Any, Any]) -> Observation:
    before = _recorded(job, action)
    assert before is not None  # an effect is sent only after its intent
    return before


def _recorded(job: Job, action: Action[Any, Any]) -> Observation | None:
    """What was there before, as the intent has it; None: there is no intent (somebody says it is done by hand)."""
    look = job.command.args.get("before")
    if not isinstance(look, dict):
        return None
    observation: Observation = action.observe.answer.model_validate(look.get("value"))
    return observation
