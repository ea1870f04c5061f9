"""The one action that the engine's benchmark is made of: it sleeps as long as it is told, and says that it ran."""

from __future__ import annotations

from typing import Self

import anyio
from adapter import Check

from drkit.catalog import action, probe
from drkit.context import Context, Secrets
from drkit.model.environment import Environment
from drkit.model.observation import Observation
from drkit.model.params import Params, Use


class Bench:
    """The world: which steps have run. A provider, as whatever steps act on is."""

    def __init__(self, check: Check) -> None:
        self.check = check

    @classmethod
    def connect(cls, environment: Environment, secrets: Secrets) -> Self:
        """Never called: the benchmark gives its own."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Nothing to close."""


class Work(Params):
    """Sleep, and have run."""

    number: int
    """Number of the step."""
    seconds: float = 0.0
    """How long it sleeps."""


class Count(Observation):
    """How many there are, as of replicas."""

    count: int
    ready: int


@probe("bench.count", side="neither")
async def count(ctx: Context, p: Work) -> Count:
    """Four once the step has run, three before."""
    there = 4 if p.number in ctx.use(Bench).check.done else 3
    return Count(count=there, ready=there)


@action("bench.work", observe=count, repeat="safe", side="neither")
async def work(ctx: Context, p: Work, before: Count) -> None:
    """Sleep, and have run."""
    check = ctx.use(Bench).check
    check.start(p.number)
    if p.seconds:
        await anyio.sleep(p.seconds)
    check.finish(p.number)


@work.check
def has_run(p: Work, now: Count) -> bool:
    return now.count == now.ready == 4


@work.undo
def work_back(p: Work, before: Count, after: Count | None) -> Use | None:
    return work.use(p)
