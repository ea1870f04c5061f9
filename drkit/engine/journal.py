"""Keep the journal of one run on disk: append-only, hash-chained, durable before anyone acts on it.

SQLite in WAL mode with `synchronous=FULL`: one transaction an append, synced before it returns. What is stored of a
row is the very text its digest was taken over, so that a changed byte shows without knowing what the row means.
Opening reads the last row only; the whole chain is checked by whoever reads it whole (`read`, `evidence verify`).

One process writes (a lock file beside the journal says which one may); any number of others read, in short
transactions that never hold the writer up.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from drkit.engine.chain import Stored, body_of, checked, digest_of
from drkit.engine.sharing import file_mode
from drkit.errors import JournalError, Tampered
from drkit.model.events import GENESIS, SCHEMA, Row
from drkit.model.upgrades import NEWER, check, version_of

VERSION: Final = 1
"""Of the tables. There is no older one yet; what events look like has a version of its own (`model.upgrades`)."""

LOG_BYTES_MAX: Final = 4 << 20
"""What SQLite's log beside the journal shrinks back to; it grows beyond only while somebody keeps one read open."""

_TABLES: Final = """
create table schema (version integer not null, events text not null, made_at real not null);
create table event (seq integer primary key, body text not null, hash text not null);
"""
_CHUNK: Final = 500


