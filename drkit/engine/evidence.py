"""Is a run's journal what was written, and would anyone notice if its end had been cut off? Reads only.

A chain shows every changed, added or missing event between its first and its last; it cannot show that the last ones
are gone. That takes an *anchor*: a hash of some event that is kept somewhere else, in the state store's copy, in a
notification, in a report. Up to the last anchor that fits, a cut would be noticed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from drkit.engine.chain import Stored, body_of, fitting
from drkit.engine.copy import restore
from drkit.engine.journal import stored_rows
from drkit.errors import JournalError, Tampered, UsageError
from drkit.model.events import GENESIS
from drkit.model.ports import Objects
from drkit.model.upgrades import NEWER


@dataclass(frozen=True, slots=True)
class Anchor:
    """Event `seq` had this hash, says `where`."""

    seq: int
    hash: str
    where: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found. `problem` None: every event is as it was written, as far as `anchored_upto` for certain."""

    events: int
    head: str
    problem: str | None
    first_bad: int | None
    """The first event that is changed, missing or unreadable; what comes before it is sound."""
    anchors: tuple[Anchor, ...]
    """Those that fit."""
    silent: tuple[str, ...]
    """Who could not be asked for an anchor, and why."""

    @property
    def sound(self) -> bool:
        """Nothing was found to be wrong."""
        return self.problem is None

    @property
    def anchored_upto(self) -> int:
        """A cut before this event would be noticed; after it, it would not."""
        return max((anchor.seq for anchor in self.anchors), default=0)


def verify(journal: Path, *, run: str, objects: Objects | None = None, anchors: Iterable[Anchor] = ()) -> Verification:
    """Check a journal, its copy in the state store, and each against the other.

    `anchors`: hashes that others kept, from reports and notifications. JournalError only if there is no journal, or if
    a newer drkit wrote it.
    """
    if not journal.exists():
        raise JournalError(f"there is no journal at {journal}", state="Nothing was changed.", hint="drkit runs")
    hashes, problem, bad = _walk(stored_rows(journal))
    silent: list[str] = []
    if problem is None and objects is not None:
        try:
            copied = [Stored(row.seq, body_of(row), row.hash) for row in restore(objects, run)]
            problem, bad = _against(hashes, copied)
            anchors = [*anchors, Anchor(copied[-1].seq, copied[-1].hash, objects.describe())]
        except Tampered as error:
            problem, bad = f"in the state store's copy, {error.message}", error.seq
        except (JournalError, UsageError) as error:
            silent.append(error.message)
    fit: list[Anchor] = []
    for anchor in sorted(anchors, key=lambda anchor: anchor.seq):
        if problem is not None:
            break
        problem, bad = _fits(hashes, anchor)
        if problem is None:
            fit.append(anchor)
    return Verification(len(hashes), hashes[-1] if hashes else GENESIS, problem, bad, tuple(fit), tuple(silent))


def _walk(rows: Iterable[Stored]) -> tuple[list[str], str | None, int | None]:
    """Hashes of the sound events; then what is wrong with the next, if anything."""
    hashes: list[str] = []
    try:
        for row in fitting(rows):
            hashes.append(row.hash)
    except Tampered as error:
        return hashes, error.message, error.seq
    except JournalError as error:
        if error.code == NEWER:
            raise
        return hashes, error.message, len(hashes) + 1
    return hashes, None, None


def _against(hashes: Sequence[str], copied: Sequence[Stored]) -> tuple[str | None, int | None]:
    for row in copied:
        if row.seq > len(hashes):
            return f"the journal ends at event {len(hashes)}; its copy goes on to {copied[-1].seq}", row.seq
        if hashes[row.seq - 1] != row.hash:
            return f"event {row.seq} is another one in the copy: one of the two was rewritten from there on", row.seq
    return None, None


def _fits(hashes: Sequence[str], anchor: Anchor) -> tuple[str | None, int | None]:
    if anchor.seq > len(hashes):
        return f"{anchor.where} knows event {anchor.seq}; the journal ends at {len(hashes)}: its end was cut off", len(
            hashes
        ) + 1
    if anchor.seq > 0 and hashes[anchor.seq - 1] != anchor.hash:
        return f"event {anchor.seq} is not the one that {anchor.where} knows: the journal was rewritten", anchor.seq
    return None, None
