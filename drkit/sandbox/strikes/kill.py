"""SIGKILL of the runner. Nothing ends it but somebody who starts another one."""

from __future__ import annotations

import signal

from drkit.errors import DrkitError
from drkit.sandbox.processes import wait_gone
from drkit.sandbox.strikes import Drilled


class Kill:
    """One process, for certain."""

    def __init__(self, drilled: Drilled) -> None:
        self._runner = drilled.runner

    def begin(self) -> None:
        """Gone when this returns. DrkitError if it was not there any more."""
        if not self._runner.send(signal.SIGKILL) or wait_gone([self._runner], within_s=10):
            raise DrkitError(f"the runner {self._runner.pid} cannot be killed", hint="drkit status")

    def met(self) -> int:
        """The one process."""
        return 1

    def lasts(self) -> bool:
        """It was over with the process."""
        return False

    def end(self) -> None:
        """Nothing is left of it."""