class SqliteStore:
    """The journal as its one writer sees it; implements the port `Store`. Safe to call from any thread.

    JournalError: the folder is not there, the disk is full or read-only, the file is of a newer version, or another
    process writes this journal. A failed append left nothing behind: the same rows may be offered again, as often as
    it takes, also after it is unknown whether the last attempt reached the disk.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.commits = 0
        self._mutex = threading.Lock()
        self._lock = _writer_lock(path)
        try:
            self._db: sqlite3.Connection | None = self._open()
        except BaseException:
            os.close(self._lock)
            raise

    @property
    def seq(self) -> int:
        """Number of the last durable row; 0 when there is none."""
        return self._seq

    @property
    def head(self) -> str:
        """Hash of the last durable row: what notifications and copies anchor."""
        return self._head

    def append(self, rows: Sequence[Row]) -> None:
        """Make all rows durable, or none. Rows that are there already are left alone."""
        with self._mutex:
            try:
                db = self._db = self._db or self._reopen()
                fresh = self._fresh(db, rows)
                if fresh:
                    db.execute("begin immediate")
                    db.executemany("insert into event values (?, ?, ?)", fresh)
                    db.execute("commit")
                    self._seq, self._head = fresh[-1][0], fresh[-1][2]
                    self.commits += 1
            except sqlite3.Error as error:
                self._drop()
                raise self._failed(error, rows) from error

    def read(self, after: int = 0) -> Iterator[Row]:
        """Rows with `seq` > `after`, in order, each checked against the one before. Tampered where one does not fit."""
        return read_rows(self.path, after)

    def close(self) -> None:
        """Let go of the file; another process may write it then."""
        with self._mutex:
            self._drop()
            if self._lock >= 0:
                os.close(self._lock)
                self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _open(self) -> sqlite3.Connection:
        try:
            db = _connect(self.path, "rwc")
            try:
                self.path.chmod(file_mode(self.path.parent))  # SQLite's files beside it get the same
                if db.execute("pragma journal_mode = wal").fetchone()[0] != "wal":
                    raise JournalError(f"{self.path} is on a file system without shared memory (a network mount?)",
                                       hint="export XDG_STATE_HOME=/var/tmp/drkit-state")  # fmt: skip
                db.execute("pragma synchronous = full")
                db.execute(f"pragma journal_size_limit = {LOG_BYTES_MAX}")
                self._set_up(db)
                self._seq, self._head = _last(db)
            except BaseException:
                db.close()
                raise
        except sqlite3.Error as error:
            raise JournalError(
                f"journal {self.path} cannot be opened: {_why(error)}",
                state="Nothing was changed.",
                hint=f"df -h {self.path.parent}",
            ) from error
        return db

    def _set_up(self, db: sqlite3.Connection) -> None:
        version = _version(db, self.path)
        if version is None:
            db.execute("begin immediate")
            for statement in _TABLES.split(";"):
                db.execute(statement)
            db.execute("insert into schema values (?, ?, ?)", (VERSION, SCHEMA, time.time()))
            db.execute("commit")
            _sync_folder(self.path.parent)  # else a crash could take the file's name with it

    def _reopen(self) -> sqlite3.Connection:
        """After a failed commit. Nobody knows whether it reached the disk: what is visible is made durable first."""
        db = self._open()
        db.execute("pragma wal_checkpoint(truncate)")
        return db

    def _fresh(self, db: sqlite3.Connection, rows: Sequence[Row]) -> list[tuple[int, str, str]]:
        seq, head = self._seq, self._head
        fresh: list[tuple[int, str, str]] = []
        for row in rows:
            if row.seq <= seq:
                found = db.execute("select hash from event where seq = ?", (row.seq,)).fetchone()
                if found is not None and found[0] != row.hash:
                    raise JournalError(f"event {row.seq} is in {self.path} already, and it is another one")
                continue
            if row.seq != seq + 1 or row.prev != head:
                raise JournalError(f"event {row.seq} does not continue {self.path}, whose last one is {seq}")
            fresh.append((row.seq, body_of(row), row.hash))
            seq, head = row.seq, row.hash
        return fresh

    def _failed(self, error: sqlite3.Error, rows: Sequence[Row]) -> JournalError:
        first = max(self._seq + 1, rows[0].seq if rows else 0)
        return JournalError(
            f"events from {first} on cannot be written to {self.path}: {_why(error)}",
            state=f"Events up to {self._seq} are on disk; nothing that depends on a later one was started.",
            hint=f"df -h {self.path.parent}",
        )

    def _drop(self) -> None:
        if self._db is not None:
            with suppress(sqlite3.Error):  # a full disk may refuse even the last checkpoint; the WAL stays and is read
                self._db.close()
            self._db = None


class Tail:
    """A read-only look at a journal that another process writes, from one row to the next.

    `new` is empty as long as there is no journal. Nothing stays locked between calls.
    """

    def __init__(self, path: Path, after: int = 0) -> None:
        self.path = path
        self.seq = after
        self._head: str | None = GENESIS if after == 0 else None
        self._db: sqlite3.Connection | None = None

    def new(self, limit: int | None = None) -> list[Row]:
        """The next rows (all, or `limit`), checked. Tampered where one does not fit; JournalError if unreadable."""
        if self._db is None:
            if not self.path.exists():
                return []
            self._db = _open_read_only(self.path)
        try:
            if self._head is None:
                self._head = _hash_of(self._db, self.seq, self.path)
            stored = self._db.execute(
                "select seq, body, hash from event where seq > ? order by seq limit ?",
                (self.seq, -1 if limit is None else limit),
            ).fetchall()
        except sqlite3.Error as error:
            if "no such table" in str(error):  # its writer is making it right now
                return []
            raise JournalError(f"journal {self.path} cannot be read after event {self.seq}: {_why(error)}") from error
        rows: list[Row] = []
        for row in checked((Stored(*columns) for columns in stored), prev=self._head, seq=self.seq):
            rows.append(row)
            self.seq, self._head = row.seq, row.hash
        return rows

    def close(self) -> None:
        """Let go of the file."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def read_rows(path: Path, after: int = 0) -> Iterator[Row]:
    """Rows of a journal with `seq` > `after`, read beside its writer and checked. Raises as `Tail.new`.

    JournalError if there is no such journal.
    """
    if not path.exists():
        raise JournalError(f"there is no journal at {path}", state="Nothing was changed.", hint="drkit runs")
    with Tail(path, after) as tail:
        while rows := tail.new(_CHUNK):
            yield from rows


def follow(
    path: Path, after: int = 0, *, poll_s: float = 0.1, stop: Callable[[], bool] = lambda: False
) -> Iterator[list[Row]]:
    """What a journal gains, as it gains it: a list every `poll_s`, empty when nothing happened. Ends after `stop()`.

    Blocks the calling thread between lists; what was written before `stop` became true is still given.
    """
    with Tail(path, after) as tail:
        while True:
            last = stop()
            rows = tail.new(_CHUNK)
            yield rows
            if last and not rows:
                return
            if not rows:
                time.sleep(poll_s)


