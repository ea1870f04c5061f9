"""The lease as runs meet it: who gets it, who is told what, and how long a real run waits for a drill."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio.testing

from drkit.engine.clock import SystemClock
from drkit.engine.identity import ProcessId, process, this_process
from drkit.engine.lease import DRILL_TERM_S, LONGEST_CALL_S, TERM_S, EnvironmentLease, look, unlock
from drkit.errors import JournalError, Locked, Refused
from drkit.providers.objects import FileObjects

ELSEWHERE = ProcessId(1, 1, "another machine")


class LoopClock:
    def monotonic(self) -> float:
        return anyio.current_time()

    def wall(self) -> float:
        return 1_790_000_000 + anyio.current_time()

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)


async def directly(call: Callable[[], Any]) -> Any:
    return call()


@pytest.fixture
def objects(tmp_path: Path) -> FileObjects:
    return FileObjects(tmp_path / "store")


def lease(
    objects: FileObjects, host: str = "bastion-1", process: ProcessId = ELSEWHERE, **more: Any
) -> EnvironmentLease:
    return EnvironmentLease(
        objects, "sandbox", LoopClock(), who="lee", host=host, process=process, in_thread=directly, **more
    )  # fmt: skip


def virtually(body: Callable[[], Awaitable[None]]) -> None:
    trio.run(body, clock=trio.testing.MockClock(autojump_threshold=0))


def test_the_first_gets_it_the_second_is_told_by_whom_and_the_token_grows(objects: FileObjects) -> None:
    async def body() -> None:
        one, two = lease(objects), lease(objects, "bastion-2")
        held = await one.acquire("k7qd", drill=False)
        assert (held.token, one.token) == (1, 1) and one.remaining_s() == TERM_S
        with pytest.raises(Locked) as locked:
            await two.acquire("h2mx", drill=False)
        assert "sandbox is locked. Run k7qd by lee@bastion-1 since " in locked.value.message
        assert f"lock {held.lock_id}" in locked.value.message and "by its clock" in locked.value.message
        assert two.remaining_s() == 0
        await one.release()
        assert one.remaining_s() == 0 and look(objects, "sandbox") is None
        assert (await two.acquire("h2mx", drill=False)).token == 2

    virtually(body)


def test_it_runs_out_unless_it_is_renewed(objects: FileObjects) -> None:
    async def body() -> None:
        one = lease(objects)
        await one.acquire("k7qd", drill=False)
        await anyio.sleep(TERM_S - 1)
        assert one.remaining_s() == pytest.approx(1)
        await one.renew()
        assert one.remaining_s() == pytest.approx(TERM_S)
        await anyio.sleep(TERM_S + 1)
        assert one.remaining_s() < 0

    virtually(body)


class SlowObjects(FileObjects):
    """A store whose writes take their time, and whose answers can be lost."""

    def __init__(self, folder: Path, clock: trio.testing.MockClock) -> None:
        super().__init__(folder)
        self.clock = clock
        self.takes_s = 0.0
        self.loses = 0

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_tag: str | None = None) -> str | None:
        self.clock.jump(self.takes_s)
        tag = super().put(key, data, if_absent=if_absent, if_tag=if_tag)
        self.clock.jump(self.takes_s)
        if self.loses:
            self.loses -= 1
            raise JournalError("no answer")
        return tag


def test_the_term_counts_from_the_sending_of_an_acknowledged_renewal(tmp_path: Path) -> None:
    clock = trio.testing.MockClock()
    objects = SlowObjects(tmp_path, clock)

    async def body() -> None:
        one = lease(objects)
        await one.acquire("k7qd", drill=False)
        objects.takes_s = 3.0
        clock.jump(4.0)
        await one.renew()
        assert one.remaining_s() == pytest.approx(TERM_S - 6.0)
        objects.takes_s, objects.loses = 0.0, 1
        clock.jump(5.0)
        with pytest.raises(JournalError):
            await one.renew()  # it got through, but nobody told us
        assert one.remaining_s() == pytest.approx(TERM_S - 11.0)
        clock.jump(5.0)
        await one.renew()  # finds its own earlier write
        assert one.remaining_s() <= TERM_S - 5.0, "the write that was found was sent 5 s ago"
        await one.renew()
        assert one.remaining_s() == pytest.approx(TERM_S)

    trio.run(body, clock=clock)


def test_taking_over_waits_for_the_term_and_the_longest_call(objects: FileObjects) -> None:
    async def body() -> None:
        one, two = lease(objects, longest_call_s=40.0), lease(objects)
        await one.acquire("k7qd", drill=False)
        await anyio.sleep(1000)
        began = anyio.current_time()
        assert (await two.acquire("k7qd", drill=False, take_over=True)).token == 2
        assert anyio.current_time() - began == pytest.approx(TERM_S + 40.0, abs=0.6)
        with pytest.raises(Locked, match="another run holds this environment now"):
            await one.renew()
        assert one.remaining_s() == 0

    virtually(body)


def test_a_holder_that_still_renews_is_not_taken_over(objects: FileObjects) -> None:
    async def body() -> None:
        one, two = lease(objects), lease(objects)
        await one.acquire("k7qd", drill=False)
        async with anyio.create_task_group() as tasks:

            async def renewing() -> None:
                while True:
                    await anyio.sleep(5)
                    await one.renew()

            tasks.start_soon(renewing)
            with pytest.raises(Locked, match="it is alive"):
                await two.acquire("k7qd", drill=False, take_over=True)
            tasks.cancel_scope.cancel()

    virtually(body)


def test_a_real_run_takes_a_drills_lease_when_the_drill_renews(objects: FileObjects) -> None:
    async def body() -> None:
        drill, real = lease(objects), lease(objects)
        await drill.acquire("d444", drill=True)
        why: list[str] = []

        async def drilling() -> None:
            try:
                while True:
                    await anyio.sleep(2)
                    await drill.renew()
            except Locked as error:
                why.append(error.message)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(drilling)
            await anyio.sleep(31)
            began = anyio.current_time()
            held = await real.acquire("k7qd", drill=False)
            assert held.token == 2 and anyio.current_time() - began < 3
            assert drill.remaining_s() <= 0
        taken = "somebody took this drill's lease: a real run, or whoever heals what it broke"
        assert why == [f"the lease of sandbox is lost: {taken}"]

    virtually(body)


def test_a_real_run_takes_a_frozen_drills_lease_within_ten_seconds(objects: FileObjects) -> None:
    async def body() -> None:
        drill, real = lease(objects), lease(objects)
        await drill.acquire("d444", drill=True)
        await anyio.sleep(1)
        await drill.renew()
        began = anyio.current_time()
        await real.acquire("k7qd", drill=False)
        assert DRILL_TERM_S < anyio.current_time() - began <= 10
        assert drill.remaining_s() <= 0
        with pytest.raises(Locked):
            await drill.renew()

    virtually(body)


def test_a_drill_takes_nobodys_lease(objects: FileObjects) -> None:
    async def body() -> None:
        await lease(objects).acquire("k7qd", drill=False)
        with pytest.raises(Locked, match="Run k7qd"):
            await lease(objects).acquire("d444", drill=True)

    virtually(body)


def test_a_claim_on_an_earlier_drill_does_not_end_a_later_one(objects: FileObjects) -> None:
    async def body() -> None:
        drill, real, later = lease(objects), lease(objects), lease(objects)
        await drill.acquire("d444", drill=True)
        await real.acquire("k7qd", drill=False)
        await real.release()
        await later.acquire("d555", drill=True)
        await later.renew()
        assert later.remaining_s() > 0

    virtually(body)


@pytest.fixture
def gone() -> ProcessId:
    """A process of this machine that is dead for certain."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    found = process(child.pid)
    child.kill()
    child.wait()
    assert found is not None and found.dead
    return found


