"""Roll back what a dead runner left: what the dead-man does at once, and `drkit chaos stop` whenever it is typed.

Whoever gets the journal's lock does it, once; a rollback that is journaled as done is not done again. One that was
under way when whoever did it died is done again: a rollback must bear that.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from drkit.chaos.toolkit import leftover, shape
from drkit.chaos.toolkit.abort import Abort
from drkit.chaos.toolkit.calling import MARK, Calls
from drkit.chaos.toolkit.controls import Controls
from drkit.chaos.toolkit.course import Course
from drkit.chaos.toolkit.ending import write_journal
from drkit.chaos.toolkit.lease import kill_marked
from drkit.chaos.toolkit.ledger import Ledger
from drkit.chaos.toolkit.model import Experiment
from drkit.chaos.toolkit.redaction import Redaction
from drkit.chaos.toolkit.values import Values
from drkit.errors import Exit, JournalError
from drkit.model.events import Finished, Resumed, Row

if TYPE_CHECKING:
    from drkit.engine.journal import SqliteStore
    from drkit.engine.runs import RunFolder

_STAGES = ("before", "method", "after")
_LOCK_WAIT_S = 15.0


def roll_back(
    folder: RunFolder, experiment: Experiment, values: Values, *, by: str, why: str, deadline_s: float,
    tell: Callable[[Row], None] | None = None, warn: Callable[[str], None] = lambda text: None,
) -> list[str]:  # fmt: skip
    """Undo what the run left; what failed, a sentence each. JournalError if its journal is in somebody else's hands."""
    from drkit.engine.journal import read_rows

    rows = list(read_rows(folder.journal)) if folder.journal.exists() else []
    kill_marked(MARK, folder.id, leftover.over(rows))
    with _store(folder) as store:
        rows = list(read_rows(folder.journal))
        found = leftover.left(rows)
        if not rows or (found is None and any(isinstance(row.fact, Finished) for row in rows)):
            return []
        folder.claim()
        ledger = Ledger(store, redaction=Redaction(values.secrets), rows=rows)
        ledger.tell = tell
        ledger.record(Resumed, by={"name": by, "how": why}, host=os.uname().nodename, wall=time.time())
        calls = Calls(folder.id, values, deadline_s)
        calm = Abort()
        controls = Controls(experiment, values, calls, Abort(), calm, warn, ledger.redaction)
        course = Course(experiment, folder.id, values, ledger, Abort(), calm, calls, controls, warn=warn)
        try:
            course.skip(_STAGES, why)
            failures: list[str] = []
            if found is not None and found[1]:
                failures = course.undo(found[2])
                course.fault("failed" if failures else "healed", failures=failures)
            else:
                course.skip(("rollback",), "nothing was done that could be undone")
            outcome = "failed" if failures else "aborted"
            ledger.record(Finished, outcome=outcome, why="; ".join([why, *failures]))
        finally:
            calls.close()
        status = "failed" if failures else "interrupted"
        told = shape.journal(ledger.rows, experiment, status=status, deviated=False, redaction=ledger.redaction)
        write_journal(folder, told)
        code = Exit.FAILED if failures or found is None or not found[1] else Exit.ROLLED_BACK
        folder.end({"exit": int(code), "outcome": outcome, "why": why})
        return failures


def _store(folder: RunFolder) -> SqliteStore:
    """The journal, once whoever writes it is gone."""
    from drkit.engine.journal import SqliteStore

    deadline = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            return SqliteStore(folder.journal)
        except JournalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
