"""Carry out one command of the fold and report what happened: what each verb means, in terms of looking and sending.

Whatever goes wrong becomes a fact; nothing is raised but cancellation, and that only after it was reported. How it is
looked is in `looking`; how something is sent, and what became of it, in `sending`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from drkit.catalog import Action, Gate, Probe
from drkit.engine import looking, sending, undoing
from drkit.engine.gates import shown_hash
from drkit.engine.jobs import Job, attempt_of
from drkit.engine.scene import CannotStart, Scene, validated
from drkit.engine.watching import Sight, watch
from drkit.model import events as e
from drkit.model.events import Command, Fact
from drkit.model.observation import State
from drkit.model.params import Params
from drkit.model.plan import PlanStep
from drkit.model.values import Json

Report = Callable[[Fact], None]


class Executor:
    """Carries out commands for one run. Reached through `carry_out` only."""

    def __init__(self, scene: Scene, *, log: Callable[[str], None] = lambda line: None) -> None:
        """`log` receives redacted lines for the run's log: what actions found out, and tracebacks' last words."""
        self._scene, self._log = scene, log
        self._looked_up: dict[str, tuple[dict[str, Json], Params]] = {}  # of steps whose intent is being recorded
        self._verbs: dict[str, Callable[[Job], Awaitable[Fact]]] = {
            "prepare": self._prepare, "apply": self._apply, "observe": self._observe,
            "recover": lambda job: sending.recovered(self._scene, job),
        }  # fmt: skip

    async def carry_out(self, command: Command, report: Report) -> None:
        """Do it and report how it ended as exactly one fact (none if it was cancelled before anything could be said).

        Beside it an action may have told what became of a fault.
        """
        attempt = attempt_of(command)
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
        entry = self._scene.catalog.entry(step.uses)
        if isinstance(entry, Gate):
            raise CannotStart(f"{step.uses} is an approval, not something to carry out")
        attempt = attempt_of(command)
        ctx = self._scene.context(step.id, attempt, args.get("overrides"), tell=report)
        deadline = self._scene.clock.monotonic() + step.timeout_s
        return Job(command, step, entry, self._params(step, entry, args["params"]), attempt, ctx, deadline)

    def _params(self, step: PlanStep, entry: Probe[Any, Any] | Action[Any, Any], given: Json) -> Params:
        """Validated; what was so before the intent is so still, unless an operator changed it since."""
        plain, params = self._looked_up.pop(step.id, (None, None))
        return params if params is not None and plain == given else validated(entry, given)

    def _step(self, command: Command) -> PlanStep:
        """The step it is about; those that are not in the plan come with the command."""
        own = command.args.get("as")
        return PlanStep.model_validate(own) if own is not None else self._scene.plan.step(command.step or "")

    async def _decide(self, command: Command) -> Fact:
        """Whether a nested runbook is needed."""
        if command.args.get("broken"):
            raise CannotStart(str(command.args["broken"]))
        unneeded = await looking.unneeded(self._scene, command, self._step(command))
        return unneeded or e.Done(step=command.step or "", attempt=attempt_of(command), after=None)

    async def _prepare(self, job: Job) -> Fact:
        """Look before anything is sent: already so, or the intent."""
        unneeded = await looking.unneeded(self._scene, job.command, job.step)
        if unneeded is not None:
            return unneeded
        guard = job.command.args.get("guard")
        settle_s = undoing.settle_s(self._scene.catalog, guard) if isinstance(guard, dict) else 0.0
        sight = await looking.first_look(self._scene, job, settle_s)
        if sight.look is None:
            error = f"could not be observed before anything was sent: {sight.why}"
            return e.Failed(step=job.step.id, attempt=job.attempt, error=error, world="untouched")
        if isinstance(guard, dict) and sight.state is not State.HOLDS:
            present = await undoing.compare(self._scene, job.ctx, guard, job.step.timeout_s)
            if present.as_before and settle_s:
                await self._scene.clock.sleep(settle_s)
                present = await undoing.compare(self._scene, job.ctx, guard, job.step.timeout_s)
            if present.as_before:
                return e.AlreadySo(step=job.step.id, params=job.plain, seen=sight.look)
            if present.differs is not None:
                return e.Uncertain(step=job.step.id, attempt=job.attempt, reason=present.differs, seen=sight.look)
        if sight.state is State.HOLDS and job.step.skippable and job.action.skippable:
            return e.AlreadySo(step=job.step.id, params=job.plain, seen=sight.look)
        if job.command.args.get("doubtful") and job.action.repeat == "ask":
            return self._doubted(job, sight)
        undo = undoing.undo_of(self._scene.catalog, job.action, job.params, sight.observation, None)
        plain = job.plain
        self._looked_up[job.step.id] = plain, job.params
        return e.Prepared(step=job.step.id, attempt=job.attempt, params=plain, before=sight.look, undo=undo)

    def _doubted(self, job: Job, sight: Sight) -> Fact:
        """The journal's tail is missing, and the action must not be repeated blindly."""
        if sight.state is State.HOLDS:
            return e.Done(step=job.step.id, attempt=job.attempt, after=sight.look, adopted=True, params=job.plain)
        reason = "the end of the journal is missing: it may have been sent before, and is not safe to repeat"
        return e.Uncertain(step=job.step.id, attempt=job.attempt, reason=reason, seen=sight.look)

    async def _apply(self, job: Job) -> Fact:
        """Send, then look until the effect is there. The lease is checked directly before the send."""
        scene, before = self._scene, job.before
        await sending.with_lease(scene, job)
        try:
            call = await sending.send(scene, job, before)
        finally:
            self._write_down(job)
        return await sending.still_ours(scene, job, await sending.settled(scene, job, call, before))

    async def _observe(self, job: Job) -> Fact:
        """A probe step: done when it was seen and `verify` holds, for as long as `hold`."""
        probe = job.entry
        assert isinstance(probe, Probe)  # the plan's kind says so
        unneeded = await looking.unneeded(self._scene, job.command, job.step)
        if unneeded is not None:
            return unneeded
        end = await watch(
            lambda within_s: looking.look(self._scene, job, probe, None, None, within_s), self._scene.clock,
            deadline=self._scene.clock.monotonic() if job.once else job.deadline, poll_s=job.step.poll_s,
            hold_s=0.0 if job.once else job.step.hold_s,
        )  # fmt: skip
        self._write_down(job)
        if end.reason == "holds":
            return e.Done(step=job.step.id, attempt=job.attempt, after=end.sight.look, params=job.plain)
        within = "" if end.reason == "shut out" else f" within {job.step.timeout_s:g} s"
        error = f"not so{within}: {end.sight.why}"
        return e.Failed(
            step=job.step.id, attempt=job.attempt, error=error, world="untouched", seen=end.sight.look
        )  # fmt: skip

    async def _ask(self, command: Command) -> Fact:
        """Put a question: what is shown is fixed from here on, and an answer binds to it."""
        args, step = command.args, command.step or ""
        if args.get("broken"):
            raise CannotStart(str(args["broken"]))
        if args.get("purpose") == "gate":
            unneeded = await looking.unneeded(self._scene, command, self._step(command))
            if unneeded is not None:
                return unneeded
        given = args.get("shown")
        what: dict[str, Json] = given if isinstance(given, dict) else {}
        purpose = str(args.get("purpose"))
        hash = shown_hash(str(args.get("plan_hash")), step, purpose, what)
        return e.Asked(step=step, shown=what, shown_hash=hash, purpose=purpose)

    def _write_down(self, job: Job) -> None:
        for key, text in job.ctx.scratch.items():
            self._log(self._scene.secrets.redact(f"{job.step.id} attempt {job.attempt}: {key}: {text}"))


def _answer(command: Command) -> dict[str, Any]:
    return {key: command.args[key] for key in ("answer", "by", "role", "reason", "plan_hash", "shown_hash")}
