"""Write and read readings: append-only JSON lines, each carrying the digest of the line before.

The chain is over the bytes of the lines, so anyone can check it with a SHA-256 tool. Every line reaches the kernel at
once and the disk within 250 ms. A last line that was cut by a crash is named and left out; anything else that does
not continue the chain is `Tampered`.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self

from drkit.errors import JournalError, Tampered
from drkit.model.measurements import ReadingsKind, ReadingsRef
from drkit.model.values import Json, utc

SCHEMA: Final = "drkit.readings/1"
SYNC_EVERY_S: Final = 0.25
#: In the folder of a prober: which files it writes now.
CURRENT: Final = "current.json"
_LINE_BYTES_MAX: Final = 1 << 16


def boottime() -> float:
    """Seconds on the clock that only goes forward and does not stop in suspend."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """Which boot of which machine: two values of `t` are on one clock only if this is equal."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _digest(line: bytes) -> str:
    return "sha256:" + hashlib.sha256(line).hexdigest()


class ReadingsWriter:
    """Appends to a readings file of its own; the file must not exist yet.

    `write` hands the line to the kernel and, unless `sync_elsewhere`, to the disk when 250 ms have passed. With
    `sync_elsewhere` the owner calls `sync` itself (a prober does so in a thread: a slow disk must not delay a probe).
    OSError (disk full) means that the file may end in a torn line; nothing more can be written to it.
    """

    def __init__(
        self,
        path: Path,
        *,
        id: str,
        kind: ReadingsKind,
        interval_s: float | None = None,
        settings: dict[str, Json] | None = None,
        sync_elsewhere: bool = False,
    ) -> None:
        self.path = path
        self.count = 0
        self.head: str | None = None
        self._sync_elsewhere = sync_elsewhere
        self._dirty = False
        self._synced_t = boottime()
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o644)
        started_t, started_wall = boottime(), time.time()
        self._append(
            {
                "schema": SCHEMA, "id": id, "kind": kind, "host": socket.gethostname(), "boot_id": boot_id(),
                "t": round(started_t, 6), "at": utc(started_wall), "started_wall": started_wall,
                "interval_s": interval_s, "settings": settings or {},
            }
        )  # fmt: skip
        self.sync()

    def write(self, record: dict[str, Json]) -> None:
        """Append one record. `t` and `at` are stamped unless it has them; `seq` and `prev` are the chain's."""
        if "t" not in record:
            record = {"t": round(boottime(), 6), "at": utc(time.time()), **record}
        self._append(record)
        if not self._sync_elsewhere and boottime() - self._synced_t >= SYNC_EVERY_S:
            self.sync()

    def sync(self) -> None:
        """Make what was written durable."""
        if self._dirty:
            self._dirty = False  # before the call: a line written meanwhile must be synced again
            os.fsync(self._fd)
        self._synced_t = boottime()

    def close(self) -> None:
        """Sync and let go of the file."""
        if self._fd >= 0:
            self.sync()
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _append(self, record: dict[str, Json]) -> None:
        line = json.dumps({"seq": self.count, "prev": self.head, **record}, separators=(",", ":"), allow_nan=False)
        data = line.encode() + b"\n"
        self._dirty = True
        written = 0
        while written < len(data):  # a full disk takes part of a line, then refuses
            written += os.write(self._fd, data[written:])
        self.count += 1
        self.head = _digest(data[:-1])


@dataclass(frozen=True, slots=True)
class Readings:
    """A readings file whose chain was verified. `records` leaves out the header; `torn` names a cut last line."""

    path: Path
    header: dict[str, Any]
    records: tuple[dict[str, Any], ...]
    head: str
    count: int
    torn: str | None

    @property
    def id(self) -> str:
        """What the writer called it."""
        return str(self.header["id"])

    @property
    def kind(self) -> ReadingsKind:
        """What it holds."""
        kind: ReadingsKind = self.header["kind"]
        return kind


