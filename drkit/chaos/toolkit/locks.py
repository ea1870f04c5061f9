"""One run of an experiment at a time: by its environment's lease, or, without an environment, by this machine's lock.

The machine's lock is the kernel's, on a file named by the experiment: runner and dead-man hold it together, so that it
is free only when both are gone, and then at once.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from drkit.chaos.lever import why_stop
from drkit.chaos.toolkit.abort import Abort, Reason
from drkit.errors import DrkitError, JournalError, Locked, Refused, UsageError

if TYPE_CHECKING:
    from drkit.engine.lease import LeaseProtocol
    from drkit.model.environment import Environment
    from drkit.model.ports import Objects

_POLL_S = 0.25


class Hold(Protocol):
    """What a run holds so that no second one runs."""

    token: int
    lock_id: str
    where: str
    """For people."""
    descriptors: tuple[int, ...]
    """What the dead-man has to keep open."""

    def keep(self, abort: Abort) -> None:
        """Go on holding it; call for the end if it is lost."""

    def inherit(self) -> None:
        """In the dead-man: hold it after the runner's death."""

    def release(self) -> None:
        """Give it up."""


class MachineLock:
    """Held by a descriptor. Locked if somebody has it."""

    token = 0

    def __init__(self, folder: Path, title: str, run: str) -> None:
        slug = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:40]
        self.lock_id = f"experiment-{slug}-{hashlib.sha256(title.encode()).hexdigest()[:8]}"
        path = folder / f"{self.lock_id}.lock"
        self.where = f"file:{path} (protects this machine only)"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UsageError(f"the lock {path} cannot be made: {error.strerror}") from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(self._fd, 4096).decode(errors="replace") or "{}"
            os.close(self._fd)
            other = json.loads(holder).get("run", "another run")
            raise Locked(f'"{title}" is being run already, by {other}', hint=f"drkit status {other} --watch") from error
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, json.dumps({"run": run, "pid": os.getpid()}).encode(), 0)
        self.descriptors: tuple[int, ...] = (self._fd,)

    def keep(self, abort: Abort) -> None:
        """The kernel does."""

    def inherit(self) -> None:
        """The dead-man has the descriptor."""

    def release(self) -> None:
        """Free for the next."""
        os.close(self._fd)


class EnvironmentLock:
    """The environment's lease, held as a drill: a real run may claim it, and then the experiment ends."""

    descriptors: tuple[int, ...] = ()

    def __init__(self, environment: Environment, objects: Objects, run: str) -> None:
        """Locked if somebody holds the environment; JournalError if its state store does not answer."""
        from drkit.engine.clock import SystemClock
        from drkit.engine.identity import hostname, login, this_process
        from drkit.engine.lease import DRILL_TERM_S, LONGEST_CALL_S, TERM_S, LeaseProtocol

        self._run, self._term_s, self._objects, self._environment = run, DRILL_TERM_S, objects, environment.name
        refused = why_stop(objects, environment.name)
        if refused is not None:
            raise Refused(refused, hint=f"drkit chaos lever status --env {environment.name}")
        self._stop = threading.Event()
        self._renewing: threading.Thread | None = None
        self._protocol: LeaseProtocol = LeaseProtocol(
            objects, environment.name, SystemClock(), who=login(), host=hostname(), process=this_process(),
            term_s=TERM_S, drill_term_s=DRILL_TERM_S, longest_call_s=LONGEST_CALL_S,
        )  # fmt: skip
        while (holder := self._protocol.attempt(run, drill=True)) is None:
            time.sleep(_POLL_S)
        self.token, self.lock_id = holder.token, holder.lock_id
        self.where = objects.describe()

    def keep(self, abort: Abort) -> None:
        """Renew it from a thread."""
        self._renewing = threading.Thread(target=self._renew, args=(abort,), daemon=True, name="lock")
        self._renewing.start()

    def inherit(self) -> None:
        """Take it over from the dead runner, so that it can be given back."""
        self._protocol.attempt(self._run, drill=True, take_over=True)

    def release(self) -> None:
        """Give it up; the token stays."""
        self._stop.set()
        if self._renewing is not None:
            self._renewing.join()
        self._protocol.release()

    def _renew(self, abort: Abort) -> None:
        while not self._stop.wait(self._term_s / 3):
            try:
                self._protocol.renew()
                pulled = why_stop(self._objects, self._environment)
                if pulled is not None:
                    abort.call(Reason(pulled))
                    return
            except Locked as lost:
                abort.call(Reason(lost.message))
                return
            except JournalError as error:
                if self._protocol.remaining_s() <= 0:
                    abort.call(Reason(error.message))
                    return


def released(hold: Hold) -> str | None:
    """Give it up; why that failed."""
    try:
        hold.release()
    except DrkitError as error:
        return error.message
    return None
