"""What a step looks at: whether it is needed, what is there before it, and whether the world is as it wants it."""

from __future__ import annotations

from typing import Any

from drkit.catalog import Action, Probe
from drkit.engine.jobs import Job, attempt_of
from drkit.engine.scene import Scene
from drkit.engine.watching import Sight, verified, watch
from drkit.model import events as e
from drkit.model.events import Command, Fact
from drkit.model.observation import Observation, State, Verdict
from drkit.model.plan import PlanStep


async def look(
    scene: Scene, job: Job, probe: Probe[Any, Any], action: Action[Any, Any] | None, before: Observation | None,
    within_s: float,
) -> Sight:  # fmt: skip
    """One look, and what the action's check and the runbook's `verify` say of it."""
    now, seen, why, shut_out = await scene.see(probe, job.ctx, job.params, within_s)
    if now is None:
        return Sight(State.UNKNOWN, State.UNKNOWN, why, shut_out=shut_out)
    checked = State.HOLDS if action is None else action.state(job.params, now)
    value = seen["value"] if seen is not None else None
    sight = Sight(checked, checked, "", now, seen)
    if checked is not State.HOLDS or job.step.verify is None:
        return sight
    was = None if before is None else before.model_dump(mode="json")
    answer = await scene.answer(job.step.verify, job.ctx, args=job.command.args, now=value, before=was)
    return verified(sight, answer.verdict, f"{answer.reason} ({sight.why})")


async def first_look(scene: Scene, job: Job, settle_s: float) -> Sight:
    """What is there before: seen at least once, and for as long as `hold` if all is as wanted already.

    Before something is taken back also for as long as that may take to show (`settle_s`).
    """
    end = await watch(
        lambda within_s: look(scene, job, job.action.observe, job.action, None, within_s), scene.clock,
        deadline=job.deadline, poll_s=job.step.poll_s,
        hold_s=max(job.step.hold_s if job.step.skippable else 0.0, settle_s),
        stop=lambda sight: "seen" if sight.look is not None else None,
    )  # fmt: skip
    return end.sight


async def unneeded(scene: Scene, command: Command, step: PlanStep) -> Fact | None:
    """What `when` says: needed (None), not needed, or it cannot be told and a person must say."""
    if step.when is None:
        return None
    attempt = attempt_of(command)
    answer = await scene.answer(step.when, scene.context(step.id, attempt), args=command.args)
    if answer.verdict is Verdict.PASS:
        return None
    if answer.verdict is Verdict.FAIL:
        return e.NotNeeded(step=step.id, attempt=attempt, why=f"when: {answer.reason}")
    error = f"whether it is needed is unknown: {answer.reason}"
    hint = f"drkit skip {scene.run} {step.id} --reason ..."
    return e.Failed(step=step.id, attempt=attempt, error=error, world="untouched", hint=hint)
