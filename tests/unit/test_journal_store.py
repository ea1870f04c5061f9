"""The journal on disk: what is appended is there, what does not belong is refused, readers do not matter."""

from __future__ import annotations

import resource
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from journal_fakes import rows

from drkit.engine.journal import LOG_BYTES_MAX, SqliteStore, Tail, follow, read_rows
from drkit.errors import JournalError, Tampered
from drkit.model.events import GENESIS


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def test_what_is_appended_is_read_back_equal_also_by_the_next_process(path: Path) -> None:
    written = rows(5)
    with SqliteStore(path) as store:
        store.append(written[:2])
        store.append(written[2:])
        assert list(store.read()) == written
        assert (store.seq, store.head, store.commits) == (5, written[-1].hash, 2)
    with SqliteStore(path) as store:
        assert (store.seq, store.head) == (5, written[-1].hash)
        assert list(store.read(after=3)) == written[3:]


def test_appending_the_same_rows_again_changes_nothing(path: Path) -> None:
    written = rows(5)
    with SqliteStore(path) as store:
        store.append(written[:3])
        store.append(written)
        store.append(written)
        assert list(store.read()) == written
        assert store.commits == 2


def test_another_row_in_the_same_place_is_refused_and_nothing_of_its_batch_is_kept(path: Path) -> None:
    written = rows(3)
    other = rows(5, text="something else")
    with SqliteStore(path) as store:
        store.append(written)
        with pytest.raises(JournalError, match=r"event 1 is in .* already, and it is another one"):
            store.append(other)
        with pytest.raises(JournalError, match="event 4 does not continue"):
            store.append(other[3:])
        assert list(store.read()) == written


def test_a_gap_is_refused(path: Path) -> None:
    written = rows(3)
    with SqliteStore(path) as store, pytest.raises(JournalError, match="event 2 does not continue"):
        store.append(written[1:])


def test_it_is_synced_and_private(path: Path) -> None:
    with SqliteStore(path) as store:
        store.append(rows(1))
        assert store._db is not None
        assert store._db.execute("pragma synchronous").fetchone() == (2,)  # FULL
        assert store._db.execute("pragma journal_mode").fetchone() == ("wal",)
    assert path.stat().st_mode & 0o077 == 0


def test_a_journal_of_a_newer_version_is_refused_by_writers_and_readers(path: Path) -> None:
    with SqliteStore(path) as store:
        store.append(rows(1))
    with sqlite3.connect(path) as db:
        db.execute("update schema set version = 99")
    db.close()
    with pytest.raises(JournalError, match=r"newer drkit.*version 99"):
        SqliteStore(path)
    with pytest.raises(JournalError, match="newer drkit"):
        list(read_rows(path))


def test_a_second_writer_is_refused_until_the_first_has_gone(path: Path) -> None:
    first = SqliteStore(path)
    with pytest.raises(JournalError, match="another process is writing"):
        SqliteStore(path)
    first.close()
    SqliteStore(path).close()


