"""How a runner ended, for whoever started it: its exit code, and what `exit.json` beside the journal says."""

from __future__ import annotations

import signal
from typing import Any

from drkit.engine.runs import RunFolder
from drkit.engine.state import RunState, Status
from drkit.errors import DrkitError, Exit


def could_not_begin(folder: RunFolder, error: DrkitError) -> None:
    """Write down why a runner touched nothing. OSError."""
    said = {"code": error.code, "message": error.message, "hint": error.hint, "state": error.state}
    folder.end({"exit": int(error.exit_code), "outcome": None, "error": said})


def failure(folder: RunFolder) -> DrkitError | None:
    """Why the last runner could not begin, as it said it; None if it did, or was killed before it could."""
    ended = folder.ended() or {}
    said = ended.get("error")
    if said is None:
        return None
    error = DrkitError(said["message"], hint=said["hint"], state=said["state"], code=said["code"])
    error.exit_code = Exit(ended["exit"])
    return error


def ended(state: RunState, code: Exit, *, head: str, events: int) -> dict[str, Any]:
    """What `exit.json` says of a runner that began; `head`, `events`: of its journal."""
    told = {"exit": int(code), "outcome": state.outcome, "why": state.why, "error": None}
    return told | {"head": head, "events": events}


def exit_of(state: RunState, signalled: int | None) -> Exit:
    """The exit code of a runner that leaves its run so; `signalled`: by this signal."""
    if state.outcome is not None:
        return {"done": Exit.DONE, "rolled_back": Exit.ROLLED_BACK}.get(state.outcome, Exit.FAILED)
    if signalled is not None:
        return Exit.SIGINT if signalled == signal.SIGINT else Exit.SIGTERM
    if state.having(Status.UNCERTAIN):
        return Exit.UNKNOWN
    return Exit.WAITING if state.phase == "waiting" else Exit.FAILED


def known(group: BaseExceptionGroup[BaseException]) -> DrkitError | None:
    """The one error that drkit knows among those of a task group, if they are all of that kind."""
    matched, rest = group.split(DrkitError)
    while isinstance(matched, BaseExceptionGroup):
        matched = matched.exceptions[0]  # type: ignore[assignment]
    return matched if rest is None and isinstance(matched, DrkitError) else None
