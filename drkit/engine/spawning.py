"""Start a runner detached from whoever asks: own session, no terminal, output to the run's log.

It is started while the plan is still being made, loads what it needs and waits for *go*. If whoever asked goes away
without a word, nothing has begun; once told to go, nothing that happens to whoever asked reaches it.
"""

from __future__ import annotations

import gc
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from drkit.engine.identity import ProcessId, process
from drkit.engine.runs import RunFolder
from drkit.errors import JournalError

GO_VARIABLE: Final = "DRKIT_GO_FD"
_GO: Final = b"go\n"


@dataclass
class Spawned:
    """A runner that was started and waits for `go`."""

    process: ProcessId
    _pipe: int
    _child: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def go(self) -> None:
        """Begin. The request must be in the folder by now. JournalError if the runner is gone."""
        try:
            os.write(self._pipe, _GO)
        except BrokenPipeError as error:
            raise JournalError("the runner ended before it began", state="Nothing was changed.") from error
        finally:
            self.forget()

    def forget(self) -> None:
        """Let it go without a word: a runner that was not told to go ends by itself."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1

    def gone(self) -> bool:
        """It has ended (and is reaped, if it is our child)."""
        return self._child.poll() is not None


def spawn(folder: RunFolder, argv: Sequence[str], *, at_once: bool = False) -> Spawned:
    """Start `argv` as the run's runner: own session, stdin null, output to the run's log. It waits for `go`.

    `at_once`: it was told before it exists, so that no moment is left at which we could die without a word.
    Nothing that happens to the caller, its terminal or its pipes reaches it. OSError if it cannot be started.
    """
    ours, theirs = _pipe()
    if at_once:
        os.write(ours, _GO)
    log = os.open(folder.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        child = subprocess.Popen(
            list(argv), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/",
            pass_fds=(theirs,), env=os.environ | {GO_VARIABLE: str(theirs)},
        )  # fmt: skip
    except OSError:
        os.close(ours)
        raise
    finally:
        os.close(log)
        os.close(theirs)
    found = process(child.pid)
    return Spawned(found or ProcessId(child.pid, 0, ""), ours, child)


def wait_for_go() -> bool:
    """In the runner: block until whoever spawned it says go; at once if nobody did. False: they went away."""
    given = os.environ.pop(GO_VARIABLE, None)
    if given is None:
        return True
    with os.fdopen(int(given), "rb") as pipe:
        return pipe.readline() == _GO


def collect_rarely() -> None:
    """In the runner, once it is loaded: have Python look for cycles of dead objects less often.

    What a run makes it mostly keeps to its end; looking through that again and again takes a tenth of the engine's
    time. Not for a process that is not the run's own.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _pipe() -> tuple[int, int]:
    """Write end, read end; neither survives an exec unless it is passed on."""
    theirs, ours = os.pipe2(os.O_CLOEXEC)
    return ours, theirs
