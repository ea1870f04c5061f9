"""The engine in a world where time is a number: a 12-hour failover runs in milliseconds, the same way every time.

Runs on trio with a virtual clock that jumps to the next deadline as soon as everybody waits; hence no threads. A seed
drives the fake world's latencies and mishaps (`Chance`) and the order in which the inbox yields what came at once.
Events and commands pass through JSON, so that nothing but what a journal can hold is ever handed over. Trio's private
switches for deterministic scheduling are touched here and nowhere else.
"""

from __future__ import annotations

import json
import random
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context
from typing import Any, TypeVar

import anyio

from drkit.engine.executor import Executor, Report
from drkit.engine.memory import MemoryInbox
from drkit.errors import NotSupported
from drkit.model.events import Command, Fact
from drkit.model.values import canonical

T = TypeVar("T")

#: When a simulation's wall clock begins: a Monday.
EPOCH = 1_767_571_200.0


class VirtualClock:
    """The event loop's clock; implements the port `Clock`."""

    def monotonic(self) -> float:
        """Seconds on the loop's clock."""
        return anyio.current_time()

    def wall(self) -> float:
        """Seconds since the epoch, from a fixed beginning."""
        return EPOCH + anyio.current_time()

    async def sleep(self, seconds: float) -> None:
        """Wait; costs no real time."""
        await anyio.sleep(seconds)


def simulate(
    body: Callable[[], Awaitable[T]], *, seed: int = 0, on_step: Callable[[Context], None] | None = None
) -> T:  # fmt: skip
    """Run `body` on the virtual clock; the same seed gives the same run. NotSupported if trio is not installed.

    `on_step` is told the context of a task whenever that is about to go on after an await: the moments at which a
    process can be killed or frozen.
    """
    try:
        import trio._core._run as switches
        from trio.testing import MockClock
    except ImportError as error:
        raise NotSupported("simulations need trio", hint="pip install 'drkit[testing]'") from error
    was = switches._ALLOW_DETERMINISTIC_SCHEDULING
    state = switches._r.getstate()
    switches._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    switches._r.seed(seed)
    try:
        watching = [] if on_step is None else [_Steps(on_step)]
        options = {"clock": MockClock(autojump_threshold=0), "instruments": watching}
        return anyio.run(body, backend="trio", backend_options=options)
    finally:
        switches._ALLOW_DETERMINISTIC_SCHEDULING = was  # type: ignore[misc]
        switches._r.setstate(state)


class _Steps:
    """A trio instrument (found by the name of its method)."""

    def __init__(self, on_step: Callable[[Context], None]) -> None:
        self._on_step = on_step

    def before_task_step(self, task: Any) -> None:
        self._on_step(task.context)


class Chance:
    """What happens by chance, by seed: how long something takes, and what goes wrong with it."""

    def __init__(self, seed: int, *, mishaps: Mapping[str, float] | None = None, latency_s: float = 0.2) -> None:
        """`mishaps`: probability of each, by name; what is left of 1 goes well. `latency_s`: the median."""
        self._random = random.Random(seed)
        self._mishaps = dict(mishaps or {})
        self._latency_s = latency_s

    def latency_s(self) -> float:
        """Seconds for one call: around the median, now and then ten times as long."""
        return self._latency_s * self._random.lognormvariate(0.0, 0.8)

    def mishap(self) -> str | None:
        """The name of what goes wrong with one call, or None."""
        point = self._random.random()
        for name, probability in self._mishaps.items():
            point -= probability
            if point < 0:
                return name
        return None

    def toss(self) -> bool:
        """One way or the other."""
        return self._random.random() < 0.5

    def shuffle(self, things: list[Any]) -> None:
        """Put them into some order."""
        self._random.shuffle(things)


class SeededInbox(MemoryInbox):
    """Yields what came at once in an order of the seed; what one source said stays in the order it was said.

    Each step is a source; runner, people and timers together are another one.
    """

    def __init__(self, chance: Chance) -> None:
        super().__init__()
        self._chance = chance

    def put(self, fact: Fact) -> None:
        """Accept a fact, as a journal would give it back."""
        super().put(Fact.from_json(json.loads(canonical(fact.to_json()))))

    def drain(self) -> list[Fact]:
        """Everything accepted since."""
        facts = super().drain()
        sources = [getattr(fact, "step", None) if fact.kind.startswith("step.") else None for fact in facts]
        turns = list(sources)
        self._chance.shuffle(turns)
        waiting = {source: [f for f, s in zip(facts, sources, strict=True) if s == source] for source in turns}
        return [waiting[source].pop(0) for source in turns]


class JsonExecutor:
    """Hands an executor what a journal could hold, and nothing else."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def carry_out(self, command: Command, report: Report) -> None:
        """As `Executor.carry_out`."""
        await self._executor.carry_out(Command.from_json(json.loads(canonical(command.to_json()))), report)
