"""What watches a run while faults are held: it stops it for a breach, for what cannot be told, and for the lever."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
import trio
import trio.testing
from engine_fakes import Folding, order, step

from drkit.engine.guard import LEVER_EVERY_S, LOOK_EVERY_S, Guard, holding
from drkit.engine.simulated import VirtualClock
from drkit.errors import JournalError
from drkit.model import events as e
from drkit.model.events import Fact
from drkit.model.observation import Verdict
from drkit.model.plan import Plan


@dataclass
class Said:
    """What an expression comes out as."""

    verdict: Verdict
    reason: str = "as seen"


@dataclass
class Watching:
    """A guard over one held fault, with what its expressions come out as, by their text."""

    answers: dict[str, Verdict] = field(default_factory=dict)
    lever: Callable[[], str | None] = lambda: None
    put: list[Fact] = field(default_factory=list)
    asked: int = 0

    def run(self, for_s: float, *, fold: Folding | None = None) -> list[Fact]:
        """What it orders and tells within so many (virtual) seconds."""
        fold = fold or drill()
        plan = fold.state.plan.but(
            stop_when=tuple(each for each in self.answers if each.startswith("stop")),
            steady=tuple(each for each in self.answers if each.startswith("steady")),
        )

        async def main() -> None:
            guard = Guard(self._scene(plan), fold.state, self.put.append, self._pulled)
            with anyio.move_on_after(for_s):
                await guard.run()

        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.05))
        return self.put

    def _pulled(self) -> str | None:
        self.asked += 1
        return self.lever()

    def _scene(self, watched: Plan) -> Any:
        outer = self

        class Scene:
            plan = watched
            clock = VirtualClock()

            def context(self, step: str, attempt: int) -> None:
                return None

            async def answer(self, text: str, ctx: None, *, args: dict[str, Any]) -> Said:
                return Said(outer.answers[text])

        return Scene()


def drill(*, injected: bool = True) -> Folding:
    """A fault, injected or not, and its heal behind a step that goes on."""
    fault = step("break").model_copy(update={"part": "inject"})
    heal = step("heal-break", "work").model_copy(update={"part": "heal", "heals": "break"})
    fold = Folding(fault, step("work", "break"), heal)
    if injected:
        fold.whole("break")
    return fold


def orders(put: list[Fact]) -> list[tuple[Any, str | None]]:
    return [(fact.by["how"], fact.reason) for fact in put if isinstance(fact, e.Ordered)]


@pytest.mark.parametrize(("verdict", "word"), [(Verdict.PASS, "as seen"), (Verdict.UNKNOWN, "cannot be told")])
def test_a_breach_and_what_cannot_be_told_end_the_run_at_the_first_look(verdict: Verdict, word: str) -> None:
    ((how, reason),) = orders(Watching({"stop a": Verdict.FAIL, "stop b": verdict}).run(LOOK_EVERY_S / 2))
    assert how == "stop_when" and "stop b" in str(reason) and word in str(reason)


def test_as_long_as_nothing_is_wrong_nothing_is_ordered() -> None:
    watching = Watching({"stop a": Verdict.FAIL, "steady": Verdict.PASS})
    assert watching.run(10) == []
    assert watching.asked == pytest.approx(10 / LEVER_EVERY_S, abs=1)


def test_a_breach_before_anything_is_injected_and_after_all_is_healed_is_nobodys_concern() -> None:
    breached = {"stop a": Verdict.PASS}
    assert Watching(breached).run(3, fold=drill(injected=False)) == []
    healed = drill()
    for id in ("work", "heal-break"):
        healed.whole(id)
    assert not holding(healed.state) and Watching(breached).run(3, fold=healed) == []


def test_an_inject_whose_result_nobody_saw_counts_as_held() -> None:
    fold = drill(injected=False)
    fold.prepared("break")
    assert holding(fold.state)


def test_the_lever_ends_the_run_and_a_silent_store_does_not() -> None:
    assert orders(Watching(lever=lambda: "engaged by dana").run(1)) == [("chaos lever", "engaged by dana")]

    def silent() -> str | None:
        raise JournalError("the store does not answer")

    watching = Watching(lever=silent)
    assert watching.run(5) == [] and watching.asked > 1


def test_a_run_that_is_being_aborted_is_not_aborted_again() -> None:
    fold = drill()
    fold.take(order("abort"))
    assert Watching({"stop a": Verdict.PASS}).run(3, fold=fold) == []


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.UNKNOWN])
def test_a_steady_state_that_does_not_hold_is_told_once_and_stops_nothing(verdict: Verdict) -> None:
    (told,) = Watching({"steady a": verdict, "steady b": Verdict.PASS}).run(5)
    assert isinstance(told, e.Deviated) and (told.expect, told.verdict) == ("steady a", verdict.value)


def test_plans_without_anything_to_watch_need_no_guard() -> None:
    plan: Plan = drill().state.plan
    assert plan.injects and not Folding(step("a")).state.plan.injects
