"""The executor broken: what is believed, and under which lease it sends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from drkit.engine import executor, watching
from drkit.model import events as e
from drkit.model.observation import State
from simulation.mutants.mutant import Patch, mutant


@mutant
def believe_the_answer() -> Sequence[Patch]:
    """What an API acknowledged is taken to be done, without looking."""
    settled = executor.Executor._settled

    async def trusting(self: Any, job: Any, action: Any, sent: float, lost: str | None, *more: Any) -> e.Fact:
        if lost is None:
            return e.Done(step=job.step.id, attempt=job.attempt, after=job.command.args["before"])
        return await settled(self, job, action, sent, lost, *more)

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
