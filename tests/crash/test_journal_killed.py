"""Kill whoever writes a journal, at any moment, and tear its files: what was acknowledged is there, in one chain."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import journal_fakes
import pytest
from journal_fakes import rows

from drkit.engine.journal import SqliteStore, read_rows
from drkit.errors import JournalError


@pytest.mark.parametrize("seed", range(5))
def test_what_was_acknowledged_before_a_kill_is_there_and_the_chain_goes_on(tmp_path: Path, seed: int) -> None:
    journal = tmp_path / "journal.db"
    writer = subprocess.Popen([sys.executable, journal_fakes.__file__, str(journal)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    said = int(writer.stdout.readline())
    time.sleep(random.Random(seed).uniform(0, 0.15))
    writer.kill()
    said = max([said, *map(int, writer.stdout.read().split("\n")[:-1])])
    writer.wait()
    found = list(read_rows(journal))
    assert found[-1].seq >= said
    assert found[-1].seq % 7 == 0, "a batch is there as a whole or not at all"
    with SqliteStore(journal) as store:
        assert store.head == found[-1].hash
        store.append(rows(3, prev=store.head, first=store.seq + 1))
        assert len(list(store.read())) == found[-1].seq + 3


def test_a_write_ahead_log_torn_anywhere_leaves_a_whole_prefix(tmp_path: Path) -> None:
    """The power fails while the last transactions are on their way to the disk."""
    source = tmp_path / "whole"
    source.mkdir()
    store = SqliteStore(source / "journal.db")
    written = rows(30)
    for n in range(0, 30, 3):
        store.append(written[n : n + 3])
    shutil.copytree(source, tmp_path / "seen")  # as the disk has it: the log was never checkpointed
    store.close()
    log = (tmp_path / "seen" / "journal.db-wal").read_bytes()
    lengths = set()
    for cut in [*range(0, len(log), len(log) // 60), len(log)]:
        torn = tmp_path / f"torn{cut}"
        shutil.copytree(tmp_path / "seen", torn, ignore=shutil.ignore_patterns("*-shm"))
        (torn / "journal.db-wal").write_bytes(log[:cut])
        try:
            with SqliteStore(torn / "journal.db") as store:
                found = list(store.read())
        except JournalError as error:
            raise AssertionError(f"cut at {cut}: {error}") from error
        assert found == written[: len(found)] and len(found) % 3 == 0
        lengths.add(len(found))
        shutil.rmtree(torn)
    assert lengths == {0, *range(3, 31, 3)}
