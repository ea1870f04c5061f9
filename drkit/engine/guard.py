"""While faults are held, watch what must stop the run, and whether the steady state holds that must hold all the while.

It decides nothing: a breach becomes an order to abort, as a person would give it, with who, when and why in the
journal; the fold heals. What cannot be observed stops a run too: whoever breaks things must see what he does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import anyio
import anyio.to_thread

from drkit.engine.scene import Scene
from drkit.engine.state import RunState
from drkit.errors import JournalError
from drkit.model import events as e
from drkit.model.events import Fact
from drkit.model.observation import Verdict

LOOK_EVERY_S: Final = 0.5
LEVER_EVERY_S: Final = 2.0


def holding(state: RunState) -> bool:
    """Whether a fault of this run is, or may be, injected."""
    healed = {step.plan.heals for step in state.heals if step.finished_t is not None}
    return any(step.plan.part == "inject" and step.intent and step.id not in healed for step in state.steps.values())


class Guard:
    """Watches one run. `lever` says why all chaos is to stop (None: it is not); it is asked in a thread."""

    def __init__(
        self, scene: Scene, state: RunState, put: Callable[[Fact], None], lever: Callable[[], str | None]
    ) -> None:
        self._scene, self._state, self._put, self._lever = scene, state, put, lever
        self._deviated: set[str] = set()

    async def run(self) -> None:
        """Watch until something stops the run, or for ever."""
        clock, lever_at = self._scene.clock, 0.0
        while True:
            if holding(self._state) and self._state.aborting is None:
                pulled = None
                if clock.monotonic() >= lever_at:
                    lever_at = clock.monotonic() + LEVER_EVERY_S
                    pulled = await self._pulled()
                why = ("chaos lever", pulled) if pulled is not None else await self.why_stop()
                if why is not None:
                    how, reason = why
                    self._put(e.Ordered(verb="abort", by={"name": "drkit", "how": how}, reason=reason))
                    return
                await self._look_at_steady_state()
            await clock.sleep(LOOK_EVERY_S)

    async def _pulled(self) -> str | None:
        try:
            return await anyio.to_thread.run_sync(self._lever)
        except JournalError:
            return None  # the state store is silent, so nobody can have moved it meanwhile; every fault has its lease

    async def why_stop(self) -> tuple[str, str] | None:
        """What the scenario says must stop the run, if it is so now or cannot be told; and why."""
        for text in self._scene.plan.stop_when:
            answer = await self._scene.answer(text, self._scene.context("guard", 1), args={})
            if answer.verdict is Verdict.PASS:
                return "stop_when", f"stop_when: {text}: {answer.reason}"
            if answer.verdict is Verdict.UNKNOWN:
                return "stop_when", f"stop_when: {text} cannot be told: {answer.reason}"
        return None

    async def _look_at_steady_state(self) -> None:
        for text in self._scene.plan.steady:
            if text in self._deviated:
                continue
            answer = await self._scene.answer(text, self._scene.context("guard", 1), args={})
            if answer.verdict is not Verdict.PASS:
                self._deviated.add(text)
                self._put(e.Deviated(expect=text, reason=answer.reason, verdict=answer.verdict.value))
