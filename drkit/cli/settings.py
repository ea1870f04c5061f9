"""The global options: what they are, that they may stand anywhere on the line, and how a command reads them.

`drkit plan --env sandbox` and `drkit --env sandbox plan` are the same: `hoist` moves global options to the front
before the line is parsed. `DRKIT_ENV`, `DRKIT_STATE`, `DRKIT_OUTPUT`, ... mirror them; a flag wins.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drkit.cli.say import Manner, Say
from drkit.errors import UsageError

#: Global options that take a value, and those that do not.
VALUED = ("-o", "--output", "--query", "-C", "--directory", "--env", "--state", "--timeout")
FLAGS = ("--plain", "--no-color", "-q", "--quiet", "-v", "-vv", "--verbose", "--no-input", "--version")


@dataclass
class Settings(Manner):
    """The global options of this command. One instance per process, filled by the root command."""

    ask: bool = True
    """May questions be asked? Never without a terminal."""
    folder: Path = field(default_factory=Path.cwd)
    env: str | None = None
    state: str | None = None
    timeout_s: float | None = None

    @property
    def can_ask(self) -> bool:
        """Somebody is there to answer: a terminal on both ends and no `--no-input`."""
        return self.ask and sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()

    @property
    def animated(self) -> bool:
        """May a screen be redrawn? Otherwise one line per event."""
        dumb = os.environ.get("TERM", "") in ("", "dumb")
        return self.output == "text" and not self.plain and not dumb and sys.stdout.isatty()

    @property
    def say(self) -> Say:
        """The console of this command."""
        return Say(self)


def hoist(argv: Sequence[str]) -> list[str]:
    """The same command line with every global option in front of the command. Stops at `--`.

    A value that looks like a global option must be attached (`--reason=--plain`).
    """
    front: list[str] = []
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        name, attached, _ = word.partition("=")
        if word == "--":
            return [*front, *rest, word, *words]
        if word in FLAGS or (attached and name in VALUED) or (word[:2] in ("-o", "-C") and len(word) > 2):
            front.append(word)
        elif word in VALUED:
            front += [word, *_one(words)]
        else:
            rest.append(word)
    return [*front, *rest]


def _one(words: Iterator[str]) -> list[str]:
    value = next(words, None)
    return [] if value is None else [value]


def duration(text: str, flag: str) -> float:
    """Seconds of a duration typed after `flag`. UsageError if it is not one."""
    from drkit.model.values import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"{flag}: {error}") from error


def pairs(given: Sequence[str] | None) -> dict[str, Any]:
    """`NAME=VALUE` words as parameters. UsageError for a word that is none."""
    from drkit.plan.parameters import setting

    return dict(setting(word) for word in given or [])


def state_home() -> Path:
    """Where runs and logs of this user are kept: `$XDG_STATE_HOME/drkit`, else `~/.local/state/drkit`."""
    home = os.environ.get("XDG_STATE_HOME")
    return Path(home).expanduser() / "drkit" if home else Path.home() / ".local" / "state" / "drkit"
