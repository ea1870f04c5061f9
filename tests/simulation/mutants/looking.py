"""The executor broken: what is believed, and under which lease it sends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from drkit.engine import sending, watching
from drkit.model import events as e
from drkit.model.observation import State
from simulation.mutants.mutant import Patch, mutant


@mutant
def believe_the_answer() -> Sequence[Patch]:
    """What an API acknowledged is taken to be done, without looking."""
    settled = sending.settled

    async def trusting(scene: Any, job: Any, call: Any, before: Any) -> e.Fact:
        if call.lost is None and call.failed is None:
            return e.Done(step=job.step.id, attempt=job.attempt, after=job.command.args["before"])
        return await settled(scene, job, call, before)

    return [(sending, "settled", trusting)]


@mutant
def believe_a_stale_look() -> Sequence[Patch]:
    """What looks absent after a lost answer is believed at once, however long its effect takes to show."""
    watch = watching.watch

    async def hasty(look: Any, clock: Any, **more: Any) -> Any:
        stop = more.get("stop")
        if stop is not None and stop.__name__ == "absent":
            more["stop"] = lambda sight: "absent" if sight.checked is State.ABSENT else None
        return await watch(look, clock, **more)

    return [(sending, "watch", hasty)]


@mutant
def forget_the_lease() -> Sequence[Patch]:
    """Nobody looks at the lease before an effect is sent."""

    async def unchecked(scene: Any, job: Any) -> None:
        return None

    return [(sending, "with_lease", unchecked)]


@mutant
def call_stale_sends_done() -> Sequence[Patch]:
    """What was sent after the lease had run out is called done when it looks so."""

    async def trusting(scene: Any, job: Any, fact: e.Fact) -> e.Fact:
        return fact

    return [(sending, "still_ours", trusting)]
