"""The dead-man of an experiment: a process that rolls back when the runner is gone or silent.

It is forked from the runner before the runner's first thread and waits on a pipe that only the runner holds: the
kernel tells it at once when the runner dies, however it dies. Nothing is armed until the runner says so, and the runner
goes on only when the lease has answered. A runner that says nothing for a whole term (it is stopped, or hangs) is
killed first, so that it injects nothing when it wakes; so are the activities that were under way.

The fork knows configuration and secrets from memory: nothing of them is on disk. It dies with a reboot, and then
`drkit chaos stop` does what it would have done.
"""

from __future__ import annotations

import os
import select
import signal
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from drkit.errors import DrkitError, PreflightFailed

TERM_S: Final = 60.0
_ARM, _BEAT, _STAND_DOWN, _YOURS, _HERE = b"a", b"b", b"q", b"y", b"!"
_TERM: Final = struct.Struct("!d")
_ANSWER_S: Final = 10.0
_DEATH_S: Final = 5.0  # one that the kernel holds back dies when it lets go


class Lease:
    """The runner's hold on its dead-man."""

    def __init__(self, pid: int, line: int, answers: int) -> None:
        self.pid, self._line, self._answers = pid, line, answers
        self._stop = threading.Event()
        self._beating: threading.Thread | None = None
        self.armed = False

    def arm(self, term_s: float) -> None:
        """From here on it acts when we do not. PreflightFailed if it does not answer: then nothing may be injected."""
        try:
            os.write(self._line, _ARM + _TERM.pack(term_s))
            ready, _, _ = select.select([self._answers], [], [], _ANSWER_S)
            answer = os.read(self._answers, 1) if ready else b""
        except OSError as error:
            raise PreflightFailed(f"the lease cannot be armed: {error}") from error
        if answer != _HERE:
            raise PreflightFailed("the lease cannot be armed: its process does not answer")
        self.armed = True
        self._beating = threading.Thread(target=self._beat, args=(term_s / 4,), daemon=True, name="lease")
        self._beating.start()

    def leave(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """The runner is through. If it does not know how it ended, the dead-man rolls back, and is waited for."""
        known = error is None or isinstance(error, DrkitError)
        self._end(_STAND_DOWN if known else _YOURS)

    def _end(self, word: bytes) -> None:
        self._stop.set()
        if self._beating is not None:
            self._beating.join()
        with suppress(BrokenPipeError):  # it has been killed: whoever did that knows
            os.write(self._line, word)
        os.close(self._line)
        os.close(self._answers)
        os.waitpid(self.pid, 0)

    def _beat(self, every_s: float) -> None:
        while not self._stop.wait(every_s):
            try:
                os.write(self._line, _BEAT)
            except BrokenPipeError:
                return


def prepare(rescue: Callable[[str], None], log: Path, keep: Collection[int] = ()) -> Lease:
    """Fork the dead-man. `rescue` is what it does, told why; `keep`: descriptors that it holds too (a lock).

    Call it before the first thread is started and before the journal is opened. PreflightFailed if there can be none.
    """
    line_read, line_write = os.pipe2(os.O_CLOEXEC)
    answers_read, answers_write = os.pipe2(os.O_CLOEXEC)
    runner = os.pidfd_open(os.getpid())
    try:
        pid = os.fork()
    except OSError as error:
        raise PreflightFailed(f"the lease cannot be armed: {error}") from error
    if pid == 0:
        try:
            _detach(log, {line_read, answers_write, runner, *keep})
            _watch(line_read, answers_write, runner, rescue)
        except BaseException:  # noqa: BLE001 - nobody is above us: it goes to the run's log
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(0)
    os.close(line_read)
    os.close(answers_write)
    os.close(runner)
    return Lease(pid, line_write, answers_read)


def _detach(log: Path, keep: Collection[int]) -> None:
    """A session of its own, no terminal, nothing of the runner's but what is needed."""
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    signal.set_wakeup_fd(-1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(nothing, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    below = 3
    for fd in sorted(keep):
        os.closerange(below, fd)
        below = fd + 1
    os.closerange(below, os.sysconf("SC_OPEN_MAX") if below < 65536 else below + 1024)
    sys.stdout = sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115 - ours for good


def _watch(line: int, answers: int, runner: int, rescue: Callable[[str], None]) -> None:
    term_s: float | None = None
    while True:
        ready, _, _ = select.select([line], [], [], term_s)
        said = os.read(line, 1) if ready else b"-"
        if said == _STAND_DOWN or (not said and term_s is None):
            return
        if said == _ARM:
            term_s = float(_TERM.unpack(os.read(line, _TERM.size))[0])
            os.write(answers, _HERE)
        elif said == _YOURS:
            rescue("the lease acts for its runner: it came upon an error that nobody foresaw")
            return
        elif said != _BEAT:
            why = "it is dead" if not said else f"it said nothing for {term_s:g} s"
            _kill(runner)
            rescue(f"the lease acts for its runner: {why}")
            return


def _kill(runner: int) -> None:
    """Make sure that the runner does nothing more."""
    try:
        signal.pidfd_send_signal(runner, signal.SIGKILL)
    except ProcessLookupError:
        return
    select.select([runner], [], [], None)


def kill_marked(mark: str, run: str, over: Collection[str]) -> int:
    """Kill whatever activities of this run left at work; how many processes that were. Steps that are over are spared.

    They are known by their environment. One that starts another while it is looked for shows it only to the next look,
    and one that has only just begun shows nothing yet: it is over when two looks in a row find nobody.
    """
    killed: set[int] = set()
    quiet, until = 0, time.monotonic() + _DEATH_S
    while quiet < 2 and time.monotonic() < until:
        found = set(_marked(f"{mark}={run}:".encode(), over))
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed |= found
        quiet = 0 if found else quiet + 1
    return len(killed)


def _marked(start: bytes, over: Collection[str]) -> Iterator[int]:
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            words = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue  # it has ended, or is somebody else's
        step = next((word[len(start) :].decode() for word in words if word.startswith(start)), None)
        if step is not None and step not in over:
            yield int(folder.name)
