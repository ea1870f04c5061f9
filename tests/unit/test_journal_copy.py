"""The copy in the state store: in time, repeatable, honest about what is not there, and good to resume from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio.testing
from journal_fakes import rows

from drkit.engine.chain import line_of
from drkit.engine.copy import EVERY_S, Extent, JournalCopier, extent, put_rows, reconcile, restore
from drkit.engine.evidence import verify
from drkit.engine.journal import SqliteStore
from drkit.engine.memory import MemoryInbox
from drkit.errors import JournalError, Refused, Tampered, UsageError
from drkit.model.events import Copied
from drkit.model.values import canonical


@dataclass
class MemoryObjects:
    """A state store that can go down, and lose answers."""

    content: dict[str, bytes] = field(default_factory=dict)
    down: bool = False
    loses_answers: bool = False

    def get(self, key: str) -> tuple[bytes, str] | None:
        self._up()
        return (self.content[key], "tag") if key in self.content else None

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_tag: str | None = None) -> str | None:
        self._up()
        if if_absent and key in self.content:
            return None
        self.content[key] = data
        if self.loses_answers:
            raise JournalError("no answer")
        return "tag"

    def keys(self, prefix: str) -> list[str]:
        self._up()
        return sorted(key for key in self.content if key.startswith(prefix))

    def describe(self) -> str:
        return "memory"

    def _up(self) -> None:
        if self.down:
            raise JournalError("the state store is down")


class LoopClock:
    def monotonic(self) -> float:
        return anyio.current_time()

    def wall(self) -> float:
        return anyio.current_time()

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)


async def directly(call: Callable[[], Any]) -> Any:
    return call()


@dataclass
class Copying:
    """A copier at work, on a virtual clock."""

    objects: MemoryObjects = field(default_factory=MemoryObjects)
    inbox: MemoryInbox = field(default_factory=MemoryInbox)

    def __post_init__(self) -> None:
        self.copier = JournalCopier(self.objects, "k7qd", self.inbox, LoopClock(), token=1, in_thread=directly)

    def run(self, body: Callable[[Copying], Awaitable[None]]) -> None:
        async def main() -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.copier.run)
                await body(self)
                tasks.cancel_scope.cancel()

        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))

    @property
    def copied(self) -> int:
        return extent(self.objects, "k7qd").seq


def test_rows_are_copied_within_a_second_and_together() -> None:
    async def body(copying: Copying) -> None:
        for row in rows(5):
            copying.copier.committed([row])
            await anyio.sleep(0.1)
        assert copying.copied == 0
        await anyio.sleep(EVERY_S - 0.5 + 0.01)
        assert copying.copied == 5
        assert len(copying.objects.content) == 1
        assert copying.inbox.drain() == [], "a copy that nobody asked for is no event"

    Copying().run(body)


def test_what_is_wanted_is_copied_at_once_and_reported() -> None:
    async def body(copying: Copying) -> None:
        copying.copier.committed(rows(3))
        await anyio.sleep(0.01)
        copying.copier.want(3)
        await anyio.sleep(0.01)
        assert copying.inbox.drain() == [Copied(upto=3)]
        copying.copier.want(3)
        await anyio.sleep(0.01)
        assert copying.inbox.drain() == [Copied(upto=3)]

    Copying().run(body)


def test_a_burst_that_fills_an_object_is_copied_at_once_and_whole() -> None:
    async def body(copying: Copying) -> None:
        burst = rows(2500)
        copying.copier.committed(burst[:999])
        await anyio.sleep(0.01)
        assert copying.copied == 0
        copying.copier.committed(burst[999:])
        await anyio.sleep(0.01)
        assert copying.copied == 2500
        assert len(copying.objects.content) == 3

    Copying().run(body)


def test_a_store_that_is_down_is_not_asked_more_often_because_much_waits() -> None:
    async def body(copying: Copying) -> None:
        copying.objects.down = True
        burst = rows(1500)
        copying.copier.committed(burst[:1000])
        await anyio.sleep(0.1)
        assert copying.inbox.drain() == [Copied(upto=0, error="the state store is down")]
        copying.objects.down = False
        for row in burst[1000:]:
            copying.copier.committed([row])
        await anyio.sleep(0.1)
        assert copying.copied == 0, "tried again every second"
        await anyio.sleep(EVERY_S)
        assert copying.copied >= 1000

    Copying().run(body)


def test_a_copied_line_is_the_canonical_form_of_its_row() -> None:
    for row in rows(3):
        assert row.body is not None
        assert line_of(row) == line_of(replace(row, body=None)) == canonical(row.to_json())


def test_a_store_that_is_down_is_said_once_and_again_when_it_is_back() -> None:
    async def body(copying: Copying) -> None:
        copying.objects.down = True
        copying.copier.committed(rows(2))
        await anyio.sleep(10)
        assert copying.inbox.drain() == [Copied(upto=0, error="the state store is down")]
        copying.copier.committed(rows(4)[2:])
        copying.copier.want(4)
        await anyio.sleep(0.01)
        assert copying.inbox.drain() == [Copied(upto=0, error="the state store is down")], "who asks is told at once"
        copying.objects.down = False
        await anyio.sleep(EVERY_S * 2 + 0.1)
        assert copying.inbox.drain() == [Copied(upto=4)]
        assert copying.copied == 4

    Copying().run(body)


def test_rows_whose_answer_was_lost_are_written_again_and_read_once() -> None:
    written = rows(6)

    async def body(copying: Copying) -> None:
        copying.objects.loses_answers = True
        copying.copier.committed(written[:3])
        await anyio.sleep(1.1)
        copying.copier.committed(written[3:])
        copying.objects.loses_answers = False
        await anyio.sleep(5)
        assert len(copying.objects.content) == 2
        assert restore(copying.objects, "k7qd") == written

    Copying().run(body)


def test_finishing_copies_what_is_left_but_does_not_wait_for_ever() -> None:
    async def body(copying: Copying) -> None:
        copier = JournalCopier(copying.objects, "k7qd", copying.inbox, LoopClock(), token=1, in_thread=directly)
        copier.committed(rows(2))
        assert await copier.finish(5)
        assert copying.copied == 2
        copying.objects.down = True
        copier.committed(rows(4)[2:])
        assert not await copier.finish(5)

    Copying().run(body)


def test_many_rows_are_many_objects() -> None:
    async def body(copying: Copying) -> None:
        written = rows(2500)
        copying.copier.committed(written)
        copying.copier.want(2500)
        await anyio.sleep(0.1)
        assert copying.copied == 2500 and len(copying.objects.content) == 3
        assert restore(copying.objects, "k7qd") == written

    Copying().run(body)


def test_however_many_rows_there_are_none_is_left_for_the_next_second() -> None:
    async def body(copying: Copying) -> None:
        copying.copier.committed(rows(2500))
        await anyio.sleep(EVERY_S + 0.01)
        assert copying.copied == 2500

    Copying().run(body)


def test_other_rows_in_the_same_place_are_not_overwritten() -> None:
    objects = MemoryObjects()
    put_rows(objects, "k7qd", 1, rows(3))
    with pytest.raises(Tampered, match="holds other events"):
        put_rows(objects, "k7qd", 1, rows(3, text="something else"))
    assert restore(objects, "k7qd") == rows(3)


@pytest.mark.parametrize("late", ["before", "after"])
def test_what_a_stale_holder_still_copies_is_not_part_of_the_copy(late: str) -> None:
    objects, known = MemoryObjects(), rows(6)
    put_rows(objects, "k7qd", 1, known)
    stale = rows(9, prev=known[-1].hash, first=7, text="I was frozen")
    ours = rows(4, prev=known[-1].hash, first=7, text="I took over")
    if late == "before":  # its rows come between our look at the copy and our first ones
        put_rows(objects, "k7qd", 1, stale)
    put_rows(objects, "k7qd", 2, ours[:2])
    if late == "after":
        put_rows(objects, "k7qd", 1, stale[:1])  # as long as ours, at the same place, and longer
        put_rows(objects, "k7qd", 1, stale[1:])
    put_rows(objects, "k7qd", 2, ours[2:])
    assert restore(objects, "k7qd") == known + ours
    assert extent(objects, "k7qd") == Extent(10, ours[-1].hash)


def test_a_run_that_nobody_copied_is_unknown_and_the_known_ones_are_named() -> None:
    objects = MemoryObjects()
    put_rows(objects, "k7qd", 1, rows(3))
    with pytest.raises(UsageError, match='has no run "h2mx" \\(it has k7qd\\)'):
        restore(objects, "h2mx")


@pytest.mark.parametrize("damage", ["drop", "edit", "overlap", "garbage"])
def test_a_damaged_copy_is_named(damage: str) -> None:
    objects = MemoryObjects()
    written = rows(9)
    for n in (0, 3, 6):
        put_rows(objects, "k7qd", 1, written[n : n + 3])
    middle = "runs/k7qd/00000001/00000004-00000006.jsonl"
    if damage == "drop":
        del objects.content[middle]
    elif damage == "edit":
        objects.content[middle] = objects.content[middle].replace(b"quiet 5", b"noisy 5")
    elif damage == "garbage":
        objects.content[middle] = b"{}\n"
    else:
        put_rows(objects, "k7qd", 1, rows(4, text="another story")[3:])
    with pytest.raises(Tampered) as found:
        restore(objects, "k7qd")
    assert found.value.seq == (5 if damage == "edit" else 4)


def test_a_journal_may_be_ahead_of_its_copy_but_not_another_one(tmp_path: Path) -> None:
    objects, written = MemoryObjects(), rows(8)
    put_rows(objects, "k7qd", 1, written[:6])
    known = extent(objects, "k7qd")
    assert known == Extent(6, written[5].hash)
    with SqliteStore(tmp_path / "ahead.db") as store:
        store.append(written)
        reconcile(store, known)
    with SqliteStore(tmp_path / "behind.db") as store:
        store.append(written[:4])
        with pytest.raises(Refused, match="continued elsewhere"):
            reconcile(store, known)
        reconcile(store, known, rows=written[:6])
    with SqliteStore(tmp_path / "other.db") as store:
        store.append(rows(8, text="another story"))
        with pytest.raises(Refused, match="continued elsewhere"):
            reconcile(store, known)
        with pytest.raises(Refused, match="continued elsewhere"):
            reconcile(store, known, rows=written[:6])


def test_evidence_says_up_to_where_a_cut_would_be_noticed(tmp_path: Path) -> None:
    objects, written = MemoryObjects(), rows(8)
    put_rows(objects, "k7qd", 1, written[:6])
    with SqliteStore(tmp_path / "journal.db") as store:
        store.append(written)
    found = verify(tmp_path / "journal.db", run="k7qd", objects=objects)
    assert found.sound and found.anchored_upto == 6 and (found.events, found.head) == (8, written[-1].hash)
    objects.down = True
    found = verify(tmp_path / "journal.db", run="k7qd", objects=objects)
    assert found.sound and found.anchored_upto == 0 and found.silent == ("the state store is down",)
    objects.down = False
    with SqliteStore(tmp_path / "cut.db") as store:
        store.append(written[:4])
    found = verify(tmp_path / "cut.db", run="k7qd", objects=objects)
    assert not found.sound and found.first_bad == 5
    put_rows(objects, "k7qd", 1, rows(7, text="another story")[6:])
    found = verify(tmp_path / "journal.db", run="k7qd", objects=objects)
    assert found.problem is not None and "in the state store's copy" in found.problem and found.first_bad == 7
