"""Send one effect under the lease, and find out what became of it, at once or after a crash.

What an API answers to a write is not believed, only what is observed after it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import anyio

from drkit.engine import undoing
from drkit.engine.jobs import Job
from drkit.engine.looking import look
from drkit.engine.scene import CannotStart, Scene
from drkit.engine.watching import Sight, watch
from drkit.errors import DrkitError, NotSupported, Refused, ShutOut, StepFailed, Unreachable
from drkit.model import events as e
from drkit.model import written
from drkit.model.events import Fact
from drkit.model.observation import Observation, State
from drkit.model.written import Written

#: An effect starts only while the lease still lasts this long, or as long as its call, whichever is less. A rival
#: that takes over waits for the longest call on top of the lease's term.
LEASE_FLOOR_S = 2.0
LEASE_POLL_S = 0.25
#: So long a renewal that is under way may take to show whether the lease was ours all the while.
LEASE_VERDICT_S = 6.0


class Call(NamedTuple):
    """A call that is over. `began`, `ended`: on `clock.monotonic()`; `lost`: why its answer is not known."""

    began: float
    ended: float
    lost: str | None = None
    failed: Fact | None = None
    """What is known of the world already: nothing needs to be looked at."""
    turned_away: bool = False
    """Nobody took it: if nothing of it is there, nothing was begun."""


async def with_lease(scene: Scene, job: Job) -> None:
    """Directly before the send; waits while too little of the lease is left, CannotStart at the deadline."""
    lease, clock = scene.lease, scene.clock
    needed_s = min(job.step.timeout_s, LEASE_FLOOR_S)
    while lease is not None and (lasts_s := lease.remaining_s()) < needed_s:
        if clock.monotonic() >= job.deadline:
            left = f"{max(lasts_s, 0):.1f} s of it are left, {needed_s:.1f} s are needed"
            raise CannotStart(f"not sent: the environment's lease runs out ({left})")
        await clock.sleep(LEASE_POLL_S)


async def send(scene: Scene, job: Job, before: Observation) -> Call:
    """One call of the action, for as long as its step may take."""
    began = scene.clock.monotonic()
    lost: str | None = None
    failed: Fact | None = None
    turned_away = False
    try:
        with anyio.move_on_after(job.step.timeout_s) as call, written.attempt() as sent:
            await job.action.apply(job.ctx, job.params, before)
        if call.cancelled_caught:
            lost = f"no answer within {job.step.timeout_s:g} s"
    except (NotSupported, Refused, ShutOut, StepFailed) as error:
        # What refuses one call knows nothing of those before it; StepFailed speaks of the whole attempt.
        world = error.world if isinstance(error, StepFailed) else sent.world
        if world == "unknown":
            lost = str(error)
        else:
            failed = _failed(job, error, world, sent)
    except Exception as error:  # noqa: BLE001 - the answer is lost, whatever it was: look
        lost = f"{type(error).__name__}: {error}"
        turned_away = isinstance(error, Unreachable)
    return Call(began, scene.clock.monotonic(), lost, failed, turned_away)


async def settled(scene: Scene, job: Job, call: Call, before: Observation) -> Fact:
    """What became of something that was sent."""
    if call.failed is not None:
        return call.failed
    action, clock, lost = job.action, scene.clock, call.lost
    settle_s = max(job.step.settle_s, action.settle_s)

    def absent(sight: Sight) -> str | None:
        # Only a lost answer makes absence final; what was acknowledged may still be on its way. Whoever is frozen
        # over the call, or connects again in it, sends only just before it ends.
        gone = lost is not None and sight.checked is State.ABSENT
        return "absent" if gone and clock.monotonic() - call.ended >= settle_s else None

    deadline = min(call.began + job.step.timeout_s, _healed_by(job, call.ended))
    end = await watch(
        lambda within_s: look(scene, job, action.observe, action, before, within_s), clock,
        deadline=max(deadline, call.ended + (settle_s if lost else 0)),
        poll_s=job.step.poll_s, hold_s=_hold_s(job, before, settle_s), stop=absent,
    )  # fmt: skip
    sight = end.sight
    if end.reason == "holds":
        undo = undoing.undo_of(scene.catalog, action, job.params, before, sight.observation)
        return e.Done(step=job.step.id, attempt=job.attempt, after=sight.look, undo=undo)
    if sight.checked is State.UNKNOWN:
        reason = f"{lost or 'sent, and acknowledged'}; {sight.why}"
        return e.Uncertain(step=job.step.id, attempt=job.attempt, reason=reason, seen=sight.look)
    world = "changed" if lost is None else "turned-away" if call.turned_away else "unknown"
    if clock.monotonic() >= _healed_by(job, call.ended):
        return _too_late(scene, job, sight, world, lost)
    error = f"{lost or f'not as wanted within {job.step.timeout_s:g} s'}; {sight.why}"
    return e.Failed(step=job.step.id, attempt=job.attempt, error=error, world=world, seen=sight.look)


async def still_ours(scene: Scene, job: Job, fact: Fact) -> Fact:
    """What became of it, if the lease was ours all the while; a renewal that succeeds shows that it was.

    Whoever is frozen between check and send sends under a lease that is over. A target that can, refuses; where
    it cannot, another holder may have changed the same before or since, and what was seen says nothing about us.
    """
    lease, clock = scene.lease, scene.clock
    if lease is None or not job.action.unfenced or not isinstance(fact, e.Done):
        return fact
    until = clock.monotonic() + LEASE_VERDICT_S
    while lease.remaining_s() <= 0:
        if clock.monotonic() >= until:
            reason = "it was sent, and the lease ran out meanwhile: another run may have changed the same"
            return e.Uncertain(step=job.step.id, attempt=job.attempt, reason=reason, seen=fact.after)
        await clock.sleep(LEASE_POLL_S)
    return fact


async def recovered(scene: Scene, job: Job) -> Fact:
    """After a crash or a lost answer: adopt what is there, wait for what is in progress, report what is absent."""
    action, clock, before, once = job.action, scene.clock, job.recorded, job.once
    started = clock.monotonic()
    over = _healed_by(job, started)  # it was armed before
    settle_s = 0.0 if once else max(job.step.settle_s, action.settle_s)

    def absent(sight: Sight) -> str | None:
        return "absent" if sight.checked is State.ABSENT and clock.monotonic() - started >= settle_s else None

    end = await watch(
        lambda within_s: look(scene, job, action.observe, action, before, within_s), clock,
        deadline=started if once else max(min(job.deadline, over), started + settle_s), poll_s=job.step.poll_s,
        hold_s=0.0 if once else _hold_s(job, before, settle_s), stop=absent,
    )  # fmt: skip
    sight, id, attempt = end.sight, job.step.id, job.attempt
    if end.reason == "holds":
        known = before is not None
        undo = undoing.undo_of(scene.catalog, action, job.params, before, sight.observation) if known else None
        return e.Done(step=id, attempt=attempt, after=sight.look, adopted=True, params=job.plain, undo=undo)
    if end.reason == "absent":
        return e.NotDone(step=id, attempt=attempt, seen=sight.look)
    if sight.checked is State.UNKNOWN:
        reason = f"it may have been sent, and cannot be observed: {sight.why}"
        return e.Uncertain(step=id, attempt=attempt, reason=reason, seen=sight.look)
    if not once and clock.monotonic() >= over:
        return _too_late(scene, job, sight, "changed")
    error = f"not as wanted within {job.step.timeout_s:g} s: {sight.why}"
    return e.Failed(step=id, attempt=attempt, error=error, world="changed", seen=sight.look)


def _failed(job: Job, error: DrkitError, world: str, sent: Written) -> Fact:
    said = f"{error} {sent}" if world == "changed" and sent.through else str(error)
    return e.Failed(step=job.step.id, attempt=job.attempt, error=said, world=world, hint=error.hint)


def _healed_by(job: Job, armed: float) -> float:
    """When the lease is over of what was armed by then, on the same clock: what it breaks can hold no more."""
    return math.inf if job.lease_s is None else armed + job.lease_s


def _too_late(scene: Scene, job: Job, sight: Sight, world: str, lost: str | None = None) -> Fact:
    """A fault that did not come to hold while its lease lasted."""
    assert job.lease_s is not None  # it is over
    over = f"its lease of {job.lease_s:g} s is over, so it can hold no more"
    error = f"{lost or 'not as wanted'}; {over}; {sight.why}"
    hint = f"drkit chaos leftovers --env {scene.plan.environment}"
    return e.Failed(step=job.step.id, attempt=job.attempt, error=error, world=world, hint=hint, seen=sight.look)


def _hold_s(job: Job, before: Observation | None, settle_s: float) -> float:
    """How long it must look as wanted. A fault may show only after the first look for it: what looked healed already
    must look so for as long as effects take to show."""
    healed = job.step.heals is not None and before is not None and job.action.state(job.params, before) is State.HOLDS
    return max(job.step.hold_s, settle_s) if healed else job.step.hold_s
