"""Run one command to its end, its limit, or the end of the experiment. Nothing of it is left running then."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Final

from drkit.chaos.toolkit.abort import Abort
from drkit.chaos.toolkit.outcome import Outcome

OUTPUT_MAX: Final = 1 << 20
GRACE_S: Final = 1.0
"""Between asking a process to end and killing it: it may have something to put back."""
_CHUNK: Final = 1 << 16


def command(path: str, arguments: Any) -> list[str] | str:
    """What is run: a list without a shell, or, where the file has arguments as text, a line for one."""
    found = shutil.which(Path(path).expanduser()) or path
    if isinstance(arguments, str):
        return f"{found} {arguments}"
    words = chain.from_iterable(arguments.items()) if isinstance(arguments, dict) else arguments or ()
    return [found, *(str(word) for word in words if word not in (None, ""))]


def run(words: list[str] | str, *, env: Mapping[str, str], timeout_s: float | None, abort: Abort) -> Outcome:
    """Run it; `status` (exit code), `stdout` and `stderr` are its output, whatever the code."""
    try:
        # No descriptor of ours is inherited anyhow. That they close with exec, not before, keeps the lease waiting for
        # a dead runner's line until what that runner was starting can be known by its environment.
        process = subprocess.Popen(
            words, shell=isinstance(words, str), env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, start_new_session=True, close_fds=False,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        why = f"{words if isinstance(words, str) else words[0]} cannot be started: {error}"
        return Outcome("failed", error=why, world="untouched")
    try:
        ended = _watch(process, timeout_s, abort)
    finally:
        if process.returncode is None:
            _end(process)
        for stream in (process.stdout, process.stderr):
            assert stream is not None  # both are pipes
            stream.close()
    if isinstance(ended, str):
        return Outcome("cut" if ended == "cut" else "failed", error=_WHY[ended])
    out, err = (b"".join(parts)[-OUTPUT_MAX:].decode("utf-8", "replace") for parts in ended)
    return Outcome("succeeded", {"status": process.returncode, "stdout": out, "stderr": err})


_WHY: Final = {
    "cut": "killed: the experiment had to end",
    "slow": "process activity took too long to complete: it was killed",
}


def _watch(
    process: subprocess.Popen[bytes], timeout_s: float | None, abort: Abort
) -> tuple[list[bytes], list[bytes]] | str:
    """What it wrote, once it has ended. What its own children hold open is not waited for."""
    assert process.stdout is not None and process.stderr is not None  # both are pipes
    parts: dict[int, list[bytes]] = {process.stdout.fileno(): [], process.stderr.fileno(): []}
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    gone = os.pidfd_open(process.pid)
    poll = select.poll()
    for fd in (*parts, gone, abort.fd):
        poll.register(fd, select.POLLIN)
    try:
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
            ready = {fd for fd, _ in poll.poll(left)}
            for fd in ready & parts.keys():
                data = os.read(fd, _CHUNK)
                parts[fd].append(data)
                if not data:
                    poll.unregister(fd)
            if gone in ready:
                break
            if abort.fd in ready:
                return "cut"
            if not ready:
                return "slow"
        for fd, read in parts.items():
            _rest(fd, read)
    finally:
        os.close(gone)
    process.wait()
    out, err = parts.values()
    return out, err


def _rest(fd: int, read: list[bytes]) -> None:
    """What is still in the pipe."""
    if read and not read[-1]:
        return  # it was closed
    os.set_blocking(fd, False)
    while True:
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return
        if not data:
            return
        read.append(data)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it and whatever it started."""
    _signal(process.pid, signal.SIGTERM)
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
    _signal(process.pid, signal.SIGKILL)
    process.wait()


def _signal(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return  # all of it has ended
