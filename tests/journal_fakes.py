"""Rows to write, and a process that appends them until it is killed: `python journal_fakes.py JOURNAL`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from drkit.model.events import GENESIS, Command, Noted, Row


def rows(count: int, *, prev: str = GENESIS, first: int = 1, text: str = "all quiet") -> list[Row]:
    """A chain of remarks, each with a command."""
    made: list[Row] = []
    for seq in range(first, first + count):
        fact = Noted(t=float(seq), text=f"{text} {seq} – ok", by={"name": "dana"})
        commands = [Command(verb="apply", why="because", step="a", args={"n": seq})]
        made.append(Row.link(seq, "2026-01-01T00:00:00.000Z", fact, commands, prev))
        prev = made[-1].hash
    return made


def endless(size: int) -> Iterator[list[Row]]:
    """Batches without an end."""
    prev, seq = GENESIS, 1
    while True:
        batch = rows(size, prev=prev, first=seq, text="x" * 300)
        yield batch
        prev, seq = batch[-1].hash, seq + size


def main() -> None:
    """Append for ever; say what is durable, a number a line."""
    from drkit.engine.journal import SqliteStore

    store = SqliteStore(Path(sys.argv[1]))
    for batch in endless(7):
        store.append(batch)
        print(batch[-1].seq, flush=True)


if __name__ == "__main__":
    main()
