"""What people tell a run: orders over a Unix socket beside its journal, or in a spool while nobody listens.

One JSON line in, `{"schema": "drkit.order/1", "fact": {...}}`; one out, `{"answer": ..., "why": ...}`. Who is asking is
what the kernel says of the other end of the socket, or of the owner of the spooled file; what the sender says about
that is thrown away. An order is answered once its event is durable: `accepted`, or `refused` with the reason.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

import anyio
from anyio.abc import SocketAttribute, SocketStream, TaskStatus

from drkit.engine.identity import login
from drkit.engine.runs import RunFolder, write_durably
from drkit.engine.sharing import socket_mode
from drkit.errors import JournalError
from drkit.model.environment import Person
from drkit.model.events import Answered, Fact, Noted, Ordered, Refusal, Row
from drkit.model.ports import Inbox
from drkit.model.values import Json, canonical, utc

SCHEMA: Final = "drkit.order/1"
Order = Ordered | Answered | Noted
#: How often the spool is looked into. An order must be journaled within 250 ms: what is left of them is for the commit.
SPOOL_POLL_S: Final = 0.1
_PATH_MAX: Final = 100
_LINE_MAX: Final = 1 << 20
_ANSWER_WITHIN_S: Final = 3.0
#: Orders that take effect although nobody was there when they were given: both only stop things.
STOPPING: Final = frozenset({"pause", "abort"})

Verdict = Literal["accepted", "refused", "queued"]


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of an order: `accepted` (its event is durable), `refused`, or `queued` (nobody acted on it yet)."""

    answer: Verdict
    why: str = ""


@dataclass(frozen=True, slots=True)
class Queued:
    """An order that waits in the spool. `by` is the owner of the file, as the kernel has it."""

    path: Path
    order: Order
    at: str

    def forget(self) -> None:
        """Take it out of the spool: it was carried out, or somebody decided against it."""
        self.path.unlink(missing_ok=True)


