"""Show a run while it runs: follows the journal read-only, and never reaches the run but through an order.

On a terminal the screen is redrawn when something happened, at most once a second; elsewhere, or with `--plain`, each
event is a line. Killing the viewer, closing its terminal or filling its pipe does nothing to the run.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from drkit.cli import saying, screen
from drkit.cli.seen import Seen, exit_code
from drkit.cli.settings import Settings
from drkit.errors import DrkitError, Exit

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

POLL_S = 0.1
REDRAW_S = 1.0
#: A run that stands still this long stands still: answers of a drill's policy come sooner.
SETTLED_S = 2.0
#: Lines around the steps: header, clock, blank, words, prompt.
FRAME = 9


class Viewer:
    """One look at one run, until it ends, stands still, or whoever looks leaves."""

    def __init__(self, settings: Settings, seen: Seen, *, owner: bool, wait: bool, after: int | None = None) -> None:
        """`owner`: Ctrl-C pauses the run first. `wait`: stay while the run waits for people.

        `after`: a runner was just started; what the journal said up to this event is what it found, not how it stands.
        """
        self.settings = settings
        self.seen = seen
        self.owner = owner
        self.wait = wait
        self.after = after
        self._interrupts = 0
        self._still_since: float | None = None
        self._drawn = 0.0
        self._changed = True
        self._outage: tuple[float, float | None] = (0.0, None)
        self._words: list[str] = []

    def show(self) -> Exit:
        """Follow until there is nothing more to see; how the run stands then."""
        deadline = None if self.settings.timeout_s is None else time.monotonic() + self.settings.timeout_s
        with self._ctrl_c(), self._screen() as live:
            for fresh in self._rows():
                self._draw(live, fresh)
                if self._left():
                    break
                if not fresh and self._over():
                    break
                if deadline is not None and time.monotonic() > deadline:
                    self.settings.say.warn("--timeout is over; the run goes on")
                    break
            if live is not None:
                live.update(self._picture(full=True), refresh=True)
        return self._close()

    def _rows(self) -> Iterator[int]:
        """How many rows came, again and again; the rows themselves go into `seen`."""
        from drkit.engine.journal import Tail

        after = self.seen.rows[-1].seq if self.seen.rows else 0
        with Tail(self.seen.folder.journal, after) as tail:
            while True:
                rows = tail.new()
                for row in rows:
                    self.seen.take([row])
                    if not self.settings.animated:
                        saying.tell(self.settings, row, self.seen.state)
                yield len(rows)
                if not rows:
                    time.sleep(POLL_S)  # a signal's handler only counts: it may not touch a lock that we wait with

    @property
    def _begun(self) -> bool:
        """There is a run to see, and the runner that we wait for has said its first word."""
        return self.seen.run is not None and self.seen.rows[-1].seq > (self.after or 0)

    def _over(self) -> bool:
        """Nothing more will come by itself."""
        if not self._begun:
            return not self.seen.alive  # the runner ended before it wrote anything
        state = self.seen.state
        if state.outcome is not None:
            return self._written()
        if not self.seen.alive:
            return self._still()
        if state.phase == "paused" or (state.phase == "waiting" and not self.wait):
            return self._still()
        self._still_since = None
        return False

    def _written(self) -> bool:
        """The run is over; so is its runner once it has written the report."""
        if not self.seen.alive or self.seen.folder.ended() is not None:
            return True
        if not self._words:
            self._words = ["The run has ended; its report is being written."]
            if not self.settings.animated:
                self.settings.say.note(self._words[0])
        return False

    def _still(self) -> bool:
        now = time.monotonic()
        self._still_since = self._still_since or now
        return now - self._still_since >= SETTLED_S

    def _left(self) -> bool:
        if self._interrupts == 0:
            return False
        if not self.owner or self._interrupts >= 2:
            return True
        if self._interrupts == 1 and not self._words:
            self._pause()
        return False

    def _pause(self) -> None:
        from drkit.cli.ordering import order

        busy = [s.id for s in self.seen.state.steps.values() if s.status.value == "running"] if self.seen.run else []
        after = f" after {', '.join(busy)}" if busy else ""
        self._words = [f"pausing{after}. Ctrl-C again leaves this screen."]
        self.settings.say.warn(self._words[0])
        reply = order(self.seen.folder, "pause", reason="Ctrl-C")
        if reply.answer != "accepted":
            self._words = [f"the pause is {reply.answer}: {reply.why}"]
            self.settings.say.warn(self._words[0])

    def _close(self) -> Exit:
        """The last words: truthful about what the run will do now."""
        say = self.settings.say
        if self._interrupts and (not self.owner or self._interrupts >= 2):
            say.note()
            for text in self._leaving():
                say.warn(text)
            return Exit.SIGINT
        if not self._begun:
            raise self._never_began()
        for text in screen.next_words(self.seen.state, self.seen.alive or self.seen.state.outcome is not None):
            say.note(text)
        if self.settings.output == "json":
            say.result(screen.as_json(self.seen.state, self.seen.alive), lambda: None)
        stopped = self._interrupts and self.seen.state.phase == "paused"
        return Exit.SIGINT if stopped else exit_code(self.seen)

    def _never_began(self) -> DrkitError:
        from drkit.engine.outcome import failure

        run = self.seen.folder.id
        said = failure(self.seen.folder) if self.after is not None else None
        return said or DrkitError(f"the runner of {run} ended before it began", hint=f"drkit logs {run} --raw")

    def _leaving(self) -> list[str]:
        run = self.seen.folder.id
        if self.seen.run is None or self.seen.state.outcome is not None:
            return [f"Left. Next: drkit status {run}"]
        if not self.seen.alive:
            return [f"Left. The runner of {run} is gone: nothing goes on. Next: drkit resume {run}"]
        if not self.owner:
            return [f"Left. The run was not touched. Next: drkit status {run} --watch"]
        self.seen.take(self._unread())
        busy = [s.id for s in self.seen.state.steps.values() if s.status.value == "running"]
        if self.seen.state.paused is None:
            return [f"Left. The pause of {run} is ordered and not yet confirmed. Next: drkit status {run}"]
        when = f"will pause after {', '.join(busy)}" if busy else "is paused"
        return [f"Left. {run} {when}. Next: drkit resume {run}      drkit abort {run}"]

    def _unread(self) -> list[Any]:
        from drkit.engine.journal import read_rows

        after = self.seen.rows[-1].seq if self.seen.rows else 0
        return list(read_rows(self.seen.folder.journal, after)) if self.seen.folder.journal.exists() else []

    @contextmanager
    def _ctrl_c(self) -> Iterator[None]:
        def pressed(number: int, frame: FrameType | None) -> None:
            self._interrupts += 1

        before = signal.signal(signal.SIGINT, pressed)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    @contextmanager
    def _screen(self) -> Iterator[Live | None]:
        if not self.settings.animated:
            yield None
            return
        from rich.live import Live

        with Live(console=self.settings.say.console(), auto_refresh=False, vertical_overflow="crop") as live:
            yield live

    def _draw(self, live: Live | None, fresh: int) -> None:
        if live is None or self.seen.run is None:
            return
        now = time.monotonic()
        self._changed |= fresh > 0 or self.seen.state.busy > 0 or bool(self._words)
        if self._changed and now - self._drawn >= REDRAW_S:
            self._drawn, self._changed = now, False
            live.update(self._picture(full=False), refresh=True)

    def _picture(self, *, full: bool) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        from drkit.cli.say import table

        if self.seen.run is None:
            return Text("the runner starts")
        state = self.seen.state
        wall = time.time()
        t = screen.t_now(state, wall)
        lines = screen.lines(state, t)
        height = self.settings.say.console().height - FRAME
        shown = lines if full else screen.fitting(lines, max(5, height))
        words = self._words or (screen.next_words(state, self.seen.alive) if not full else [])
        keys = "Ctrl-C: pause." if self.owner else "Ctrl-C: leave."
        tail = "" if full else f"{keys}  Abort: drkit abort {state.run}.  Elsewhere: drkit status {state.run} --watch"
        return Group(
            Text(screen.header(state, wall), style="bold"),
            Text(screen.clock(state, t, self._outage_s())),
            table(("", "#", "step", "", ""), [line.cells for line in shown]),
            *(Text(word, style="yellow") for word in words),
            Text(tail, style="dim"),
        )

    def _outage_s(self) -> float | None:
        """How long users have been affected, as their probes say; None: they are not, or nobody looks."""
        from drkit.cli.measuring import users

        now = time.monotonic()
        if now - self._outage[0] >= REDRAW_S:
            seen = users(self.seen.folder.request().environment)
            self._outage = (now, (seen.failing_for_s or None) if seen is not None else None)
        return self._outage[1]
