"""The console: data to stdout, talk to stderr, and the few shapes that screens are made of.

Colour only underlines what the words already say: `NO_COLOR`, `TERM=dumb`, `--no-color`, `--plain` and pipes lose
nothing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from drkit.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

Output = Literal["text", "json", "jsonl"]

#: Width of tables that nobody's terminal limits.
PIPE_WIDTH = 160

STYLES = {
    "OK": "green", "GO": "green", "RUN": "cyan", "FAIL": "bold red", "NO-GO": "bold red", "WARN": "yellow",
    "ASK": "bold yellow", "WAIT": "yellow", "SKIP": "dim", "-": "dim", "?": "bold magenta",
}  # fmt: skip


@dataclass
class Manner:
    """How a command was told to speak."""

    output: Output = "text"
    query: str | None = None
    plain: bool = False
    color: bool = True
    verbosity: int = 0
    """-1 quiet, 0 normal, 1 verbose, 2 tracebacks."""


class Say:
    """One command's voice."""

    def __init__(self, manner: Manner) -> None:
        self.manner = manner

    def console(self, *, stderr: bool = False) -> Console:
        """A rich console for stdout, or for stderr."""
        from rich.console import Console

        stream = sys.stderr if stderr else sys.stdout
        tty = stream.isatty()
        return Console(
            file=stream,
            width=None if tty else PIPE_WIDTH,
            no_color=True if not self.manner.color or self.manner.plain else None,
            force_terminal=False if self.manner.plain else None,
            highlight=False,
            markup=False,
            emoji=False,
            soft_wrap=not tty,
        )

    def note(self, text: str = "", *, style: str | None = None) -> None:
        """Talk: a line on stderr; silent with `-q`."""
        if self.manner.verbosity >= 0:
            self._line(text, style, stderr=True)

    def warn(self, text: str) -> None:
        """Talk that `-q` does not silence."""
        self._line(text, "yellow", stderr=True)

    def line(self, text: str = "", *, style: str | None = None) -> None:
        """A line of the result, on stdout."""
        self._line(text, style, stderr=False)

    def next(self, *commands: str) -> None:
        """The last line of every success: what to type now."""
        self.note("Next: " + "      ".join(commands))

    def show(self, what: RenderableType) -> None:
        """Something drawn by rich, on stdout."""
        self.console().print(what)

    def result(self, value: Any, text: Callable[[], None]) -> None:
        """The result of a read command: JSON (through `--query`) if asked for, else what `text` prints."""
        if self.manner.output == "text" and self.manner.query is None:
            text()
            return
        value = queried(value, self.manner.query)
        if self.manner.output == "jsonl":
            for item in value if isinstance(value, list) else [value]:
                write(json.dumps(item, ensure_ascii=False))
        else:
            write(json.dumps(value, indent=2, ensure_ascii=False))

    def table(self, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Columns without a frame: reads the same on a screen, in a pipe and in a log."""
        console = self.console()
        if console.is_terminal:
            console.print(table(heads, rows))
            return
        with console.capture() as drawn:
            console.print(table(heads, rows))
        for line in drawn.get().splitlines():
            write(line.rstrip())

    def _line(self, text: str, style: str | None, *, stderr: bool) -> None:
        stream = sys.stderr if stderr else sys.stdout
        if style is None or not stream.isatty():  # nothing to colour: rich costs more than many a command
            stream.write(text + "\n")
            stream.flush()
            return
        self.console(stderr=stderr).print(text, style=style, soft_wrap=True)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> RenderableType:
    """Columns without a frame; a cell that is a status word gets its colour."""
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, padding=(0, 2, 0, 0), show_header=any(heads), header_style="dim", pad_edge=False)
    for head in heads:
        grid.add_column(head, overflow="fold", no_wrap=False)
    for row in rows:
        grid.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
    return grid


def queried(value: Any, query: str | None) -> Any:
    """`value` seen through a JMESPath expression. UsageError if it is not one."""
    if query is None:
        return value
    import jmespath
    from jmespath.exceptions import JMESPathError

    try:
        return jmespath.search(query, json.loads(json.dumps(value)))  # it knows lists, not tuples
    except JMESPathError as error:
        raise UsageError(f"--query: {error}", hint="drkit help output") from error


def write(text: str) -> None:
    """Exactly this text and a newline on stdout."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def now_twice(wall: float) -> str:
    """A moment as people see it: UTC and the local zone."""
    utc = datetime.fromtimestamp(wall, UTC)
    local = utc.astimezone()
    return f"{utc:%H:%M:%S} UTC / {local:%H:%M} {local.tzname()}"
