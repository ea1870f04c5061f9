"""Every error drkit raises on purpose, as one tree; the class says who has to act.

DrkitError
├── UsageError             2  operator: the command line is off; nothing was touched
├── FileError              2  author of a file: every mistake in it, each with file:line:column
├── Refused                3  operator: a safety gate said no; nothing was touched
│   └── PreflightFailed    3  operator: something the run would need is missing; nothing was touched
├── Locked                 7  operator: another run holds this environment; nothing was touched
├── StepFailed             1  operator: the world may have changed; `world` says what is known
│   └── OutcomeUnknown     8  operator: the call was sent and its result never seen
├── Unobservable           -  nobody yet: a probe could not tell; becomes the verdict *unknown*, never *absent*
│   ├── Unreachable        -  the same: nobody answered there, and nothing was sent
│   └── ShutOut            1  operator: whoever answers there lets us not in, and will not later; nothing was sent
├── NotSupported           -  author of an environment: this endpoint does not implement the call
├── CatalogError           2  author of actions: every bad registration at once, each a full sentence
└── JournalError           1  operator: the journal cannot be written or read; no effect was started after it
    └── Tampered           1  auditor: a row does not continue the chain; `seq` names the first one

The number is the command's exit code (`Exit`). Errors are printed once, by the command line; tracebacks go to the
run's log.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum


class Exit(IntEnum):
    """Exit codes: a contract with scripts. 2, 3, 7 and 10 mean that *this command* touched nothing."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    MISSED = 4
    WAITING = 5
    ROLLED_BACK = 6
    LOCKED = 7
    UNKNOWN = 8
    CHANGES = 10
    SIGINT = 130
    SIGTERM = 143


class DrkitError(Exception):
    """Something went wrong in a way drkit knows.

    `code` is the stable identifier printed first (`E0701`), `state` says what state the world is in, `hint` is one
    command that can be pasted into a shell.
    """

    exit_code: Exit = Exit.FAILED
    code: str = "E0001"
    default_state: str = "Nothing was changed."

    def __init__(
        self, message: str, *, hint: str | None = None, state: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.state = state if state is not None else self.default_state
        if code is not None:
            self.code = code


class UsageError(DrkitError):
    """The command line cannot be carried out as typed."""

    exit_code = Exit.USAGE
    code = "E0201"


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake in a file: where it is (1-based), what is wrong, and how it would be right."""

    file: str
    line: int
    column: int
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}  {self.message}"


class FileError(DrkitError):
    """A runbook, scenario or configuration file has mistakes; `mistakes` holds all of them."""

    exit_code = Exit.USAGE
    code = "E0207"

    def __init__(self, mistakes: Sequence[Mistake], *, hint: str | None = None) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(str(mistake) for mistake in self.mistakes), hint=hint)


class Refused(DrkitError):
    """A safety gate said no."""

    exit_code = Exit.REFUSED
    code = "E0301"


class PreflightFailed(Refused):
    """The run would need something that is not there."""

    code = "E0310"


class Locked(DrkitError):
    """Another run holds the environment."""

    exit_code = Exit.LOCKED
    code = "E0701"


class StepFailed(DrkitError):
    """An effect failed. `world` is what is known: `untouched`, `changed`, `turned-away` or `unknown`.

    `turned-away`: its last call did nothing, for a reason that passes by itself; earlier ones may have.
    """

    code = "E0500"
    default_state = "The step may have changed something; the run's log has what was observed."

    def __init__(self, message: str, *, world: str = "unknown", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.world = world


class OutcomeUnknown(StepFailed):
    """The call was sent and its result never seen: it must be looked at, not repeated."""

    exit_code = Exit.UNKNOWN
    code = "E0501"


class Unobservable(DrkitError):
    """A probe could not tell. The verdict is *unknown*; missing data is never taken for absence."""

    code = "E0520"


class Unreachable(Unobservable):
    """Nobody answered there in time, and nothing but greetings was sent. Says nothing about what is the case there."""

    code = "E0521"


class ShutOut(Unobservable):
    """We are not let in: a wrong key or password, a host key that is not the known one, no credentials that count.

    Nothing was sent. Whoever knocks again is shut out again, until a person has changed something.
    """

    code = "E0522"


class NotSupported(DrkitError):
    """The endpoint does not implement this call (real services do; some stand-ins do not)."""

    code = "E0530"


class CatalogError(DrkitError):
    """Actions, probes or faults were registered wrongly; every mistake is listed."""

    exit_code = Exit.USAGE
    code = "E0220"

    def __init__(self, mistakes: Sequence[str]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(self.mistakes))


class JournalError(DrkitError):
    """The journal cannot be written or read."""

    code = "E0601"
    default_state = "No effect was started after the last journaled one."


class Tampered(JournalError):
    """A journal or readings file is torn or was edited; `seq` is the first record that does not fit the chain."""

    code = "E0610"

    def __init__(self, message: str, *, seq: int) -> None:
        super().__init__(message, hint="drkit evidence verify")
        self.seq = seq