def test_a_dead_holders_own_run_does_not_wait_and_others_are_told_what_to_do(
    objects: FileObjects, gone: ProcessId
) -> None:
    async def body() -> None:
        await lease(objects, process=gone).acquire("k7qd", drill=False)
        with pytest.raises(Locked, match="its process is gone") as locked:
            await lease(objects).acquire("h2mx", drill=False)
        assert locked.value.hint == "drkit resume k7qd"
        began = anyio.current_time()
        assert (await lease(objects).acquire("k7qd", drill=False)).token == 2
        assert anyio.current_time() == began

    virtually(body)


def test_a_drill_that_is_not_seen_to_live_here_is_ended_by_whoever_meets_it(
    objects: FileObjects, gone: ProcessId
) -> None:
    async def body() -> None:
        end, join = "drkit chaos stop --run d444 --env sandbox", "drkit status d444 --watch"
        for of, hint in ((gone, end), (ELSEWHERE, end), (this_process(), join)):
            held = lease(objects, process=of)
            await held.acquire("d444", drill=True)
            with pytest.raises(Locked) as locked:
                await lease(objects).acquire("d555", drill=True)
            assert locked.value.hint == hint
            await held.release()

    virtually(body)


def test_who_is_urgent_takes_a_drills_lease_and_no_other(objects: FileObjects, gone: ProcessId) -> None:
    async def body() -> None:
        await lease(objects, process=gone).acquire("d444", drill=True)
        began = anyio.current_time()
        healing = lease(objects)
        assert (await healing.acquire("heal", drill=True, urgent=True)).token == 2
        assert anyio.current_time() == began
        await lease(objects).acquire("again", drill=True, urgent=True)  # the one before is stuck, and renews no more
        assert DRILL_TERM_S < anyio.current_time() - began <= 10
        with pytest.raises(Locked, match="whoever heals what it broke"):
            await healing.renew()
        await lease(objects).acquire("k7qd", drill=False)
        with pytest.raises(Locked, match="Run k7qd"):
            await lease(objects).acquire("late", drill=True, urgent=True)

    virtually(body)


