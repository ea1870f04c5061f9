"""Orders over the socket and through the spool: who asks is what the kernel says, and every asker gets an answer."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from drkit.engine import orders, runs
from drkit.engine.inbox import ThreadInbox
from drkit.engine.orders import OrderDesk, queue, send
from drkit.engine.runs import RunFolder
from drkit.model.environment import Person
from drkit.model.events import GENESIS, Fact, Finished, Noted, Ordered, Refusal, Row
from drkit.model.values import Json

A_LIE: dict[str, Json] = {"name": "root", "uid": 0, "how": "a lie"}
PEOPLE = (Person(name="dana", uid=os.getuid(), roles=("ic",)),)
PAUSE = Ordered(verb="pause", by=A_LIE, reason="wait")


@pytest.fixture
def folder() -> RunFolder:
    return runs.new()


@asynccontextmanager
async def desk(
    folder: RunFolder, *, refuse: str | None = None, deaf: bool = False, trouble: str | None = None
) -> AsyncIterator[list[Fact]]:
    """A desk whose orders are journaled at once, or refused, or not taken at all; what was taken."""
    taken: list[Fact] = []
    with ThreadInbox() as inbox:
        open_desk = OrderDesk(folder, PEOPLE, inbox, trouble=lambda: trouble)

        async def journal() -> None:
            while not deaf:
                await inbox.wait()
                for fact in inbox.drain():
                    taken.append(fact)
                    kept: Fact = replace(fact, t=17.0)
                    if refuse is not None and isinstance(fact, Ordered):
                        kept = Refusal(t=17.0, verb=fact.verb, by=fact.by, why=refuse, step=fact.step)
                    open_desk.saw([Row.link(1, "", kept, [], GENESIS)])

        async with anyio.create_task_group() as tasks:
            await tasks.start(open_desk.serve)
            tasks.start_soon(open_desk.watch_spool)
            tasks.start_soon(journal)
            yield taken
            tasks.cancel_scope.cancel()


async def ask(folder: RunFolder, order: Any) -> orders.Reply:
    return await anyio.to_thread.run_sync(send, folder, order)


async def test_an_order_is_answered_when_it_is_journaled_and_signed_by_the_kernel(folder: RunFolder) -> None:
    async with desk(folder) as taken:
        assert (await ask(folder, PAUSE)).answer == "accepted"
        assert (await ask(folder, Noted(text="x", by=A_LIE))).answer == "accepted"
    assert [fact.by for fact in taken] == [  # type: ignore[attr-defined]
        {"name": "dana", "uid": os.getuid(), "how": "unix socket peer", "roles": ["ic"]}
    ] * 2


async def test_a_refusal_says_why(folder: RunFolder) -> None:
    async with desk(folder, refuse="it is paused already"):
        reply = await ask(folder, PAUSE)
    assert reply == orders.Reply("refused", "it is paused already")


async def test_a_stranger_has_a_login_name_and_no_role() -> None:
    assert orders.identity(PEOPLE, 65534, "x") == {"name": "nobody", "uid": 65534, "how": "x", "roles": []}
    assert orders.identity(PEOPLE, 4_000_000, "x")["name"] == "uid 4000000"


async def test_what_is_taken_and_not_journaled_is_not_called_accepted(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "_ANSWER_WITHIN_S", 0.2)
    async with desk(folder, deaf=True, trouble="the disk is full"):
        reply = await ask(folder, PAUSE)
    assert reply.answer == "queued" and reply.why.endswith("has not journaled it yet: the disk is full")


def talk(folder: RunFolder, data: bytes) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as wire:
        wire.settimeout(5)
        wire.connect(str(folder.socket))
        wire.sendall(data)
        answer: dict[str, Any] = json.loads(wire.makefile("rb").readline())
        return answer


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"nonsense\n", "not an order"), (b"[]\n", "not an order"),
        (b'{"schema": "drkit.order/9", "fact": {}}\n', "this drkit understands"),
        (b'{"schema": "drkit.order/1", "fact": {"kind": "warp"}}\n', 'unknown kind of event "warp"'),
    ],
)  # fmt: skip
async def test_nonsense_is_refused_and_does_no_harm(folder: RunFolder, data: bytes, says: str) -> None:
    async with desk(folder) as taken:
        answer = await anyio.to_thread.run_sync(talk, folder, data)
        assert answer["answer"] == "refused" and says in answer["why"]
        assert (await ask(folder, PAUSE)).answer == "accepted"
        assert len(taken) == 1


async def test_only_what_people_may_say_can_be_said(folder: RunFolder) -> None:
    async with desk(folder) as taken:
        reply = await ask(folder, Finished(outcome="done"))
        assert reply == orders.Reply("refused", "run.finished cannot be ordered") and taken == []


async def test_somebody_who_connects_and_leaves_or_says_nothing_harms_nobody(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "_ANSWER_WITHIN_S", 0.3)
    async with desk(folder) as taken:
        for data in (b"", b'{"schema"'):
            wire = socket.socket(socket.AF_UNIX)
            wire.connect(str(folder.socket))
            wire.sendall(data)
            wire.close()
        silent = socket.socket(socket.AF_UNIX)
        silent.connect(str(folder.socket))
        await anyio.sleep(0.5)
        assert (await ask(folder, PAUSE)).answer == "accepted" and len(taken) == 1
        silent.close()


async def test_a_socket_in_a_folder_with_a_long_name_works(tmp_path: Path) -> None:
    folder = runs.new(tmp_path / ("long" * 50))
    assert len(str(folder.socket)) > 200
    async with desk(folder) as taken:
        assert folder.socket.is_socket()
        assert (await ask(folder, PAUSE)).answer == "accepted" and len(taken) == 1
    assert not folder.socket.exists()


async def test_a_socket_of_a_killed_runner_is_nobody(folder: RunFolder) -> None:
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(folder.socket))
    assert (await ask(folder, PAUSE)).answer == "queued"
    async with desk(folder) as taken:
        with anyio.fail_after(5):
            while not taken:
                await anyio.sleep(0.02)


async def test_what_only_stops_is_taken_from_the_spool_within_a_moment_and_the_rest_is_shown(
    folder: RunFolder,
) -> None:
    skip = Ordered(verb="skip", by=A_LIE, step="a", reason="later")
    for order in (skip, PAUSE):
        assert send(folder, order).answer == "queued"
    shown = queue(folder, PEOPLE)
    assert [q.order.verb for q in shown if isinstance(q.order, Ordered)] == ["skip", "pause"]
    assert shown[0].order.by["how"] == "owner of the spooled order" and shown[0].order.by["name"] == "dana"
    async with desk(folder) as taken:
        with anyio.fail_after(5):
            while not taken:
                await anyio.sleep(0.02)
        await anyio.sleep(0.3)
    assert [fact.verb for fact in taken if isinstance(fact, Ordered)] == ["pause"]
    (left,) = queue(folder, PEOPLE)
    left.forget()
    assert queue(folder) == []


async def test_an_order_that_must_not_wait_is_not_spooled(folder: RunFolder) -> None:
    assert send(folder, PAUSE, spool=False).answer == "queued"
    assert queue(folder) == []


async def test_a_file_that_is_no_order_is_left_alone(folder: RunFolder) -> None:
    (folder.spool / "00000000000000000001-x.json").write_text("nonsense")
    assert queue(folder) == []


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_facts_from_threads_wake_the_driver(backend: str) -> None:
    async def main() -> list[Fact]:
        with ThreadInbox() as inbox:
            got: list[Fact] = []
            async with anyio.create_task_group() as tasks:
                for n in range(20):
                    tasks.start_soon(anyio.to_thread.run_sync, inbox.put, Noted(text=str(n), by={}))
                while len(got) < 20:
                    with anyio.fail_after(5):
                        await inbox.wait()
                    got += inbox.drain()
            assert inbox.drain() == []
            return got

    facts = anyio.run(main, backend=backend)
    assert sorted(int(fact.text) for fact in facts if isinstance(fact, Noted)) == list(range(20))
