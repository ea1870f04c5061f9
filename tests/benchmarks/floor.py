"""What the engine's contract costs if nothing else is done: the floor that its speed is compared with.

Per step an intent before and a result after, as JSON; each durable before anything follows from it; all in one hash
chain; what is waiting at the same time shares a commit. No rules, no probes, nothing to cancel, nobody to ask.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, NamedTuple

import anyio
from adapter import Check, parser, report
from workload import Workload, dependents, workload

Body = dict[str, Any]


class Entry(NamedTuple):
    """A fact on its way to the disk, and who is told when it is there."""

    step: int
    kind: str
    body: Body
    written: asyncio.Event


class Journal:
    """One thread writes; whoever waits is told in the event loop."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = full")
        self._db.execute("create table event (seq integer primary key, step text, kind text, body text, hash blob)")
        self._waiting: SimpleQueue[Entry | None] = SimpleQueue()
        self._seq, self._head = 0, bytes(32)
        self.commits = 0

    async def durable(self, step: int, kind: str, body: Body) -> None:
        """Return when it is on the disk."""
        written = asyncio.Event()
        self._waiting.put(Entry(step, kind, body, written))
        await written.wait()

    def write(self, call_soon: Callable[..., object]) -> None:
        """The thread's work, until `stop`."""
        while entries := self._next():
            self._commit(entries)
            call_soon(_tell, entries)

    def stop(self) -> None:
        """Nothing more comes."""
        self._waiting.put(None)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def _next(self) -> list[Entry]:
        """All that waits, at least one; empty: nothing more comes."""
        entries: list[Entry] = []
        entry = self._waiting.get()
        while entry is not None:
            entries.append(entry)
            try:
                entry = self._waiting.get_nowait()
            except Empty:
                break
        return entries

    def _commit(self, entries: list[Entry]) -> None:
        rows = []
        for entry in entries:
            text = json.dumps(entry.body)
            self._seq, self._head = self._seq + 1, hashlib.sha256(self._head + text.encode()).digest()
            rows.append((self._seq, str(entry.step), entry.kind, text, self._head))
        self._db.execute("begin")
        self._db.executemany("insert into event values (?, ?, ?, ?, ?)", rows)
        self._db.execute("commit")
        self.commits += 1


def _tell(entries: list[Entry]) -> None:
    for entry in entries:
        entry.written.set()


async def carry_out(work: Workload, journal: Journal, check: Check) -> float:
    """Every step once, as soon as its needs are done; the seconds it took."""
    after = dependents(work.needs)
    missing = {step: len(needs) for step, needs in work.needs.items()}
    writer = Thread(target=journal.write, args=(asyncio.get_running_loop().call_soon_threadsafe,))
    writer.start()
    began = time.perf_counter()
    async with anyio.create_task_group() as tasks:

        async def carry(step: int) -> None:
            before = {"count": 3, "ready": 3}
            intent = {"step": step, "attempt": 1, "at": time.time(), "before": before, "token": f"r-{step}"}
            await journal.durable(step, "intent", intent)
            check.start(step)
            if work.seconds[step]:
                await anyio.sleep(work.seconds[step])
            check.finish(step)
            now = {"count": 4, "ready": 4}
            await journal.durable(step, "done", {"step": step, "attempt": 1, "at": time.time(), "after": now})
            for dependent in after[step]:
                missing[dependent] -= 1
                if not missing[dependent]:
                    tasks.start_soon(carry, dependent)

        for step in [step for step, count in missing.items() if not count]:
            tasks.start_soon(carry, step)
    took_s = time.perf_counter() - began
    journal.stop()
    writer.join()
    return took_s


def main() -> int:
    """Run one case and report it."""
    options = parser().parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    work = workload(options.case)
    check, journal = Check(work.needs), Journal(options.work / "floor.db")
    took_s = anyio.run(carry_out, work, journal, check)
    report(options, "floor", work, took_s, check.holds, commits=journal.commits)
    journal.close()
    return 0 if check.holds else 1


if __name__ == "__main__":
    sys.exit(main())