class OrderDesk:
    """Takes orders for a run that is being carried out, and answers them."""

    def __init__(
        self,
        folder: RunFolder,
        people: Sequence[Person],
        inbox: Inbox,
        *,
        trouble: Callable[[], str | None] = lambda: None,
    ) -> None:
        """`trouble`: why nothing can be journaled at the moment, if so."""
        self._folder, self._people, self._inbox, self._trouble = folder, people, inbox, trouble
        self._pending: list[_Pending] = []

    async def serve(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Listen until cancelled; started once the socket is there. JournalError if it cannot be made."""
        path = self._folder.socket
        path.unlink(missing_ok=True)  # of a runner that was killed: the journal's lock says that it is gone
        try:
            with short_name(path) as name:
                listener = await anyio.create_unix_listener(name, mode=socket_mode(path.parent))
        except OSError as error:
            raise JournalError(f"orders cannot be taken at {path}: {error}", state="Nothing was changed.") from error
        try:
            async with listener:
                task_status.started()
                await listener.serve(self._converse)
        finally:
            path.unlink(missing_ok=True)

    async def watch_spool(self) -> None:
        """Carry out what is queued and only stops things: an order may have been queued in the moment we began."""
        while True:
            for queued in queue(self._folder, self._people):
                if isinstance(queued.order, Ordered) and queued.order.verb in STOPPING:
                    self._inbox.put(queued.order)
                    queued.forget()
            await anyio.sleep(SPOOL_POLL_S)

    def saw(self, rows: Sequence[Row]) -> None:
        """These rows are durable: whoever waits for one of them is answered."""
        for row in rows:
            for pending in self._pending:
                reply = pending.answered_by(row.fact)
                if reply is not None:
                    pending.settle(reply)
                    self._pending.remove(pending)
                    break

    def close(self, why: str) -> None:
        """Nothing is journaled any more: whoever still waits is told."""
        for pending in self._pending:
            pending.settle(Reply("refused", why))
        self._pending.clear()

    async def _converse(self, stream: SocketStream) -> None:
        async with stream:
            try:
                reply = await self._take(stream)
                await stream.send(canonical({"answer": reply.answer, "why": reply.why}) + b"\n")
            except (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream):
                return  # whoever asked has gone; what was ordered is in the inbox or was never understood

    async def _take(self, stream: SocketStream) -> Reply:
        uid = peer_uid(stream.extra(SocketAttribute.raw_socket))
        try:
            order = order_of(await _read_line(stream), identity(self._people, uid, "unix socket peer"))
        except TimeoutError:
            return Reply("refused", f"nothing was said within {_ANSWER_WITHIN_S:g} s")
        except JournalError as error:
            return Reply("refused", error.message)
        pending = _Pending(order)
        self._pending.append(pending)
        self._inbox.put(order)
        with anyio.move_on_after(_ANSWER_WITHIN_S):
            await pending.done.wait()
        if pending.reply is None:
            trouble = self._trouble() or "its runner is busy"
            return Reply("queued", f"the runner has it, but has not journaled it yet: {trouble}")
        return pending.reply


@dataclass(eq=False)
class _Pending:
    """Somebody waits for what becomes of this order."""

    order: Order
    done: anyio.Event = field(default_factory=anyio.Event)
    reply: Reply | None = None

    def answered_by(self, fact: Fact) -> Reply | None:
        """The answer, if this event is what became of the order."""
        if replace(fact, t=self.order.t) == self.order:
            return Reply("accepted")
        if isinstance(fact, Refusal) and not isinstance(self.order, Noted):
            verb = self.order.verb if isinstance(self.order, Ordered) else self.order.answer
            if (fact.verb, fact.step, fact.by) == (verb, self.order.step, self.order.by):
                return Reply("refused", fact.why)
        return None

    def settle(self, reply: Reply) -> None:
        """Answer whoever waits."""
        self.reply = reply
        self.done.set()


def send(folder: RunFolder, order: Order, *, spool: bool = True) -> Reply:
    """Give an order to a run. Blocks for at most 4 s.

    If nobody carries the run out, the order is put into the spool (or, without `spool`, dropped) and answered `queued`.
    """
    reply = _deliver(folder, order)
    if reply is not None:
        return reply
    nobody = f"nobody carries run {folder.id} out on this machine"
    if not spool:
        return Reply("queued", nobody)
    path = folder.spool / f"{time.time_ns():020}-{secrets.token_hex(4)}.json"
    write_durably(path, canonical({"schema": SCHEMA, "at": utc(time.time()), "fact": order.to_json()}))
    reply = _deliver(folder, order)  # a runner may have begun while we wrote
    if reply is None:
        return Reply("queued", nobody)
    path.unlink(missing_ok=True)
    return reply


def queue(folder: RunFolder, people: Sequence[Person] = ()) -> list[Queued]:
    """What was ordered while nobody listened, oldest first. Files that are no orders are left out."""
    found: list[Queued] = []
    for path in sorted(folder.spool.glob("[0-9]*.json")):
        try:
            owner, data = path.stat().st_uid, path.read_bytes()
            order = order_of(data, identity(people, owner, "owner of the spooled order"))
        except (FileNotFoundError, JournalError):
            continue  # taken by somebody else in this moment, or not written by drkit
        found.append(Queued(path, order, str(json.loads(data).get("at", ""))))
    return found


def identity(people: Sequence[Person], uid: int, how: str) -> dict[str, Json]:
    """Who a Unix user is, as journaled: name and roles from `drkit.toml`, else the login name and no role."""
    roles: list[Json]
    for person in people:
        if person.uid == uid:
            roles = list(person.roles)
            return {"name": person.name, "uid": uid, "how": how, "roles": roles}
    roles = []
    return {"name": login(uid), "uid": uid, "how": how, "roles": roles}


def _deliver(folder: RunFolder, order: Order) -> Reply | None:
    """Over the socket; None if nobody listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as wire:
        wire.settimeout(_ANSWER_WITHIN_S + 1)
        try:
            with short_name(folder.socket) as name:
                wire.connect(name)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        try:
            wire.sendall(canonical({"schema": SCHEMA, "fact": order.to_json()}) + b"\n")
            with wire.makefile("rb") as answers:
                line = answers.readline(_LINE_MAX)
        except (ConnectionError, TimeoutError) as error:
            return Reply("queued", f"the runner took it and did not answer ({error or 'closed'}); see drkit events")
    if not line:
        return Reply("queued", "the runner took it and ended before it answered; see drkit status")
    answer: dict[str, Any] = json.loads(line)
    return Reply(answer["answer"], answer["why"])


def order_of(data: bytes, by: dict[str, Json]) -> Order:
    """What was sent, with who really sent it. JournalError if it is not an order."""
    try:
        message = json.loads(data)
        if message["schema"] != SCHEMA:
            raise ValueError(f"this drkit understands {SCHEMA}")
        fact = Fact.from_json(message["fact"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise JournalError(f"that is not an order: {error}", state="Nothing was changed.") from error
    if not isinstance(fact, Ordered | Answered | Noted):
        raise JournalError(f"{fact.kind} cannot be ordered", state="Nothing was changed.")
    return replace(fact, by=by, t=0.0)


def peer_uid(raw: socket.socket) -> int:
    """Uid of the other end, from the kernel."""
    _, uid, _ = struct.unpack("3i", raw.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return int(uid)


async def _read_line(stream: SocketStream) -> bytes:
    data = b""
    with anyio.fail_after(_ANSWER_WITHIN_S):
        while b"\n" not in data and len(data) < _LINE_MAX:
            data += await stream.receive()
    return data.partition(b"\n")[0]


@contextmanager
def short_name(path: Path) -> Iterator[str]:
    """A name for a socket that fits into its address (108 bytes): through a descriptor of its folder if need be."""
    if len(os.fsencode(path)) <= _PATH_MAX:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
