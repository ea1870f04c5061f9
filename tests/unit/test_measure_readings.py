from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from drkit.errors import JournalError, Tampered
from drkit.measure import readings
from drkit.measure.readings import ReadingsWriter


def written(folder: Path, count: int = 5) -> Path:
    path = folder / "probes-a.jsonl"
    with ReadingsWriter(path, id="a", kind="probes", interval_s=0.1, settings={"clients": 20}) as writer:
        for number in range(count):
            writer.write({"what": "sent", "j": number})
    return path


def test_what_was_written_is_read_back_and_the_chain_verifies(tmp_path: Path) -> None:
    found = readings.read(written(tmp_path))
    assert [record["j"] for record in found.records] == [0, 1, 2, 3, 4]
    assert (found.id, found.kind, found.count, found.torn) == ("a", "probes", 6, None)
    assert found.header["schema"] == "drkit.readings/1"
    assert found.header["started_wall"] > 0 and found.header["t"] > 0


def test_the_chain_can_be_checked_with_nothing_but_sha256(tmp_path: Path) -> None:
    prev = None
    for line in written(tmp_path).read_bytes().splitlines():
        assert json.loads(line)["prev"] == prev
        prev = "sha256:" + hashlib.sha256(line).hexdigest()
    assert readings.head(tmp_path / "probes-a.jsonl").head == prev


def test_every_changed_removed_or_inserted_line_is_noticed(tmp_path: Path) -> None:
    path = written(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    for at in range(1, len(lines) - 1):  # of the last line only a journaled head can tell: see the next test
        changed = lines[at].replace(b'"what":"sent"', b'"what":"Sent"')
        for forged in (
            [*lines[:at], changed, *lines[at + 1 :]],
            [*lines[:at], *lines[at + 1 :]],
            [*lines[:at], lines[at], *lines[at:]],
        ):
            path.write_bytes(b"".join(forged))
            with pytest.raises(Tampered):
                readings.read(path)


def test_a_changed_or_cut_end_is_noticed_by_the_journaled_head(tmp_path: Path) -> None:
    path = written(tmp_path)
    ref = readings.head(path)
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"j":4', b'"j":9'))
    with pytest.raises(Tampered, match="the run journaled 6 lines"):
        readings.read(path, upto=ref)
    path.write_bytes(b"".join(data.splitlines(keepends=True)[:-1]))
    with pytest.raises(Tampered, match="only 5 lines are there"):
        readings.read(path, upto=ref)


@pytest.mark.parametrize("count", [0, 1, 500])
def test_the_head_taken_in_constant_time_is_that_of_the_whole_chain(tmp_path: Path, count: int) -> None:
    path = written(tmp_path, count)
    found, ref = readings.read(path), readings.head(path)
    assert (ref.head, ref.count, ref.id, ref.kind) == (found.head, found.count, found.id, found.kind)
    with path.open("ab") as file:
        file.write(b'{"seq":')
    assert readings.head(path).head == ref.head
    assert readings.read(path, upto=ref).head == ref.head


def test_lines_written_after_the_journaled_head_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "canary-b.jsonl"
    with ReadingsWriter(path, id="b", kind="canary") as writer:
        writer.write({"what": "write", "outcome": "acknowledged", "n": 1})
        writer.sync()
        ref = readings.head(path)
        writer.write({"what": "write", "outcome": "acknowledged", "n": 2})
    assert [record["n"] for record in readings.read(path, upto=ref).records] == [1]
    assert [record["n"] for record in readings.read(path).records] == [1, 2]


@pytest.mark.parametrize("keep", [1, 20, 80])
def test_a_torn_last_line_is_named_and_left_out(tmp_path: Path, keep: int) -> None:
    path = written(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]) + lines[-1][:keep])
    found = readings.read(path)
    assert found.count == 5
    assert found.torn == f"line 6 is torn: {keep} bytes without an end"
    assert readings.ref(found).summary["torn"] == found.torn
    assert readings.head(path).summary["torn"] is True


def test_a_file_without_header_or_of_another_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    with pytest.raises(JournalError, match="cannot be read"):
        readings.read(path)
    path.write_bytes(b"")
    with pytest.raises(JournalError, match="holds no readings"):
        readings.read(path)
    path.write_text('{"seq":0,"prev":null,"schema":"drkit.readings/2"}\n')
    with pytest.raises(JournalError, match=r"drkit\.readings/2"):
        readings.read(path)


def test_a_readings_file_is_never_appended_to_by_a_second_writer(tmp_path: Path) -> None:
    path = written(tmp_path)
    with pytest.raises(FileExistsError):
        ReadingsWriter(path, id="a", kind="probes")


def test_each_line_is_in_the_kernel_at_once_and_on_disk_within_the_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, synced = [100.0], list[int]()
    monkeypatch.setattr(readings, "boottime", lambda: now[0])
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(fd))
    path = tmp_path / "p.jsonl"
    with ReadingsWriter(path, id="p", kind="probes") as writer:
        synced.clear()
        for step in range(1, 11):
            now[0] = 100.0 + step / 10
            writer.write({"what": "sent", "j": step})
            assert len(path.read_bytes().splitlines()) == step + 1
    assert len(synced) == 4  # after 0.3, 0.6 and 0.9 s, and at the end


def test_a_full_disk_ends_in_a_torn_line_and_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, real = tmp_path / "p.jsonl", os.write
    writer = ReadingsWriter(path, id="p", kind="probes")
    writer.write({"what": "sent", "j": 0})
    room = [20]

    def full(fd: int, data: bytes) -> int:
        if room[0] == 0:
            raise OSError(28, "No space left on device")
        taken, room[0] = room[0], 0
        return real(fd, data[:taken])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        writer.write({"what": "sent", "j": 1})
    monkeypatch.undo()
    writer.close()
    found = readings.read(path)
    assert [record["j"] for record in found.records] == [0]
    assert found.torn == "line 3 is torn: 20 bytes without an end"


def test_the_summary_counts_what_the_file_holds(tmp_path: Path) -> None:
    path = tmp_path / "canary-b.jsonl"
    with ReadingsWriter(path, id="b", kind="canary") as writer:
        for number, outcome in enumerate(("acknowledged", "acknowledged", "unanswered")):
            writer.write({"what": "write", "outcome": outcome, "n": number})
        writer.write({"what": "alive"})
    counts = readings.ref(readings.read(path)).summary["counts"]
    assert counts == {"write.acknowledged": 2, "write.unanswered": 1, "alive": 1}
