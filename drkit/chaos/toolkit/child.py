"""The runner's end of a worker: start it when it is first needed, ask it, kill it when it has to end."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Mapping

from drkit.chaos.toolkit.abort import Abort
from drkit.chaos.toolkit.frames import Frame, receive, send
from drkit.chaos.toolkit.outcome import Outcome


class Child:
    """One worker process, which keeps the state of the modules it imports from one call to the next."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self._process: subprocess.Popen[bytes] | None = None
        self._wire: socket.socket | None = None

    def ask(self, call: Frame, *, timeout_s: float | None, abort: Abort) -> tuple[Outcome, Frame]:
        """Its answer, and the frame that it came in. Killed at the limit, and when the experiment has to end."""
        wire = self._started()
        try:
            send(wire, call)
        except OSError as error:
            self.kill()
            return Outcome("failed", error=f"the worker is gone: {error}"), {}
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        ready, _, _ = select.select([wire.fileno(), abort.fd], [], [], left)
        if wire.fileno() not in ready:
            self.kill()
            if ready:
                return Outcome("cut", error="killed: the experiment had to end"), {}
            return Outcome("failed", error=f"did not end within {timeout_s:g} s: it was killed"), {}
        frame = receive(wire)
        if frame is None:
            code = self.kill()
            return Outcome("failed", error=f"ended the process that it ran in (exit code {code})"), {}
        return _outcome(frame), frame

    def kill(self) -> int | None:
        """End it now; its exit code. Its modules' state is gone with it."""
        process, self._process = self._process, None
        if self._wire is not None:
            self._wire.close()
            self._wire = None
        if process is None:
            return None
        if process.poll() is None:
            try:
                os.killpg(process.pid, 9)  # what its functions started ends too
            except ProcessLookupError:
                process.kill()
        return process.wait()

    def _started(self) -> socket.socket:
        if self._wire is None:
            ours, theirs = socket.socketpair()
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "drkit.chaos.toolkit.worker", str(theirs.fileno())], env=self._env,
                    pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL, start_new_session=True,
                )  # fmt: skip
            self._wire = ours
        return self._wire


def _outcome(frame: Frame) -> Outcome:
    return Outcome(
        frame["status"], frame.get("output"), frame.get("error"), tuple(frame.get("trace", ())), frame.get("said", "")
    )
