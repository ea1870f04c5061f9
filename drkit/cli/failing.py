"""The one place where an error is printed: what happened, what state the world is in, one command to type next.

Tracebacks go to a file, and to the screen only with `-vv`.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from drkit.cli.settings import Settings, state_home
from drkit.errors import CatalogError, DrkitError, Exit, FileError, Mistake, UsageError

WIDTH = 72


def show(error: DrkitError, settings: Settings) -> int:
    """Print an error drkit raised on purpose; its exit code."""
    if settings.output != "text":
        _stderr(json.dumps(as_json(error), ensure_ascii=False))
    elif isinstance(error, FileError):
        _mistakes(error)
    else:
        _stderr(text(error))
    _trace(error, settings)
    return int(error.exit_code)


def text(error: DrkitError) -> str:
    """An error as people read it."""
    lines = error.message.splitlines() or [""]
    if isinstance(error, CatalogError):
        lines = [f"{len(error.mistakes)} mistake(s) in the catalog of actions", *lines]
    if len(lines[0]) > WIDTH and ". " in lines[0]:  # one thought a line
        first, _, rest = lines[0].partition(". ")
        lines[:1] = [first, rest]
    head = f"{error.code} {lines[0]} (exit {int(error.exit_code)})"
    block = [f"{head:<{WIDTH}}  {error.state}", *(f"  {line}" for line in lines[1:])]
    return "\n".join(block + ([f"  Fix:  {error.hint}"] if error.hint else []))


def as_json(error: DrkitError) -> dict[str, Any]:
    """An error as scripts read it: one object on stderr."""
    told: dict[str, Any] = {
        "schema": "drkit.error/1", "code": error.code, "message": error.message, "state": error.state,
        "hint": error.hint, "exit_code": int(error.exit_code),
    }  # fmt: skip
    if isinstance(error, FileError):
        told["mistakes"] = [
            {"file": m.file, "line": m.line, "column": m.column, "message": m.message, "hint": m.hint}
            for m in error.mistakes
        ]
    return told


def unexpected(error: BaseException, settings: Settings) -> int:
    """Print an error nobody foresaw: one message, and where its traceback was written."""
    where = _keep(error)
    message = f"unexpected {type(error).__name__}: {error}".rstrip(": ")
    wrapped = DrkitError(
        message,
        code="E0999",
        state="What was running goes on or stands where it stood: `drkit status` tells.",
        hint=f"the traceback is in {where}" if where else "drkit -vv ... shows the traceback",
    )
    if settings.output != "text":
        _stderr(json.dumps(as_json(wrapped), ensure_ascii=False))
    else:
        _stderr(text(wrapped))
    _trace(error, settings)
    return int(Exit.FAILED)


def usage(error: Any, settings: Settings) -> int:
    """Print a mistake on the command line that the parser found; for a group without a command, its help."""
    message = str(error.format_message())
    if type(error).__name__ == "NoArgsIsHelpError":
        _stderr(message)
        return int(Exit.USAGE)
    where = getattr(getattr(error, "ctx", None), "command_path", None) or "drkit"
    return show(UsageError(message, code="E0200", hint=f"{where} --help"), settings)


def _mistakes(error: FileError) -> None:
    for mistake in error.mistakes:
        head = f"{error.code} {mistake}"
        _stderr(head)
        source = _source(mistake)
        if source is not None or mistake.hint:
            _stderr(f"      | {(source or '').strip():<50}  {mistake.hint or ''}".rstrip())
    count = len(error.mistakes)
    _stderr(f"{count} mistake{'s' if count != 1 else ''} (exit {int(error.exit_code)})   {error.state}")
    if error.hint:
        _stderr(f"  Fix:  {error.hint}")


def _source(mistake: Mistake) -> str | None:
    try:
        lines = Path(mistake.file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None  # the mistake may be that there is no such file
    return lines[mistake.line - 1] if 0 < mistake.line <= len(lines) else None


def _keep(error: BaseException) -> Path | None:
    """Append the traceback to the log of this user's commands; None if that cannot be written either."""
    log = state_home() / "log" / "unexpected.log"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            file.write(f"--- pid {os.getpid()}: {' '.join(sys.argv)}\n")
            file.write("".join(traceback.format_exception(error)))
    except OSError:
        return None
    return log


def _trace(error: BaseException, settings: Settings) -> None:
    if settings.verbosity >= 2:
        _stderr("".join(traceback.format_exception(error)).rstrip())


def _stderr(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
