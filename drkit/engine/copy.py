"""Keep a copy of a run's journal in the environment's state store, and bring it back on an empty machine.

Rows go there as objects `runs/<run>/<fencing token>/<first>-<last>.jsonl`, each row with its hash, beside
`runs/<run>/request.json`: at once when the run needs it (before what cannot be undone) or enough wait to fill one,
within a second otherwise. Objects are written once and never changed. Each holder of the lease writes in a folder of
its own, so that one that was frozen and woke up writes over nobody and in between nobody's rows: what it adds from the
number on at which a later holder began is not part of the copy.
"""

from __future__ import annotations

import json
import math
import re
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread

from drkit.engine.chain import line_of
from drkit.engine.journal import SqliteStore
from drkit.engine.runs import Request, RunFolder, adopt
from drkit.errors import JournalError, Refused, Tampered, UsageError
from drkit.model.events import GENESIS, Copied, Row, verified
from drkit.model.ports import Clock, Inbox, Objects

EVERY_S: Final = 1.0
_ROWS_MAX: Final = 1000
_NAME: Final = re.compile(r"/(\d+)/(\d+)-(\d+)\.jsonl$")

InThread = Callable[[Callable[[], Any]], Awaitable[Any]]


class JournalCopier:
    """Copies in the background; implements the port `Copier`. Run `run` in a task beside the driver.

    A copy that fails is said once (`Copied` with the error), tried again every second, and said again when it works.
    """

    def __init__(
        self,
        objects: Objects,
        run: str,
        inbox: Inbox,
        clock: Clock,
        *,
        token: int,
        upto: int = 0,
        in_thread: InThread | None = None,
    ) -> None:
        """`token`: the run's fencing token. `upto`: the last row that is there already."""
        self._token = token
        self._objects, self._run, self._inbox, self._clock = objects, run, inbox, clock
        self._in_thread: InThread = in_thread or anyio.to_thread.run_sync
        self._rows: deque[Row] = deque()
        self._wanted: list[int] = []
        self._wake = anyio.Event()
        self._hurry = anyio.Event()
        self.upto = upto
        self.trouble: str | None = None
        """Why nothing is copied at the moment."""

    def committed(self, rows: Sequence[Row]) -> None:
        """Copy these within a second."""
        self._rows.extend(row for row in rows if row.seq > self.upto)
        self._wake.set()
        if len(self._rows) >= _ROWS_MAX and self.trouble is None:
            self._hurry.set()

    def want(self, upto: int) -> None:
        """Copy everything up to `upto` now, and report it."""
        self._wanted.append(upto)
        self._wake.set()
        self._hurry.set()

    async def run(self) -> None:
        """Copy until cancelled."""
        while True:
            if not self._rows and not self._wanted:
                self._wake = anyio.Event()
                await self._wake.wait()
            if not self._wanted and len(self._rows) < _ROWS_MAX:
                await self._batch()
            self._hurry = anyio.Event()
            await self._copy()

    async def finish(self, within_s: float) -> bool:
        """Copy what is left, without reporting it. False if it could not be done in time. `run` must have ended."""
        self._wanted.clear()
        with anyio.move_on_after(within_s):
            while self._rows:
                if await self._put() is not None:
                    await self._clock.sleep(EVERY_S / 4)
        return not self._rows

    async def _batch(self) -> None:
        """Let more rows come, for at most a second; only until somebody waits or they fill an object."""
        async with anyio.create_task_group() as tasks:

            async def enough() -> None:
                await self._clock.sleep(EVERY_S)
                tasks.cancel_scope.cancel()

            tasks.start_soon(enough)
            await self._hurry.wait()
            tasks.cancel_scope.cancel()

    async def _copy(self) -> None:
        error: str | None = None
        while error is None and self._rows:
            error = await self._put()
        wanted, self._wanted = self._wanted, []
        if error is None:
            if self.trouble is not None and not wanted:
                wanted = [self.upto]  # it works again: whoever was told otherwise is told this
            self.trouble = None
            for upto in wanted:
                self._inbox.put(Copied(upto=upto))
            return
        if self.trouble is None or wanted:
            self._inbox.put(Copied(upto=self.upto, error=error))
        self.trouble = error
        with anyio.move_on_after(EVERY_S):
            await self._hurry.wait()

    async def _put(self) -> str | None:
        """Copy the oldest rows as one object. None, or why it cannot be done."""
        rows = [row for row, _ in zip(self._rows, range(_ROWS_MAX), strict=False)]
        try:
            await self._in_thread(lambda: put_rows(self._objects, self._run, self._token, rows))
        except JournalError as error:
            return error.message
        for _ in rows:
            self._rows.popleft()
        self.upto = rows[-1].seq
        return None


@dataclass(frozen=True, slots=True)
class Extent:
    """How far a copy goes: its last row's number and hash; 0 and the chain's beginning when there is none."""

    seq: int = 0
    hash: str = GENESIS


