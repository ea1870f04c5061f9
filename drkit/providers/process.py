"""Processes on this machine: argument lists, never a shell; bounded in time; nothing left running."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import anyio

from drkit.errors import OutcomeUnknown, StepFailed
from drkit.model.environment import Environment

OUTPUT_MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Ended:
    """A process that ended by itself."""

    exit_code: int
    output: str
    errors: str


class Process:
    """Local processes; each in a group of its own, so that its children end with it."""

    @classmethod
    def connect(cls, environment: Environment, secrets: object) -> Self:
        """A provider; starts nothing."""
        return cls()

    async def aclose(self) -> None:
        """Nothing is kept."""

    async def run(
        self, argv: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None, timeout_s: float
    ) -> Ended:
        """Run to the end. StepFailed if it cannot be started, OutcomeUnknown if it had to be killed at the limit."""
        try:
            process = await anyio.open_process(
                list(argv),
                stdin=subprocess.DEVNULL,
                cwd=cwd,
                env={**os.environ, **env} if env else None,
                start_new_session=True,
            )
        except OSError as error:
            raise StepFailed(f"{argv[0]} cannot be started: {error.strerror or error}", world="untouched") from error
        parts: dict[str, bytes] = {}

        async def collect(name: str) -> None:
            stream = process.stdout if name == "output" else process.stderr
            assert stream is not None  # both are pipes
            async for chunk in stream:
                parts[name] = (parts.get(name, b"") + chunk)[-OUTPUT_MAX_BYTES:]

        try:
            with anyio.fail_after(timeout_s):
                async with anyio.create_task_group() as group:
                    group.start_soon(collect, "output")
                    group.start_soon(collect, "errors")
                    await process.wait()
        except TimeoutError as slow:
            raise OutcomeUnknown(f"{argv[0]} did not end within {timeout_s:g} s and was killed") from slow
        finally:
            with anyio.CancelScope(shield=True):
                _kill_group(process.pid)
                await process.aclose()
        code = process.returncode
        return Ended(-1 if code is None else code, _text(parts, "output"), _text(parts, "errors"))


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # the whole group has ended


def _text(parts: Mapping[str, bytes], name: str) -> str:
    return parts.get(name, b"").decode("utf-8", "replace")
