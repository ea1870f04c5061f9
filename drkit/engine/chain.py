"""Rows as bytes: the text a row's digest is taken over, and the check that a row continues the chain. Pure.

Checking the stored text itself, and not what was parsed from it, finds every changed byte, also in rows of a kind
that this version does not know, and costs one SHA-256.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from drkit.errors import JournalError, Tampered
from drkit.model.events import GENESIS, Row
from drkit.model.values import canonical, digest_of_bytes


class Stored(NamedTuple):
    """A row as it lies on disk: the canonical JSON of `seq, at, fact, commands, prev`, and its digest."""

    seq: int
    body: str
    hash: str


def body_of(row: Row) -> str:
    """The text that `row.hash` is the digest of."""
    if row.body is not None:
        return row.body.decode()
    data = row.to_json()
    del data["hash"]
    return canonical(data).decode()


def line_of(row: Row) -> bytes:
    """Canonical JSON of the whole row, its hash included; put together from its text where that is at hand."""
    if row.body is None:
        return canonical(row.to_json())
    at = row.body.rindex(b'"prev":"')  # keys are sorted: the hash belongs before it
    return b'%b"hash":"%b",%b' % (row.body[:at], row.hash.encode(), row.body[at:])


def digest_of(body: str) -> str:
    """`sha256:<hex>` of a row's text."""
    return digest_of_bytes(body.encode(errors="surrogateescape"))


def fitting(rows: Iterable[Stored], *, prev: str = GENESIS, seq: int = 0) -> Iterator[Stored]:
    """The same rows, each only after its place in the chain was checked. Tampered at the first that does not fit."""
    for row in rows:
        seq += 1
        if row.seq != seq:
            raise Tampered(f"event {seq} is missing (found {row.seq})", seq=seq)
        if digest_of(row.body) != row.hash:
            raise Tampered(f"event {seq} was changed after it was written", seq=seq)
        if _place(row.body) != (seq, prev):
            raise Tampered(f"event {seq} does not follow the event before it", seq=seq)
        prev = row.hash
        yield row


def _place(body: str) -> tuple[object, object]:
    data = json.loads(body)
    return data.get("seq"), data.get("prev")


def checked(rows: Iterable[Stored], *, prev: str = GENESIS, seq: int = 0) -> Iterator[Row]:
    """The rows as facts and commands. Tampered as `fitting`; JournalError for a kind this version does not know."""
    for stored in fitting(rows, prev=prev, seq=seq):
        yield parsed(stored)


def parsed(stored: Stored) -> Row:
    """One row as fact and commands, unchecked. JournalError for a kind or field this version does not know."""
    try:
        return Row.from_json(json.loads(stored.body) | {"hash": stored.hash})
    except (TypeError, KeyError) as error:  # a field was added or dropped by another version
        raise JournalError(
            f"event {stored.seq} cannot be read by this drkit: {error}",
            state="Nothing was changed.",
            hint="drkit --version",
        ) from error
