"""What is sent and looked at for one command, and which fact comes of it. Time is virtual."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import anyio
import pytest
from engine_fakes import ENVIRONMENT, LOOK, LoopClock, NoSecrets, World, catalog, plan, step
from trio.testing import MockClock

from drkit.context import Providers
from drkit.engine.executor import Executor
from drkit.engine.scene import Scene
from drkit.errors import OutcomeUnknown, Refused
from drkit.model import events as e
from drkit.model import written
from drkit.model.plan import PlanStep
from drkit.model.values import Json

T = TypeVar("T")
BEFORE: dict[str, Json] = {**LOOK, "value": {"value": None}}


def virtually(body: Callable[[], Awaitable[T]]) -> T:
    return anyio.run(body, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})


@dataclass
class FakeLease:
    left_s: float = 60.0

    def remaining_s(self) -> float:
        return self.left_s


def carried_out(
    verb: str, planned: PlanStep, world: World | None = None, *, lease: Any = None, log: list[str] | None = None,
    after: Callable[[World], Coroutine[Any, Any, None]] | None = None, **args: Any,
) -> tuple[Any, World, float]:  # fmt: skip
    """The fact, the world afterwards, and how many seconds it took."""
    there = World() if world is None else world
    facts: list[e.Fact] = []
    lines = [] if log is None else log

    async def body() -> float:
        scene = Scene(
            plan(planned, probes={"other": {"uses": "fake.value", "params": {"name": "other"}}}), catalog(),
            Providers(ENVIRONMENT, NoSecrets(), {World: there}), NoSecrets(), LoopClock(), "k7qd", lease=lease,
        )  # fmt: skip
        one = Executor(scene, log=lines.append)
        given: dict[str, Json] = {"attempt": 1, "params": planned.params, "timeout_s": planned.timeout_s}
        if verb in ("apply", "recover"):
            given["before"] = BEFORE
        started = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            if after is not None:
                tasks.start_soon(after, there)
            await one.carry_out(
                e.Command(verb=verb, why="test", step=planned.id, args=given | args), facts.append
            )  # fmt: skip
        return anyio.current_time() - started

    took_s = virtually(body)
    (fact,) = facts
    return fact, there, took_s


def later(seconds: float, **values: int) -> Callable[[World], Coroutine[Any, Any, None]]:
    async def change(world: World) -> None:
        await anyio.sleep(seconds)
        world.values.update(values)
        world.blind.clear()

    return change


def test_prepare_records_what_was_there_and_how_to_take_it_back() -> None:
    fact, world, _ = carried_out("prepare", step("a"), World(values={"a": 5}))
    assert isinstance(fact, e.Prepared)
    assert fact.params == {"name": "a", "to": 1}
    assert fact.before is not None and fact.before["value"] == {"value": 5, "answered_by": "world"}
    assert fact.undo is not None and fact.undo["params"] == {"name": "a", "to": 5}
    assert not world.writes


def test_what_is_already_so_is_skipped_and_a_fence_is_not() -> None:
    fact, _, _ = carried_out("prepare", step("a"), World(values={"a": 1}))
    assert isinstance(fact, e.AlreadySo)
    fact, _, _ = carried_out("prepare", step("a", uses="fake.fence"), World(values={"a": 1}))
    assert isinstance(fact, e.Prepared)


def test_already_so_must_hold_as_long_as_the_runbook_says() -> None:
    one = step("a", hold_s=2.0, timeout_s=10.0)
    fact, _, took_s = carried_out("prepare", one, World(values={"a": 1}))
    assert isinstance(fact, e.AlreadySo) and took_s == pytest.approx(2.0)
    fact, _, took_s = carried_out("prepare", one, World(values={"a": 1}), after=later(1.0, a=9))
    assert isinstance(fact, e.Prepared) and took_s == pytest.approx(1.0, abs=0.06)


def test_what_cannot_be_observed_before_is_waited_for_and_then_fails_untouched() -> None:
    fact, _, took_s = carried_out("prepare", step("a", timeout_s=3.0), World(blind={"a"}), after=later(1.0))
    assert isinstance(fact, e.Prepared) and took_s == pytest.approx(1.0, abs=0.06)
    fact, _, took_s = carried_out("prepare", step("a", timeout_s=3.0), World(blind={"a"}))
    assert isinstance(fact, e.Failed) and took_s == pytest.approx(3.0, abs=0.06)
    assert (fact.world, "does not answer" in fact.error) == ("untouched", True)


def test_rendered_parameters_are_validated_again() -> None:
    fact, world, _ = carried_out("prepare", step("a"), params={"name": "a", "to": "seven"})
    assert isinstance(fact, e.Failed) and fact.world == "untouched"
    assert "to: " in fact.error
    assert not world.writes


def test_done_only_when_it_is_observed() -> None:
    fact, world, _ = carried_out("apply", step("a"))
    assert isinstance(fact, e.Done) and not fact.adopted
    assert fact.after is not None and fact.after["value"] == {"value": 1, "answered_by": "world"}
    assert world.writes == [("a", "drkit-k7qd-a")]


def test_a_lost_answer_is_settled_by_looking() -> None:
    fact, _, _ = carried_out("apply", step("a"), World(trouble={"a": ["lose"]}))
    assert isinstance(fact, e.Done)


def test_a_call_that_never_arrived_is_failed_once_absence_is_settled() -> None:
    one = step("a", timeout_s=9.0, settle_s=2.0)
    fact, _, took_s = carried_out("apply", one, World(trouble={"a": ["lost-unsent"]}))
    assert isinstance(fact, e.Failed)
    assert fact.world == "unknown" and took_s == pytest.approx(2.0, abs=0.06)
    assert "connection reset" in fact.error
    fact, _, took_s = carried_out("apply", one, World(trouble={"a": ["lost-unsent"]}), after=later(1.0, a=1))
    assert isinstance(fact, e.Done) and took_s == pytest.approx(1.0, abs=0.06)


def test_who_is_not_reached_is_looked_after_and_turned_away_only_if_it_is_absent() -> None:
    fact, _, _ = carried_out("apply", step("a"), World(trouble={"a": ["shut"]}))
    assert isinstance(fact, e.Failed) and fact.world == "turned-away"
    fact, _, _ = carried_out("apply", step("a"), World(trouble={"a": ["shut"]}, values={"a": 1}))
    assert isinstance(fact, e.Done)
    fact, _, _ = carried_out("apply", step("a"), World(trouble={"a": ["shut"]}, blind={"a"}))
    assert isinstance(fact, e.Uncertain)


def test_a_door_that_stays_shut_is_not_knocked_at_again() -> None:
    one = step("a", timeout_s=60.0, settle_s=5.0)
    fact, world, took_s = carried_out("apply", one, World(trouble={"a": ["key"]}))
    assert isinstance(fact, e.Failed) and not world.writes
    assert (fact.world, fact.hint, took_s) == ("untouched", "cut another one", 0.0)
    for verb in ("prepare", "observe"):
        uses = {"uses": "fake.value", "verify": "now.value == 1"} if verb == "observe" else {}
        fact, _, took_s = carried_out(verb, step("a", timeout_s=60.0, **uses), World(locked={"a"}))
        assert isinstance(fact, e.Failed) and (fact.world, took_s) == ("untouched", 0.0)
        assert "a does not let us look" in fact.error and "within" not in fact.error


def test_what_was_sent_and_may_not_be_looked_at_is_uncertain_at_once() -> None:
    for verb in ("apply", "recover"):
        fact, _, took_s = carried_out(verb, step("a", timeout_s=60.0, settle_s=5.0), World(locked={"a"}))
        assert isinstance(fact, e.Uncertain) and took_s == 0.0 and "a does not let us look" in fact.reason


@pytest.mark.parametrize("word", ["refuse", "key"])
def test_a_refusal_does_not_speak_of_the_calls_before_it(word: str) -> None:
    one = step("a", uses="fake.put-both")
    fact, world, _ = carried_out("apply", one, World(trouble={"a": [word]}))
    assert isinstance(fact, e.Failed) and fact.world == "changed" and len(world.writes) == 2
    assert "Before that, 2 calls went through, the last one " in fact.error


def test_after_a_lost_answer_a_refusal_proves_nothing() -> None:
    with written.attempt() as sent:
        with pytest.raises(OutcomeUnknown), written.writing("one"):
            raise OutcomeUnknown("no answer")
        assert sent.world == "unknown"
        with pytest.raises(Refused), written.writing("two"):
            raise Refused("no")
        assert (sent.through, sent.doubtful) == ([], ["one"])
        written.taken_back()
        assert sent.world == "untouched"
    assert written.so_far().world == "untouched"


def test_a_call_that_hangs_is_given_up_at_the_deadline_and_looked_after() -> None:
    fact, _, took_s = carried_out("apply", step("a", timeout_s=4.0), World(trouble={"a": ["hang"]}))
    assert isinstance(fact, e.Failed) and took_s == pytest.approx(4.0, abs=0.06)
    assert "no answer within 4 s" in fact.error


def test_absence_settles_from_the_end_of_the_call_because_it_may_have_been_sent_only_then() -> None:
    one, world = step("a", timeout_s=4.0, settle_s=2.0), World(trouble={"a": ["hang"]})
    fact, _, took_s = carried_out("apply", one, world, after=later(5.0, a=1))
    assert isinstance(fact, e.Done) and took_s == pytest.approx(5.0, abs=0.06)


def test_sent_and_unobservable_is_uncertain() -> None:
    fact, _, _ = carried_out("apply", step("a"), World(blind={"a"}))
    assert isinstance(fact, e.Uncertain)
    assert "does not answer" in fact.reason


def test_a_refused_call_fails_at_once_with_its_hint() -> None:
    fact, _, took_s = carried_out("apply", step("a"), World(trouble={"a": ["refuse"]}))
    assert isinstance(fact, e.Failed)
    assert (fact.world, fact.hint, took_s) == ("untouched", "grant it", 0.0)
    assert fact.error == "permission denied for hunter2"


def test_what_an_action_knows_of_the_world_is_kept() -> None:
    fact, _, _ = carried_out("apply", step("a"), World(trouble={"a": ["fail"]}))
    assert isinstance(fact, e.Failed) and fact.world == "changed"


def test_acknowledged_but_never_as_wanted_fails_at_the_deadline() -> None:
    one = step("a", params={"name": "a", "to": 1}, timeout_s=2.0, verify="now.value == 2.0")
    fact, _, took_s = carried_out("apply", one)
    assert isinstance(fact, e.Failed) and took_s == pytest.approx(2.0, abs=0.06)
    assert fact.world == "changed" and "now.value is 1" in fact.error


@pytest.mark.parametrize("verb", ["apply", "recover"])
def test_a_fault_that_never_comes_to_hold_fails_when_its_lease_is_over(verb: str) -> None:
    one = step("a", uses="fake.break", params={"name": "a", "lease_s": 5.0}, timeout_s=60.0, verify="now.value == 7")
    fact, _, took_s = carried_out(verb, one, World({"a": 1} if verb == "recover" else {}))
    assert isinstance(fact, e.Failed) and took_s == pytest.approx(5.0, abs=0.06)
    assert fact.world == "changed" and "its lease of 5 s is over, so it can hold no more" in fact.error
    assert fact.hint == "drkit chaos leftovers --env test" and fact.seen is not None
    longer = step("a", uses="fake.break", params={"name": "a", "lease_s": 90.0}, timeout_s=6.0, verify="now.value == 7")
    fact, _, took_s = carried_out(verb, longer, World({"a": 1} if verb == "recover" else {}))
    assert took_s == pytest.approx(6.0, abs=0.06) and "not as wanted within 6 s" in fact.error


def test_a_heal_has_its_own_time_whatever_the_lease_of_its_fault_was() -> None:
    heal = step("a", uses="fake.break.heal", params={"name": "a", "lease_s": 0.5}, timeout_s=4.0, heals="break")
    slow = World({"a": 1}, trouble={"a": ["lost-unsent"]})
    fact, _, took_s = carried_out("apply", heal, slow, after=later(3.0, a=0))
    assert isinstance(fact, e.Done) and took_s == pytest.approx(3.0, abs=0.06)


def test_verify_reads_fresh_probes_and_unknown_is_not_yet() -> None:
    one = step("a", timeout_s=5.0, verify="probes.other.value > 0 && now.value != before.value")
    world = World(values={"other": 3}, blind={"other"})
    fact, _, took_s = carried_out("apply", one, world, after=later(2.0), before={**LOOK, "value": {"value": 0}})
    assert isinstance(fact, e.Done) and took_s == pytest.approx(2.0, abs=0.06)


def test_hold_counts_from_the_beginning_of_the_good_period_and_a_break_starts_again() -> None:
    async def flap(world: World) -> None:
        await anyio.sleep(1.0)
        world.values["a"] = 9
        await anyio.sleep(1.0)
        world.values["a"] = 1

    one = step("a", uses="fake.value", verify="now.value == 1", hold_s=3.0, timeout_s=4.0)
    fact, _, took_s = carried_out("observe", one, World(values={"a": 1}), after=flap)
    assert isinstance(fact, e.Done)
    assert took_s == pytest.approx(5.0, abs=0.12)  # from the second good period; it may outlast the deadline


def test_a_probe_step_times_out_with_what_it_saw() -> None:
    one = step("a", uses="fake.value", verify="now.value == 1", timeout_s=2.0)
    fact, _, took_s = carried_out("observe", one, World(values={"a": 7}))
    assert isinstance(fact, e.Failed) and took_s == pytest.approx(2.0, abs=0.06)
    assert "value=7" in fact.error and fact.seen is not None


def test_when_is_asked_before_anything_else() -> None:
    fact, world, _ = carried_out("prepare", step("a", when="probes.other.value > 3"), World(values={"other": 3}))
    assert isinstance(fact, e.NotNeeded) and "probes.other.value is 3" in fact.why
    assert not world.writes
    fact, _, _ = carried_out("prepare", step("a", when="probes.other.value > 3"), World(blind={"other"}))
    assert isinstance(fact, e.Failed) and "unknown" in fact.error
    fact, _, _ = carried_out("prepare", step("a", when="steps.x.value == 4"), steps={"x": {"value": 4}})
    assert isinstance(fact, e.Prepared)


def test_nothing_is_sent_when_the_lease_is_about_to_run_out() -> None:
    one = step("a", timeout_s=5.0)
    fact, world, took_s = carried_out("apply", one, lease=FakeLease(1.0))
    assert isinstance(fact, e.Failed) and fact.world == "untouched"
    assert took_s == pytest.approx(5.0, abs=0.3)  # it may come back
    assert "1.0 s of it are left, 2.0 s are needed" in fact.error
    assert not world.writes
    fact, _, _ = carried_out("apply", one, lease=FakeLease(2.5))
    assert isinstance(fact, e.Done)


def test_what_was_sent_while_the_lease_ran_out_is_uncertain_where_its_target_cannot_refuse() -> None:
    def at(seconds: float, left_s: float) -> Callable[[World], Coroutine[Any, Any, None]]:
        async def change(world: World) -> None:
            await anyio.sleep(0.1)
            lease.left_s = 0.0
            await anyio.sleep(seconds)
            lease.left_s = left_s

        return change

    lease, slow = FakeLease(), World(latency_s=0.5)
    fact, world, _ = carried_out("apply", step("a"), slow, lease=lease, after=at(20.0, 0.0))
    assert isinstance(fact, e.Uncertain) and world.writes
    assert "the lease ran out meanwhile" in fact.reason and fact.seen is not None
    lease.left_s = 60.0  # a renewal that comes late, and succeeds: nobody else had it
    fact, _, _ = carried_out("apply", step("a"), World(latency_s=0.5), lease=lease, after=at(3.0, 20.0))
    assert isinstance(fact, e.Done)
    lease.left_s = 60.0
    fact, _, _ = carried_out("apply", step("a", uses="fake.fence"), slow, lease=lease, after=at(20.0, 0.0))
    assert isinstance(fact, e.Done)  # its target can refuse, and did not


def test_recover_adopts_what_holds() -> None:
    fact, world, _ = carried_out("recover", step("a"), World(values={"a": 1}))
    assert isinstance(fact, e.Done) and fact.adopted
    assert not world.writes


def test_recover_believes_absence_only_after_it_settled() -> None:
    fact, _, took_s = carried_out("recover", step("a", settle_s=3.0))
    assert isinstance(fact, e.NotDone) and took_s == pytest.approx(3.0, abs=0.06)
    fact, _, _ = carried_out("recover", step("a", settle_s=3.0), after=later(2.0, a=1))
    assert isinstance(fact, e.Done)


@pytest.mark.parametrize("verb", ["apply", "recover"])
def test_a_heal_whose_fault_did_not_show_yet_must_last_until_it_would(verb: str) -> None:
    heal, healed = step("a", heals="break", settle_s=3.0), {**LOOK, "value": {"value": 1}}
    fact, _, took_s = carried_out(verb, heal, World({"a": 1}), before=healed)
    assert isinstance(fact, e.Done) and took_s >= 3.0
    fact, _, took_s = carried_out(verb, heal, World({"a": 1}), before=BEFORE)
    assert isinstance(fact, e.Done) and took_s < 3.0


def test_recover_without_sight_is_uncertain() -> None:
    fact, _, _ = carried_out("recover", step("a"), World(blind={"a"}))
    assert isinstance(fact, e.Uncertain)


def test_declared_done_is_looked_at_once() -> None:
    fact, _, took_s = carried_out("recover", step("a", settle_s=3.0), once=True)
    assert isinstance(fact, e.NotDone) and took_s == 0.0


def test_declared_done_although_nothing_was_ever_sent() -> None:
    fact, _, _ = carried_out("recover", step("a"), World(values={"a": 1}), once=True, before=None)
    assert isinstance(fact, e.Done) and fact.adopted and fact.undo is None  # nothing of ours to take back


def test_after_a_missing_tail_what_must_not_be_repeated_is_not_sent() -> None:
    one = step("a", uses="fake.put-ask")
    fact, _, _ = carried_out("prepare", one, doubtful=True)
    assert isinstance(fact, e.Uncertain) and "end of the journal is missing" in fact.reason
    fact, _, _ = carried_out("prepare", step("a"), doubtful=True)
    assert isinstance(fact, e.Prepared)


def test_a_compensation_asks_if_the_present_is_not_what_was_set() -> None:
    back = step("undo:a", params={"name": "a", "to": 0})
    guard: dict[str, Json] = {
        "uses": "fake.put",
        "params": {"name": "a", "to": 1},
        "before": {**LOOK, "value": {"value": 4}},
    }
    extra: dict[str, Any] = {"guard": guard, "as": back.model_dump(mode="json")}
    fact, _, _ = carried_out("prepare", back, World(values={"a": 1}), **extra)
    assert isinstance(fact, e.Prepared)
    fact, _, _ = carried_out("prepare", back, World(values={"a": 8}), **extra)
    assert isinstance(fact, e.Uncertain) and "value=8" in fact.reason
    for as_before in (0, 4):
        fact, _, _ = carried_out("prepare", back, World(values={"a": as_before}), **extra)
        assert isinstance(fact, e.AlreadySo)


@pytest.mark.parametrize("before", [0, 4])
def test_a_compensation_believes_that_nothing_is_left_to_undo_only_after_it_settled(before: int) -> None:
    """What was sent, and failed, may still begin to show."""
    back = step("undo:a", params={"name": "a", "to": 0})
    guard: dict[str, Json] = {
        "uses": "fake.put-slow",
        "params": {"name": "a", "to": 1},
        "before": {**LOOK, "value": {"value": before}},
    }
    extra: dict[str, Any] = {"guard": guard, "as": back.model_dump(mode="json")}
    fact, _, took_s = carried_out("prepare", back.model_copy(), World(values={"a": before}), **extra)
    assert isinstance(fact, e.AlreadySo) and took_s == pytest.approx(3.0, abs=0.06)
    fact, _, _ = carried_out("prepare", back.model_copy(), World(values={"a": before}), after=later(2.0, a=1), **extra)
    assert isinstance(fact, e.Prepared)


def test_what_is_cancelled_is_reported_before_it_ends() -> None:
    facts: list[e.Fact] = []

    async def body() -> None:
        hanging = Providers(ENVIRONMENT, NoSecrets(), {World: World(trouble={"a": ["hang"]})})
        scene = Scene(plan(step("a", timeout_s=60.0)), catalog(), hanging, NoSecrets(), LoopClock(), "k7qd")
        one = Executor(scene)
        args: dict[str, Json] = {"attempt": 1, "params": {"name": "a"}, "before": BEFORE}
        with anyio.move_on_after(3.0) as scope:
            await one.carry_out(e.Command(verb="apply", why="", step="a", args=args), facts.append)
        assert scope.cancelled_caught

    virtually(body)
    assert facts == [e.Interrupted(step="a", attempt=1, sent=True)]
