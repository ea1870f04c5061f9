"""End a drill that holds an environment and is carried out elsewhere, or by nobody: it breaks nothing more.

Its lease is claimed as a real run does it, and given back at once. What it broke is not healed here.
"""

from __future__ import annotations

import time

from drkit.engine.clock import SystemClock
from drkit.engine.identity import hostname, login, this_process
from drkit.engine.lease import DRILL_TERM_S, LONGEST_CALL_S, POLL_S, TERM_S, LeaseProtocol, look
from drkit.errors import Locked
from drkit.model.ports import Holder, Objects

_RUN = "chaos-stop"


def unattended(objects: Objects, environment: str) -> Holder | None:
    """The drill that holds the environment, unless its runner is alive on this machine. JournalError."""
    found = look(objects, environment)
    if found is None or not found[1].drill:
        return None
    process = found[0].process
    return None if process is not None and process.here and not process.dead else found[1]


class Ending:
    """The end of one drill. Every method may raise JournalError: the state store does not answer."""

    def __init__(self, objects: Objects, environment: str, holder: Holder) -> None:
        self._objects, self._environment, self._holder = objects, environment, holder
        self._lease = LeaseProtocol(
            objects, environment, SystemClock(), who=login(), host=hostname(), process=this_process(),
            term_s=TERM_S, drill_term_s=DRILL_TERM_S, longest_call_s=LONGEST_CALL_S,
        )  # fmt: skip

    def claim(self) -> bool:
        """Claim its lease, without waiting; whether it holds the environment no more, which is then free of it."""
        found = look(self._objects, self._environment)
        if found is None or found[1].lock_id != self._holder.lock_id:
            return True
        try:
            ours = self._lease.attempt(_RUN, drill=True, urgent=True)
        except Locked:  # a real run was faster
            return True
        if ours is not None:
            self._lease.release()
        return ours is not None

    def wait(self) -> None:
        """Until it holds the environment no more: one that is alive gives up when it renews, another has its term."""
        while not self.claim():
            time.sleep(POLL_S)
