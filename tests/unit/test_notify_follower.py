"""The follower: every sink gets every notice in order, a dead one holds up nobody, and a crash loses nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from drkit.engine.runs import write_durably
from drkit.errors import Unreachable
from drkit.model.environment import Sink
from drkit.model.notices import Notice
from drkit.notify import outbox
from drkit.notify.follower import Follower, worded
from drkit.notify.outbox import Outbox
from drkit.notify.wording import Message, pagerduty

SLACK = Sink(name="slack", kind="slack", url="http://127.0.0.1:1", audience="responders")
PAGER = Sink(name="pager", kind="pagerduty", url="http://127.0.0.1:1", audience="responders")


def notice(seq: int, *, urgent: bool = True, ends: bool = False, drill: bool = False) -> Notice:
    return Notice("k7qd", seq, f"sha256:{seq}", drill, "needs somebody" if urgent else "info", "b waits", "so", ends)


@dataclass
class Receivers:
    """Where messages arrive."""

    dead: set[str] = field(default_factory=set)
    got: list[tuple[str, str]] = field(default_factory=list)
    loses_answers: set[str] = field(default_factory=set)
    tries: Counter[str] = field(default_factory=Counter)

    async def send(self, sink: Sink, message: Message) -> None:
        await anyio.lowlevel.checkpoint()
        self.tries[sink.name] += 1
        if sink.name not in self.dead:
            self.got.append((sink.name, message.reference))
        if sink.name in self.dead | self.loses_answers:
            raise Unreachable(f"{sink.name} does not answer")

    async def arrived(self, sink: Sink, reference: str) -> bool | None:
        await anyio.lowlevel.checkpoint()
        return (sink.name, reference) in self.got

    def by(self, sink: str) -> list[str]:
        return [reference for name, reference in self.got if name == sink]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / outbox.NAME


@asynccontextmanager
async def following(receivers: Receivers, path: Path, seq: int = 0) -> AsyncIterator[Follower]:
    """A follower at work whose waits are over at once."""
    follower = Follower(
        receivers, (SLACK, PAGER), Outbox(path, write_durably), sleep=lambda _: anyio.lowlevel.checkpoint()
    )
    follower.begin(seq)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(follower.run)
        yield follower
        tasks.cancel_scope.cancel()


async def test_everybody_gets_everything_in_order_and_it_is_noted(path: Path) -> None:
    receivers = Receivers()
    async with following(receivers, path) as follower:
        for seq in (3, 5, 9):
            follower.tell(notice(seq))
        assert await follower.finish(5) is None
        follower.tell(notice(11))
        assert await follower.finish(5) is None, "also what came after everything had been told"
    told = ["drkit-k7qd.3", "drkit-k7qd.5", "drkit-k7qd.9", "drkit-k7qd.11"]
    assert receivers.by("slack") == receivers.by("pager") == told
    assert {name: place.upto for name, place in outbox.read(path).items()} == {"slack": 11, "pager": 11}


async def test_a_dead_sink_holds_up_nobody_and_is_said(path: Path) -> None:
    receivers = Receivers(dead={"slack"})
    async with following(receivers, path) as follower:
        for seq in (3, 5, 9):
            follower.tell(notice(seq))
        with anyio.fail_after(5):
            while outbox.read(path)["pager"].upto < 9 or receivers.tries["slack"] < 2:
                await anyio.lowlevel.checkpoint()
        left = await follower.finish(0.2)
    assert left == "3 undelivered (slack: slack does not answer)"
    assert outbox.undelivered(outbox.read(path)) == left, "who looks from outside sees the same"
    assert receivers.by("pager") == ["drkit-k7qd.3", "drkit-k7qd.5", "drkit-k7qd.9"]
    assert receivers.tries["slack"] > 1, "it is tried again"


async def test_what_failed_is_told_when_it_can_be_without_doubling_what_had_arrived(path: Path) -> None:
    receivers = Receivers(dead={"slack"}, loses_answers={"pager"})
    async with following(receivers, path) as follower:
        follower.tell(notice(3))
        with anyio.fail_after(5):
            while receivers.tries["slack"] < 3:
                await anyio.lowlevel.checkpoint()
        receivers.dead.clear()
        assert await follower.finish(5) is None
    assert receivers.got.count(("slack", "drkit-k7qd.3")) == receivers.got.count(("pager", "drkit-k7qd.3")) == 1


async def test_after_a_crash_the_next_runner_tells_what_is_missing_and_nothing_twice(path: Path) -> None:
    receivers = Receivers(dead={"slack"})
    async with following(receivers, path) as follower:
        follower.tell(notice(3))
        with anyio.fail_after(5):
            while outbox.read(path)["pager"].upto < 3:
                await anyio.lowlevel.checkpoint()
    receivers.got.append(("pager", "drkit-k7qd.5"))  # delivered, and killed before it was noted
    receivers.dead.clear()
    async with following(receivers, path, seq=6) as follower:
        for seq in (3, 5, 8):
            follower.tell(notice(seq))
        assert await follower.finish(5) is None
    assert receivers.by("slack") == ["drkit-k7qd.3", "drkit-k7qd.5", "drkit-k7qd.8"]
    assert receivers.by("pager") == ["drkit-k7qd.3", "drkit-k7qd.5", "drkit-k7qd.8"]


async def test_on_an_empty_machine_only_what_happens_from_now_on_is_told(path: Path) -> None:
    receivers = Receivers()
    async with following(receivers, path, seq=6) as follower:
        follower.tell(notice(3))
        follower.tell(notice(7))
        assert await follower.finish(5) is None
    assert receivers.by("slack") == ["drkit-k7qd.7"]


async def test_a_full_disk_stops_no_message(path: Path) -> None:
    def full(where: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    receivers = Receivers()
    follower = Follower(receivers, (SLACK,), Outbox(path, full))
    follower.begin(0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(follower.run)
        follower.tell(notice(3))
        assert await follower.finish(5) is None
        tasks.cancel_scope.cancel()
    assert receivers.by("slack") == ["drkit-k7qd.3"]


def test_who_is_needed_is_paged_anew_and_the_end_closes_what_the_beginning_opened() -> None:
    begun, asks, escalated = notice(3, urgent=False), notice(5), notice(9)
    ended = notice(12, urgent=False, ends=True)
    keys = [pagerduty(worded(each), "k")["dedup_key"] for each in (begun, asks, escalated, ended)]
    assert keys[0] == keys[3] and len(set(keys)) == 3
    assert pagerduty(worded(ended), "k")["event_action"] == "resolve"
    failed = worded(notice(12, ends=True))
    assert (failed.severity, failed.status, failed.incident) == ("critical", "investigating", worded(begun).incident)
    assert worded(notice(3, drill=True)).title == "[DRILL] b waits"
    assert "sha256:3" in worded(notice(3)).text
