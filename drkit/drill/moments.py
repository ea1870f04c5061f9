"""When a fault strikes a drill that is real: the journal says when, and can be held still.

Whoever holds the journal's write lock stops the run at its next event and changes nothing: no result is written, so
what was done stays unacknowledged. A run waits for that as for a slow disk.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from drkit.drill.matrix import Moment
from drkit.engine.journal import Tail
from drkit.engine.state import StepState
from drkit.errors import DrkitError

#: The command of the fold that comes just before, by kind of step and moment.
SIGNS: Final[Mapping[tuple[str, Moment], str]] = {
    ("action", Moment.BEFORE): "prepare",
    ("action", Moment.DURING): "apply",
    ("action", Moment.AFTER): "apply",
    ("probe", Moment.BEFORE): "observe",
    ("gate", Moment.BEFORE): "ask",
    ("gate", Moment.AFTER): "answer",
}
LOOKS_S: Final = 0.003
WAITS_S: Final = 5.0
"""For whoever writes the journal just then."""


def in_time(step: StepState, moment: Moment) -> bool:
    """Whether the step is where the moment wants it: not sent yet, or without a result."""
    return step.finished_t is None and not (moment is Moment.BEFORE and step.intent)


def come(journal: Path, verb: str, step: str, within_s: float) -> bool:
    """Wait until the journal has this command. Whether it came."""
    deadline = time.monotonic() + within_s
    with Tail(journal) as tail:
        while time.monotonic() < deadline:
            if any(c.verb == verb and c.step == step for row in tail.new() for c in row.commands):
                return True
            time.sleep(LOOKS_S)
    return False


@contextmanager
def held(journal: Path) -> Iterator[None]:
    """Nothing more is written to the journal as long as this lasts. DrkitError if it cannot be held."""
    with contextlib.closing(sqlite3.connect(journal, isolation_level=None, timeout=WAITS_S)) as db:
        try:
            db.execute("begin immediate")
        except sqlite3.Error as error:
            raise DrkitError(f"journal {journal} cannot be held still: {error}", hint="drkit status") from error
        yield
        db.execute("rollback")