def stored_rows(path: Path) -> Iterator[Stored]:
    """Rows as they lie on disk, unchecked, for whoever verifies them. JournalError at the first unreadable page."""
    db = _open_read_only(path)
    seq = 0
    try:
        while chunk := db.execute(
            "select seq, body, hash from event where seq > ? order by seq limit ?", (seq, _CHUNK)
        ).fetchall():
            for columns in chunk:
                yield Stored(*columns)
                seq = columns[0]
    except sqlite3.Error as error:
        raise JournalError(f"{path} is torn after event {seq}: {_why(error)}") from error
    finally:
        db.close()


def _writer_lock(path: Path) -> int:
    lock = path.with_name(path.name + ".lock")
    try:
        fd = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise JournalError(
            f"journal {path} cannot be opened: {error.strerror}",
            state="Nothing was changed.",
            hint=f"ls -ld {path.parent}",
        ) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel drops it with the process, also after kill -9
    except OSError as error:
        os.close(fd)
        raise JournalError(
            f"another process is writing {path}", state="Nothing was changed.", hint="drkit status"
        ) from error
    return fd


def _connect(path: Path, mode: str, *, immutable: bool = False) -> sqlite3.Connection:
    url = f"{path.absolute().as_uri()}?mode={mode}{'&immutable=1' if immutable else ''}"
    db = sqlite3.connect(url, uri=True, isolation_level=None, check_same_thread=False, timeout=5.0)
    db.text_factory = lambda data: data.decode(errors="surrogateescape")  # a changed byte is named, not tripped over
    return db


def _open_read_only(path: Path) -> sqlite3.Connection:
    try:
        db = _connect(path, "ro")
        try:
            _version(db, path)
        except sqlite3.OperationalError:
            db.close()
            if path.with_name(path.name + "-wal").exists():
                raise
            db = _connect(path, "ro", immutable=True)  # a finished journal in a folder we may not write to
            _version(db, path)
    except sqlite3.Error as error:
        raise JournalError(f"journal {path} cannot be read: {_why(error)}", state="Nothing was changed.") from error
    return db


def _version(db: sqlite3.Connection, path: Path) -> int | None:
    """Version of the tables; None if they are not made yet. JournalError if drkit is older than the journal."""
    if db.execute("select 1 from sqlite_master where name = 'schema'").fetchone() is None:
        return None
    version, events = db.execute("select version, events from schema").fetchone()
    if version > VERSION:
        raise JournalError(
            f"{path} was written by a newer drkit: tables of version {version}; this one reads up to {VERSION}",
            state="Nothing was changed.",
            hint="drkit --version",
            code=NEWER,
        )
    check(version_of(events), str(path))
    return int(version)


def _last(db: sqlite3.Connection) -> tuple[int, str]:
    row = db.execute("select seq, body, hash from event order by seq desc limit 1").fetchone()
    if row is None:
        return 0, GENESIS
    last = Stored(*row)
    if digest_of(last.body) != last.hash:
        raise Tampered(f"event {last.seq}, the last one, was changed after it was written", seq=last.seq)
    return last.seq, last.hash


def _hash_of(db: sqlite3.Connection, seq: int, path: Path) -> str:
    row = db.execute("select hash from event where seq = ?", (seq,)).fetchone()
    if row is None:
        raise JournalError(f"{path} has no event {seq}")
    return str(row[0])


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _why(error: sqlite3.Error) -> str:
    """SQLite's words, in an operator's."""
    name = getattr(error, "sqlite_errorname", "")
    if name == "SQLITE_FULL":
        return "the disk is full"
    if name.startswith("SQLITE_READONLY"):
        return "it is read-only"
    if name.startswith("SQLITE_IOERR"):
        return f"the disk refused ({name.removeprefix('SQLITE_').lower()})"
    return str(error)