def read(path: Path, *, upto: ReadingsRef | None = None) -> Readings:
    """Read and verify a whole file, or the part of it that `upto` journaled.

    Tampered: a line was changed, removed or inserted, or line `upto.count` is not the journaled one. JournalError: the
    file is not there, has no header, or is of a newer schema.
    """
    header: dict[str, Any] | None = None
    records: list[dict[str, Any]] = []
    head, count, torn = "", 0, None
    for number, line, whole in _lines(path):
        if upto is not None and number == upto.count:
            break
        if not whole:
            torn = f"line {number + 1} is torn: {len(line)} bytes without an end"
            break
        record = _checked(path, number, line, head or None)
        head, count = _digest(line), number + 1
        if header is None:
            header = _header(path, record)
        else:
            records.append(record)
    if header is None:
        raise JournalError(f"{path} holds no readings ({torn or 'it is empty'})")
    if upto is not None and (count, head) != (upto.count, upto.head):
        found = f"line {count} is {head[:19]}…" if count == upto.count else f"only {count} lines are there"
        raise Tampered(f"{path}: the run journaled {upto.count} lines ending in {upto.head[:19]}…, {found}", seq=count)
    return Readings(path, header, tuple(records), head, count, torn)


def head(path: Path) -> ReadingsRef:
    """What a run journals about this file as it is now, in constant time however long the file is.

    The last whole line carries its own number and, through the one before, all others; that they do continue each
    other is verified when the file is read. JournalError: the file is not there or has no header.
    """
    with _opened(path) as file:
        first = file.readline()
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _LINE_BYTES_MAX))
        whole, _, torn = file.read().rpartition(b"\n")
    if not first.endswith(b"\n"):
        raise JournalError(f"{path} holds no readings (not one whole line)")
    last = whole.rpartition(b"\n")[2]
    header = _header(path, _checked(path, 0, first[:-1], None))
    record = json.loads(last)
    return ReadingsRef(
        id=header["id"],
        kind=header["kind"],
        path=str(path),
        head=_digest(last),
        count=record["seq"] + 1,
        host=header["host"],
        boot_id=header["boot_id"],
        started_at=header["at"],
        summary={"first_at": header["at"], "last_at": record["at"], "last_t": record["t"], "torn": bool(torn)},
    )


def ref(readings: Readings) -> ReadingsRef:
    """The reference to what was just read and verified, with what it holds counted."""
    return ReadingsRef(
        id=readings.id,
        kind=readings.kind,
        path=str(readings.path),
        head=readings.head,
        count=readings.count,
        host=readings.header["host"],
        boot_id=readings.header["boot_id"],
        started_at=readings.header["at"],
        summary=_summary(readings),
    )


def announced(folder: Path) -> dict[str, Path]:
    """The readings files that a prober writes now, by kind, as its folder says. FileNotFoundError: none has run.

    Any other OSError, ValueError or KeyError: the folder does not say it.
    """
    current = json.loads((folder / CURRENT).read_text(encoding="utf-8"))
    return {kind: Path(path) for kind, path in current["files"].items()}


def tail(path: Path, *, bytes_max: int = 1 << 18) -> Iterator[dict[str, Any]]:
    """The last records of a growing file, oldest first, unverified: for looking, never for evidence."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - bytes_max))
        lines = file.read().split(b"\n")
    for line in lines[1 if size > bytes_max else 0 : -1]:
        yield json.loads(line)


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise JournalError(f"readings file {path} cannot be read: {error.strerror}") from error


def _lines(path: Path) -> Iterator[tuple[int, bytes, bool]]:
    with _opened(path) as file:
        for number, line in enumerate(file):
            whole = line.endswith(b"\n")
            yield number, line[:-1] if whole else line, whole


def _checked(path: Path, number: int, line: bytes, prev: str | None) -> dict[str, Any]:
    try:
        record = json.loads(line)
        if not isinstance(record, dict):
            raise ValueError("not an object")
    except ValueError as error:
        raise Tampered(f"{path}: line {number + 1} is not a record", seq=number) from error
    if record.get("seq") != number or record.get("prev") != prev:
        raise Tampered(f"{path}: line {number + 1} does not continue the chain", seq=number)
    return record


def _header(path: Path, record: dict[str, Any]) -> dict[str, Any]:
    if record.get("schema") != SCHEMA:
        raise JournalError(f'{path} has schema "{record.get("schema")}", this drkit reads {SCHEMA}')
    return record


def _summary(readings: Readings) -> dict[str, Json]:
    """Counts by what each record is and how it came out, and the span: enough to see what a file is about."""
    counts: dict[str, int] = {}
    for record in readings.records:
        name = ".".join(str(record[key]) for key in ("what", "outcome") if key in record)
        counts[name] = counts.get(name, 0) + 1
    last = readings.records[-1] if readings.records else readings.header
    return {"counts": dict(counts), "first_at": readings.header["at"], "last_at": last["at"], "torn": readings.torn}