def put_rows(objects: Objects, run: str, token: int, rows: Sequence[Row]) -> None:
    """Write rows as one object. Repeating it is harmless. JournalError; Tampered if others are there in their place."""
    key = f"runs/{run}/{token:08}/{rows[0].seq:08}-{rows[-1].seq:08}.jsonl"
    data = b"".join(line_of(row) + b"\n" for row in rows)
    if objects.put(key, data, if_absent=True) is None:
        found = objects.get(key)
        if found is None or found[0] != data:
            raise Tampered(f"{key} in {objects.describe()} holds other events than this journal", seq=rows[0].seq)


def put_request(objects: Objects, request: Request) -> bool:
    """Write what the run was asked to do, once. True: it was not there. JournalError; Refused if another run's is."""
    key, data = f"runs/{request.run}/request.json", request.to_bytes()
    if objects.put(key, data, if_absent=True) is not None:
        return True
    found = objects.get(key)
    if found is None or json.loads(found[0]).get("wall") != request.wall:
        raise Refused(f"the state store has another run {request.run} already", hint="start it again: it gets a new id")
    return False


def extent(objects: Objects, run: str) -> Extent:
    """How far the copy of a run goes. JournalError if the state store does not answer."""
    written = _written(objects, run)
    if not written:
        return Extent()
    row = _rows_of(objects, max(written, key=lambda one: (one.token, one.last)).key)[-1]
    return Extent(row.seq, row.hash)


def restore(objects: Objects, run: str) -> list[Row]:
    """A run's journal as the state store has it, its chain verified.

    UsageError if it knows no such run. Tampered where the chain does not continue. The tail may be missing: rows
    that were not copied yet when their machine died.
    """
    written = _written(objects, run)
    if not written:
        known = sorted({key.split("/")[1] for key in objects.keys("runs/")})
        raise UsageError(
            f'{objects.describe()} has no run "{run}"' + (f" (it has {', '.join(known)})" if known else ""),
            hint="drkit runs",
        )
    return list(verified(_joined(row for one in written for row in _rows_of(objects, one.key) if row.seq < one.limit)))


def restore_folder(objects: Objects, run: str, home: Path | None = None) -> RunFolder:
    """A run folder on this machine, from the state store: request and journal. What is here already is kept.

    Refused if the journal here went another way than the copy.
    """
    rows = restore(objects, run)
    found = objects.get(f"runs/{run}/request.json")
    if found is None:
        raise JournalError(f"{objects.describe()} has events of run {run} and not its request")
    folder = adopt(run, home)
    if not (folder.path / "request.json").exists():
        folder.ask(Request.from_bytes(found[0], f"runs/{run}/request.json"))
    with SqliteStore(folder.journal) as store:
        reconcile(store, Extent(rows[-1].seq, rows[-1].hash), rows=rows)
        store.append(rows)
    return folder


def reconcile(store: SqliteStore, copy: Extent, *, rows: Sequence[Row] = ()) -> None:
    """Make sure that journal and copy tell one story. Refused if the run went on elsewhere, or differently.

    `rows`, if given, are the copy's: then a journal that ends before the copy is only behind.
    """
    if copy.seq == 0 or (copy.seq > store.seq and rows and (store.seq == 0 or rows[store.seq - 1].hash == store.head)):
        return
    if copy.seq <= store.seq and hash_at(store, copy.seq) == copy.hash:
        return
    raise Refused(
        f"this machine's journal of the run is not the one in the state store: that goes to event {copy.seq}, this to "
        f"{store.seq}, and they differ. The run was continued elsewhere",
        hint="mv the run's folder away, then: drkit resume RUN --state URL",
    )


def hash_at(store: SqliteStore, seq: int) -> str:
    """Hash of one row of a journal."""
    return next(store.read(seq - 1)).hash


@dataclass(frozen=True, slots=True, order=True)
class _Written:
    """One object, in the order to read them. `limit`: from which row on a later holder's count."""

    token: int
    first: int
    last: int
    key: str
    limit: float = math.inf


def _written(objects: Objects, run: str) -> list[_Written]:
    """Every object with rows of the run."""
    named = ((_NAME.search(key), key) for key in objects.keys(f"runs/{run}/"))
    found = sorted(_Written(int(name[1]), int(name[2]), int(name[3]), key) for name, key in named if name)
    began: dict[int, int] = {}
    for one in found:
        began.setdefault(one.token, one.first)
    return [
        replace(one, limit=min((first for token, first in began.items() if token > one.token), default=math.inf))
        for one in found
    ]


def _rows_of(objects: Objects, key: str) -> list[Row]:
    found = objects.get(key)
    if found is None:
        raise JournalError(f"{key} vanished from {objects.describe()}")
    first = _NAME.search(key)
    try:
        return [Row.from_json(json.loads(line)) for line in found[0].splitlines()]
    except (ValueError, KeyError, TypeError) as error:
        raise Tampered(
            f"{key} in {objects.describe()} is not made of events: {error}", seq=int(first[2]) if first else 0
        ) from error


def _joined(rows: Iterable[Row]) -> Iterable[Row]:
    """Objects of one holder overlap where an answer was lost and the same rows were written again in a longer one."""
    seen: dict[int, str] = {}
    for row in rows:
        if row.seq not in seen:
            seen[row.seq] = row.hash
            yield row
        elif seen[row.seq] != row.hash:
            raise Tampered(f"the state store has two different events {row.seq}", seq=row.seq)
