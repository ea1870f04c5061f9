"""`python -m drkit.sandbox.serving FOLDER`: build a world, serve it until told to stop, end it."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

from drkit.errors import DrkitError
from drkit.sandbox.assembly import assemble
from drkit.sandbox.control import serve_control
from drkit.sandbox.layout import Folders
from drkit.sandbox.processes import become_subreaper
from drkit.sandbox.supervisor import Supervisor, report, say


async def run(folder: Path) -> int:
    """Build the world, serve until told to stop, end it. The exit status."""
    supervisor = Supervisor(Folders(folder))
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGCHLD, supervisor.reap)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.stopping.set)
    building = asyncio.ensure_future(assemble(supervisor, serve_control))
    stop = asyncio.ensure_future(supervisor.stopping.wait())
    await asyncio.wait([building, stop], return_when=asyncio.FIRST_COMPLETED)
    try:
        if not building.done():
            building.cancel()
            return 1
        if (error := building.exception()) is not None:
            report(_explained(error))
            say(f"not up: {error}")
            return 1
        report({"ready": True})
        say("up")
        await stop
        return 0
    finally:
        supervisor.shut_down()


def _explained(error: BaseException) -> dict[str, Any]:
    """An error for `up`: of several at once the first of ours, because the others follow from it."""
    while isinstance(error, BaseExceptionGroup):
        ours = [each for each in error.exceptions if isinstance(each, DrkitError | BaseExceptionGroup)]
        error = (ours or list(error.exceptions))[0]
    if isinstance(error, DrkitError):
        return {"error": error.message, "hint": error.hint, "code": error.code}
    return {"error": f"{type(error).__name__}: {error}", "hint": None, "code": "E0805"}


def main() -> None:
    """Argument: the world's folder."""
    become_subreaper()
    sys.exit(asyncio.run(run(Path(sys.argv[1]))))


if __name__ == "__main__":
    main()