def test_a_dead_drill_is_not_waited_for(objects: FileObjects, gone: ProcessId) -> None:
    async def body() -> None:
        await lease(objects, process=gone).acquire("d444", drill=True)
        began = anyio.current_time()
        assert (await lease(objects).acquire("k7qd", drill=False)).token == 2
        assert anyio.current_time() == began

    virtually(body)


def test_the_own_run_is_not_taken_from_a_living_process(objects: FileObjects) -> None:
    async def body() -> None:
        await lease(objects, process=this_process()).acquire("k7qd", drill=False)
        with pytest.raises(Locked, match=r"heartbeat .* s ago"):
            await lease(objects).acquire("k7qd", drill=False)

    virtually(body)


def test_unlocking_takes_the_lock_id(objects: FileObjects) -> None:
    async def body() -> None:
        with pytest.raises(Refused, match="is not locked"):
            unlock(objects, "sandbox", "whatever")
        one = lease(objects)
        held = await one.acquire("k7qd", drill=False)
        with pytest.raises(Refused, match="is not the lock of sandbox"):
            unlock(objects, "sandbox", "whatever")
        assert unlock(objects, "sandbox", held.lock_id).run == "k7qd"
        assert (await lease(objects).acquire("h2mx", drill=False)).token == 2
        with pytest.raises(Locked):
            await one.renew()

    virtually(body)


def test_a_lock_that_cannot_be_read_is_not_taken_for_a_free_one(objects: FileObjects) -> None:
    async def body() -> None:
        objects.put("locks/sandbox.json", b'{"schema": "drkit.lease/9"}')
        with pytest.raises(JournalError, match="written by a newer drkit"):
            await lease(objects).acquire("k7qd", drill=False)

    virtually(body)


async def test_of_two_machines_at_once_one_gets_it(objects: FileObjects) -> None:
    """Real threads on a real folder."""
    won: list[str] = []

    async def compete(run: str) -> None:
        contender = EnvironmentLease(objects, "sandbox", SystemClock(), process=ELSEWHERE)
        with suppress(Locked):
            won.append((await contender.acquire(run, drill=False)).run)

    async with anyio.create_task_group() as tasks:
        for n in range(6):
            tasks.start_soon(compete, f"run{n}")
    found = look(objects, "sandbox")
    assert found is not None and won == [found[1].run] and found[1].token == 1


def test_the_default_longest_call_is_what_a_rival_waits_for() -> None:
    assert LONGEST_CALL_S > 0 and DRILL_TERM_S + 0.5 < 10