def test_something_that_is_no_journal_is_refused(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(JournalError, match="cannot be opened"):
        SqliteStore(path)
    with pytest.raises(JournalError, match="cannot be read"):
        list(read_rows(path))


def test_a_missing_folder_or_journal_is_said_in_a_sentence(path: Path) -> None:
    with pytest.raises(JournalError, match="cannot be opened: No such file"):
        SqliteStore(path.parent / "none" / "journal.db")
    with pytest.raises(JournalError, match="there is no journal"):
        list(read_rows(path))


def test_opening_looks_at_the_last_row_only_and_reading_at_every_one(path: Path) -> None:
    with SqliteStore(path) as store:
        store.append(rows(50))
    edit(path, "update event set body = replace(body, 'quiet', 'noisy') where seq = 7")
    with SqliteStore(path) as store, pytest.raises(Tampered) as found:
        list(store.read())
    assert found.value.seq == 7
    edit(path, "update event set body = replace(body, 'quiet', 'noisy') where seq = 50")
    with pytest.raises(Tampered) as found:
        SqliteStore(path)
    assert found.value.seq == 50


def edit(path: Path, statement: str) -> None:
    db = sqlite3.connect(path)
    with db:
        db.execute(statement)
    db.close()


def test_a_reader_in_the_middle_of_a_long_read_does_not_hold_up_the_writer(path: Path) -> None:
    written = rows(2000)
    with SqliteStore(path) as store:
        store.append(written[:1500])
        reading = read_rows(path)
        assert next(reading).seq == 1
        store.append(written[1500:])
        assert [row.seq for row in reading] == list(range(2, 2001))


READER = """
import sqlite3, sys
db = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True, isolation_level=None)
db.execute("begin")
for _ in sys.stdin:
    print(db.execute("select count(*) from event").fetchone()[0], flush=True)
"""


def test_another_process_that_keeps_a_read_open_holds_the_writer_up_at_no_commit(path: Path) -> None:
    """Its view stays as it was; the log grows meanwhile, and shrinks back when it has gone."""
    written = rows(200, text="x" * 40_000)
    log = path.with_name("journal.db-wal")
    with SqliteStore(path) as store:
        store.append(written[:10])
        reader = subprocess.Popen(
            [sys.executable, "-c", READER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert reader.stdin is not None and reader.stdout is not None

        def sees() -> int:
            print(file=reader.stdin, flush=True)
            assert reader.stdout is not None
            return int(reader.stdout.readline())

        try:
            assert sees() == 10
            for row in written[10:190]:
                store.append([row])
            assert (store.seq, store.commits) == (190, 181)
            assert sees() == 10, "its transaction was open all the while"
            assert log.stat().st_size > LOG_BYTES_MAX
        finally:
            reader.stdin.close()
            reader.wait(10)
            reader.stdout.close()
        for row in written[190:]:
            store.append([row])
        assert log.stat().st_size <= LOG_BYTES_MAX
        assert list(store.read()) == written


def test_a_reader_may_be_there_before_the_journal_and_sees_it_grow(path: Path) -> None:
    written = rows(4)
    with Tail(path) as tail:
        assert tail.new() == []
        with SqliteStore(path) as store:
            assert tail.new() == []
            store.append(written[:3])
            assert tail.new() == written[:3]
            store.append(written[3:])
            assert tail.new() == written[3:]
            assert tail.new() == []


def test_following_gives_everything_that_was_written_before_it_was_stopped(path: Path) -> None:
    written = rows(30)
    stopped = threading.Event()
    seen: list[int] = []

    def look() -> None:
        for batch in follow(path, poll_s=0.005, stop=stopped.is_set):
            seen.extend(row.seq for row in batch)

    reader = threading.Thread(target=look)
    reader.start()
    with SqliteStore(path) as store:
        for row in written:
            store.append([row])
        stopped.set()
        reader.join(5)
    assert seen == list(range(1, 31))


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may grow beyond 200 kB: what a full disk looks like to whoever writes (EFBIG instead of ENOSPC)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_files")
def test_when_nothing_more_can_be_written_it_says_what_is_safe_and_goes_on_when_there_is_room(path: Path) -> None:
    written = rows(400, text="x" * 1000)
    with SqliteStore(path) as store:
        refused: list[JournalError] = []
        while len(refused) < 3:  # the first refusal makes room by moving the log into the database; the third does not
            try:
                store.append(written[store.seq : store.seq + 1])
            except JournalError as error:
                refused.append(error)
            assert store.seq < 400
        kept = store.seq
        assert kept > 0
        assert f"events from {kept + 1} on cannot be written" in refused[-1].message
        assert f"Events up to {kept} are on disk" in refused[-1].state
        assert [row.seq for row in read_rows(path)] == list(range(1, kept + 1))
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        store.append(written[kept:])
        assert list(store.read()) == written


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_named_as_such_and_nothing_is_lost(tiny_disk: Path) -> None:
    written = rows(400, text="x" * 1000)
    ballast = tiny_disk / "ballast"
    ballast.write_bytes(b"0" * 100_000)
    with SqliteStore(tiny_disk / "journal.db") as store:
        with pytest.raises(JournalError, match="the disk is full"):
            for row in written:
                store.append([row])
        kept = store.seq
        assert 0 < kept < 400
        ballast.unlink()
        store.append(written[kept : kept + 20])
        assert [row.seq for row in store.read()] == list(range(1, kept + 21))


def test_a_finished_journal_can_be_read_on_a_disk_that_is_read_only(tiny_disk: Path) -> None:
    path = tiny_disk / "journal.db"
    with SqliteStore(path) as store:
        store.append(rows(3))
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    assert len(list(read_rows(path))) == 3
    with pytest.raises(JournalError, match="cannot be opened: Read-only file system"):
        SqliteStore(path)


def test_an_empty_journal_has_the_beginning_as_its_head(path: Path) -> None:
    with SqliteStore(path) as store:
        assert (store.seq, store.head) == (0, GENESIS)
        assert list(store.read()) == []
