"""Whatever one does to a journal's rows, the first row that is not as it was written is named."""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from journal_fakes import rows

from drkit.engine.evidence import Anchor, verify
from drkit.engine.journal import SqliteStore

COUNT = 12
WRITTEN = rows(COUNT)


def edited(*statements: tuple[str, tuple[object, ...]]) -> tuple[int | None, str | None]:
    """First bad event and problem after these changes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.db"
        with SqliteStore(path) as store:
            store.append(WRITTEN)
        db = sqlite3.connect(path)
        with db:
            for statement, values in statements:
                db.execute(statement, values)
        db.close()
        found = verify(path, run="k7qd", anchors=[Anchor(COUNT, WRITTEN[-1].hash, "the report")])
        return found.first_bad, found.problem


@settings(max_examples=60, deadline=None)
@given(st.integers(1, COUNT), st.data())
def test_a_changed_byte_is_named(seq: int, data: st.DataObject) -> None:
    from drkit.engine.chain import body_of

    body = body_of(WRITTEN[seq - 1]).encode()
    place = data.draw(st.integers(0, len(body) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != body[place]))
    changed = body[:place] + bytes([byte]) + body[place + 1 :]
    bad, problem = edited(("update event set body = cast(? as text) where seq = ?", (changed, seq)))
    assert (bad, problem) == (seq, f"event {seq} was changed after it was written")


@settings(max_examples=20, deadline=None)
@given(st.integers(1, COUNT))
def test_a_removed_row_is_named(seq: int) -> None:
    bad, problem = edited(("delete from event where seq = ?", (seq,)))
    assert bad == seq and problem is not None


@settings(max_examples=20, deadline=None)
@given(st.integers(1, COUNT - 1), st.integers(1, COUNT - 1))
def test_swapped_rows_are_named(one: int, two: int) -> None:
    if one == two:
        return
    bad, _ = edited(
        ("update event set seq = -1 where seq = ?", (one,)),
        ("update event set seq = ? where seq = ?", (one, two)),
        ("update event set seq = ? where seq = -1", (two,)),
    )
    assert bad == min(one, two)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, COUNT))
def test_a_row_rewritten_with_a_fitting_hash_is_named_at_the_next_or_by_the_anchor(seq: int) -> None:
    from drkit.engine.chain import body_of, digest_of

    body = body_of(WRITTEN[seq - 1]).replace("quiet", "noisy")
    bad, problem = edited(("update event set body = ?, hash = ? where seq = ?", (body, digest_of(body), seq)))
    assert problem is not None and bad == min(seq + 1, COUNT)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, COUNT))
def test_a_cut_tail_is_noticed_by_an_anchor(kept: int) -> None:
    bad, problem = edited(("delete from event where seq > ?", (kept,)))
    if kept == COUNT:
        assert problem is None
    else:
        assert bad == kept + 1 and problem is not None and "cut off" in problem
