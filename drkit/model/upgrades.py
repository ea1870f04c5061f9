"""Events that an older drkit wrote, read as this one's. Pure functions of a row's JSON, one for each step of version.

A journal is evidence: what is on disk, and in its copies, stays the text that was written and hashed. Rows are upgraded
in memory, each time they are read; what a resumed run appends is of this version and continues the same chain. So one
journal may hold rows of several versions, and each says its own: `v`, which only rows of the first version lack.

To change what an event looks like: raise `VERSION`, and add the function that makes a row of the version before into
one of yours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from drkit.errors import JournalError

VERSION: Final = 1
"""Of the events that this drkit writes."""
UNMARKED: Final = 1
"""The version of rows that do not say theirs."""
NEWER: Final = "E0602"
"""Code of the error that a newer drkit wrote this: such a journal is neither torn nor edited."""

Upgrade = Callable[[dict[str, Any]], dict[str, Any]]

#: By version: makes a row (`seq`, `at`, `fact`, `commands`, `prev`, `hash`) into one of the next version.
UPGRADES: dict[int, Upgrade] = {}


def version_of(schema: str) -> int:
    """Of `drkit.events/N`. ValueError if it is none."""
    name, _, number = schema.partition("/")
    if name != "drkit.events":
        raise ValueError(f"{schema} is not a version of events")
    return int(number)


def check(version: int, what: str) -> None:
    """JournalError if this drkit cannot read events of that version."""
    if version > VERSION:
        raise JournalError(
            f"{what} was written by a newer drkit: events of version {version}; this one reads up to {VERSION}",
            state="Nothing was changed.", hint="drkit --version", code=NEWER,
        )  # fmt: skip
    missing = next((step for step in range(version, VERSION) if step not in UPGRADES), None)
    if missing is not None:
        raise JournalError(
            f"{what} was written by an older drkit: events of version {version}; this one cannot read {missing}",
            state="Nothing was changed.", hint="drkit --version",
        )  # fmt: skip


def upgraded(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row as this version would have written it; the same one if it is of this version. JournalError."""
    version = row.get("v", UNMARKED)
    if version == VERSION:
        return row
    check(version, f"event {row.get('seq')}")
    made = dict(row)
    for step in range(version, VERSION):
        made = UPGRADES[step](made)
    return made
