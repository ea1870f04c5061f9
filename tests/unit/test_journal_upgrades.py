"""Journals of older versions: read as this one's events, never rewritten, and continued in one chain.

There is no older version yet. The tests make one up, 0: it called the text of a remark `words`, and had no `why`.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from journal_fakes import rows
from runner_fakes import asked, catalog, chain, kill, kinds, started, state, until

from drkit.context import Providers
from drkit.engine import orders
from drkit.engine.copy import put_rows, restore
from drkit.engine.evidence import verify
from drkit.engine.journal import SqliteStore, read_rows
from drkit.engine.runner import Means, carry_out
from drkit.errors import JournalError, Tampered
from drkit.model import upgrades
from drkit.model.events import GENESIS, Noted, Row
from drkit.model.values import canonical, digest_of_bytes
from drkit.providers.objects import open_objects, open_url
from drkit.providers.secrets import Secrets


def since_zero(row: dict[str, Any]) -> dict[str, Any]:
    """A row of version 0 as one of version 1."""
    fact = dict(row["fact"])
    if fact["kind"] == "operator.noted":
        fact["text"] = fact.pop("words")
    commands = [{"why": "written before commands said why", **command} for command in row["commands"]]
    return {**row, "fact": fact, "commands": commands}


@pytest.fixture
def upgrade(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(upgrades.UPGRADES, 0, since_zero)


def as_in_zero(row: Row) -> dict[str, Any]:
    """What version 0 would have written of it."""
    data: dict[str, Any] = row.to_json()
    fact = dict(data["fact"])
    if fact["kind"] == "operator.noted":
        fact["words"] = fact.pop("text")
    commands = [{key: value for key, value in command.items() if key != "why"} for command in data["commands"]]
    return {"seq": row.seq, "at": row.at, "fact": fact, "commands": commands, "v": 0}


def written_by_zero(path: Path, old: list[Row]) -> list[tuple[int, str, str]]:
    """A journal as version 0 would have left it; what lies in it."""
    SqliteStore(path).close()
    stored: list[tuple[int, str, str]] = []
    prev = GENESIS
    for row in old:
        body = canonical({**as_in_zero(row), "prev": prev})
        prev = digest_of_bytes(body)
        stored.append((row.seq, body.decode(), prev))
    with sqlite3.connect(path) as db:
        db.execute("update schema set events = 'drkit.events/0'")
        db.executemany("insert into event values (?, ?, ?)", stored)
    db.close()
    return stored


def on_disk(path: Path) -> list[tuple[int, str, str]]:
    db = sqlite3.connect(path)
    found = db.execute("select seq, body, hash from event order by seq").fetchall()
    db.close()
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.mark.usefixtures("upgrade")
def test_old_events_are_read_as_new_ones_and_stay_on_disk_as_they_were(path: Path) -> None:
    old = written_by_zero(path, rows(3))
    found = list(read_rows(path))
    assert [row.fact for row in found] == [row.fact for row in rows(3)]
    assert [row.hash for row in found] == [hash for _, _, hash in old]
    assert found[0].commands[0].why == "written before commands said why"
    assert on_disk(path) == old
    assert found[0].to_json() == {**json.loads(old[0][1]), "hash": old[0][2]}, "shown as it was written"


@pytest.mark.usefixtures("upgrade")
def test_what_is_appended_is_of_this_version_in_the_same_chain(path: Path) -> None:
    old = written_by_zero(path, rows(3))
    with SqliteStore(path) as store:
        more = rows(2, prev=store.head, first=4)
        store.append(more)
        assert list(store.read(3)) == more
    assert on_disk(path)[:3] == old and "words" not in on_disk(path)[3][1]
    assert [row.seq for row in read_rows(path)] == [1, 2, 3, 4, 5]
    checked = verify(path, run="k7qd")
    assert (checked.sound, checked.events, checked.head) == (True, 5, more[-1].hash)


@pytest.mark.usefixtures("upgrade")
def test_a_changed_byte_of_an_old_event_is_found(path: Path) -> None:
    written_by_zero(path, rows(3))
    with sqlite3.connect(path) as db:
        db.execute("update event set body = replace(body, 'quiet', 'noisy') where seq = 2")
    db.close()
    with pytest.raises(Tampered) as found:
        list(read_rows(path))
    assert found.value.seq == 2
    assert verify(path, run="k7qd").first_bad == 2


@pytest.mark.usefixtures("upgrade")
def test_a_copy_keeps_what_was_written_and_is_brought_back_so(path: Path, tmp_path: Path) -> None:
    old = written_by_zero(path, rows(3))
    objects = open_url((tmp_path / "store").as_uri())
    put_rows(objects, "k7qd", 1, list(read_rows(path)))
    back = restore(objects, "k7qd")
    assert [row.fact for row in back] == [row.fact for row in rows(3)]
    with SqliteStore(tmp_path / "other.db") as store:
        store.append(back)
    assert on_disk(tmp_path / "other.db") == old
    key = objects.keys("runs/")[0]
    (kept,) = (found[0] for found in [objects.get(key)] if found is not None)
    objects.put(key, kept.replace(b"quiet 2", b"noisy 2"))
    with pytest.raises(Tampered) as found:
        restore(objects, "k7qd")
    assert found.value.seq == 2


def test_without_an_upgrade_an_older_journal_is_refused_and_a_newer_event_always(path: Path) -> None:
    written_by_zero(path, rows(1))
    with pytest.raises(JournalError, match="older drkit: events of version 0") as refusal:
        list(read_rows(path))
    assert refusal.value.hint == "drkit --version"
    newer = {**rows(1)[0].to_json(), "v": 2}
    with pytest.raises(JournalError, match=r"event 1 was written by a newer drkit: events of version 2") as refusal:
        Row.from_json(newer)
    assert refusal.value.code == upgrades.NEWER
    with sqlite3.connect(path) as db:
        db.execute("update schema set events = 'drkit.events/2'")
    db.close()
    with pytest.raises(JournalError, match="newer drkit: events of version 2"):
        SqliteStore(path)


def test_every_version_before_this_one_that_was_ever_written_has_its_upgrade() -> None:
    assert set(upgrades.UPGRADES) == set(range(upgrades.UNMARKED, upgrades.VERSION))


@pytest.mark.usefixtures("upgrade")
async def test_a_run_that_an_older_drkit_began_is_resumed_to_its_end(tmp_path: Path) -> None:
    folder = asked(tmp_path, chain("a", "b", after="sign"))
    runner = started(folder)
    try:
        until(lambda: "step.intent" in kinds(folder))
        assert orders.send(folder, Noted(text="hello", by={})).answer == "accepted"
    finally:
        kill(runner)
    began = list(read_rows(folder.journal))
    for path in (folder.journal, *folder.path.glob("journal.db-*")):
        path.unlink()
    for copied in (tmp_path / "store" / "runs" / folder.id).glob("*.jsonl"):
        copied.unlink()
    old = written_by_zero(folder.journal, began)
    (tmp_path / "world" / "sign").write_text("")
    env = folder.request().environment
    secrets = Secrets(env)
    means = Means(catalog(), Providers(env, secrets), secrets, open_objects(env))
    assert await carry_out(folder, means, stay=False) == 0
    assert state(folder).outcome == "done" and state(folder).notes[0]["text"] == "hello"
    assert on_disk(folder.journal)[: len(old)] == old
    assert verify(folder.journal, run=folder.id, objects=open_objects(env)).sound
