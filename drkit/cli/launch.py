"""Start a run: a runner in a session of its own while we still plan, *go* once people said yes, then only watch."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from drkit.cli.settings import Settings
from drkit.errors import DrkitError, Exit, UsageError

if TYPE_CHECKING:
    from drkit.cli.seen import Seen
    from drkit.engine.runs import Request, RunFolder, Start
    from drkit.engine.spawning import Spawned

#: A runner that has not written its first event by then has not begun.
BEGINS_WITHIN_S = 60.0


@dataclass
class Waiting:
    """A run folder, and (unless the run is to stay in this process) a runner that waits for *go*."""

    folder: RunFolder
    spawned: Spawned | None
    begun: bool = False
    spawns: bool = False
    """A runner is started by `begin`, and told beforehand."""

    def begin(self, request: Request, start: Start | None = None) -> None:
        """Write the request down, durably, and say go."""
        self.folder.ask(request)
        if start is not None:
            self.folder.plan_start(start)
        self.begun = True
        if self.spawns:
            self.spawned = spawn(self.folder, at_once=True)
        elif self.spawned is not None:
            self.spawned.go()


@contextmanager
def waiting(*, foreground: bool, needed: bool = True, run: str | None = None) -> Iterator[Waiting]:
    """A new run that leaves nothing behind unless it is told to begin. Not `needed`: only its folder is made.

    `run` is the id of a run that somebody may have begun before, and died: its folder is taken, or made.
    """
    from drkit.engine import runs

    folder = runs.new() if run is None else runs.adopt(run)
    here = foreground or not needed or run is not None
    found = Waiting(folder, None if here else spawn(folder), spawns=run is not None and not foreground)
    try:
        yield found
    finally:
        if not found.begun:
            if found.spawned is not None:
                found.spawned.forget()
            if not (folder.path / "request.json").exists():  # else a runner may be about to begin it
                folder.discard()


def spawn(folder: RunFolder, *, at_once: bool = False) -> Spawned:
    """Start a runner for this folder. UsageError if no process can be started."""
    from drkit.engine import spawning

    try:
        return spawning.spawn(folder, [sys.executable, "-m", "drkit.cli", "_runner", str(folder.path)], at_once=at_once)
    except OSError as error:
        raise UsageError(f"no runner can be started: {error.strerror}") from error


def follow(settings: Settings, waiting: Waiting, *, detach: bool, after: int = 0) -> Exit:
    """Watch a run that was told to begin, after this event; with `detach` only until it has."""
    from drkit.cli.seen import Seen

    spawned = waiting.spawned
    seen = Seen(waiting.folder)
    if spawned is not None:
        seen.starting = lambda: not spawned.gone()
    if detach:
        return _begun(settings, seen, after)
    return watch(settings, seen, after=after)


def watch(settings: Settings, seen: Seen, *, after: int | None = None) -> Exit:
    """Show a run of ours until it ends or rests; its verdict, if it has ended. `after`: see `Viewer`."""
    from drkit.cli.viewer import Viewer

    code = Viewer(settings, seen, owner=True, wait=settings.can_ask, after=after).show()
    if seen.run is not None and seen.state.outcome is not None:
        summary(settings, seen)
    return code


def summary(settings: Settings, seen: Seen) -> None:
    """The verdict of a run that has ended, and where its report is; nothing is claimed that the report does not say."""
    from drkit.cli import compose

    run, plan = seen.folder.id, seen.state.plan
    if settings.output != "text":
        return
    if not plan.recovers:
        held = [s.id for s in seen.state.steps.values() if s.plan.part == "inject" and s.status.value == "done"]
        if held and not any(step.part == "heal" for step in plan.steps):
            settings.say.line(f"Broken, and staying so: {', '.join(held)}")
            settings.say.next(f"drkit chaos stop --run {run} --env {plan.environment}", f"drkit status {run}")
        elif plan.injects:
            _hypothesis(settings, seen)
        return
    told = compose.told_verdict(seen.folder)
    if told is None:
        settings.say.warn(f"The report is not there: drkit report {run} makes it.")
        return
    settings.say.line(f"{told['word']}: {told['line']}")
    settings.say.line(f"Report: {told['report']}")
    settings.say.next(f"drkit report {run}", f"drkit evidence verify {run}")


def _hypothesis(settings: Settings, seen: Seen) -> None:
    """What a scenario's claim came to, and where to look further."""
    from drkit.report.breaking import broken, hypothesis

    run, claim = seen.folder.id, hypothesis(seen.state, seen.rows)
    if claim is not None and claim.held is not None:
        said = "held" if claim.held else f"is FALSE: {'; '.join(claim.deviations)}"
        settings.say.line(f'Hypothesis "{claim.claim}" {said}')
    fewer = [f"drkit chaos shrink {run}"] if broken(seen.state, seen.rows) else []
    settings.say.next(f"drkit status {run}", *fewer, f"drkit chaos leftovers --env {seen.state.plan.environment}")


def in_process(settings: Settings, folder: RunFolder) -> Exit:
    """Carry a run out in this process: signals pause it, a failure or a question ends it with its exit code."""
    import threading

    import anyio

    from drkit.cli import compose, saying, screen
    from drkit.cli.seen import Seen, read
    from drkit.engine import journal, runner

    over = threading.Event()

    def tell() -> None:
        seen = Seen(folder)
        for rows in journal.follow(folder.journal, stop=over.is_set):
            for row in rows:
                seen.take([row])
                saying.tell(settings, row, seen.state)

    teller = threading.Thread(target=tell, name="teller")
    teller.start()
    try:
        code = anyio.run(lambda: runner.carry_out(folder, compose.means(folder.request(), folder), stay=False))
    finally:
        over.set()
        teller.join()
    look = read(folder)
    for text in screen.next_words(look.state, alive=True):
        settings.say.note(text)
    if look.state.outcome is not None:
        summary(settings, look)
    return code


def _begun(settings: Settings, seen: Seen, after: int) -> Exit:
    from drkit.engine.journal import Tail
    from drkit.engine.outcome import failure

    deadline = time.monotonic() + BEGINS_WITHIN_S
    run = seen.folder.id
    with Tail(seen.folder.journal) as tail:
        while time.monotonic() < deadline:
            seen.take(tail.new())
            if seen.run is not None and seen.state.began_t is not None and seen.rows[-1].seq > after:
                settings.say.result({"schema": "drkit.begun/1", "run": run}, lambda: settings.say.line(run))
                settings.say.next(f"drkit status {run} --watch", f"drkit abort {run}")
                return Exit.DONE
            error = failure(seen.folder)
            if error is not None:
                raise error
            time.sleep(0.05)
    raise DrkitError(
        f"run {run} has not begun within {BEGINS_WITHIN_S:g} s", hint=f"drkit logs {run} --raw",
        state="It may still begin: look before you start another.",
    )  # fmt: skip
