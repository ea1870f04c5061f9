"""What `drkit schedule` works with: this project's timetables, what is the case, and how a due scenario is started."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from drkit.cli import environment as environments
from drkit.cli.settings import Settings
from drkit.errors import DrkitError, Exit, FileError, JournalError, UsageError

if TYPE_CHECKING:
    from drkit.chaos.calendar import Facts, Timetable
    from drkit.chaos.ledger import Decision, Ledger
    from drkit.chaos.scheduler import Scheduler
    from drkit.chaos.timetables import Scheduled
    from drkit.engine.runs import RunFolder
    from drkit.model.environment import Environment
    from drkit.model.ports import Objects

#: How often files, the lease and the clock are looked at while nothing is due, and while a run is about to begin.
IDLE_S, BUSY_S = 5.0, 0.5
#: How long a runner that another process started is waited for before its run counts as failed.
SEEN_WITHIN_S = 20.0


@dataclass
class Scene:
    """The environment that is scheduled, its state store and its timetables."""

    settings: Settings
    environment: Environment
    objects: Objects
    ledger: Ledger
    names: Collection[str]
    folder: Path
    scheduled: dict[str, Scheduled] = field(default_factory=dict)
    _signature: object = None

    @property
    def tables(self) -> list[Timetable]:
        """The timetables, by name."""
        return [each.table for each in self.scheduled.values()]

    def read(self) -> None:
        """Read the files again if any of them changed. FileError or UsageError: what was read before stays."""
        from drkit.chaos import timetables

        project = environments.load_project()
        signature = timetables.signature(self.folder, project)
        if signature != self._signature:
            self._signature = signature
            found = timetables.load(self.folder, project, self.environment.name, self.names)
            self.scheduled = {each.table.name: each for each in found}

    def look(self) -> Facts:
        """What is the case now, as the state store says. JournalError if it does not answer."""
        from drkit.chaos.calendar import Facts
        from drkit.chaos.choose import Candidate
        from drkit.chaos.lever import why_stop
        from drkit.engine import lease

        held = lease.look(self.objects, self.environment.name)
        said = None if held is None else lease.describe(*held)
        drill = held is not None and held[1].drill
        return Facts(
            lever=why_stop(self.objects, self.environment.name),
            open_run=None if drill else said,
            drill=said if drill else None,
            holds=self.ledger.holds(),
            inventory={
                "hosts": [Candidate(host.name, (*host.roles, host.site)) for host in self.environment.hosts],
                "regions": [Candidate(name) for name in self.environment.regions],
            },
        )


def opened(settings: Settings, names: Collection[str] | None = None) -> Scene:
    """The scene of this command, its files not read yet."""
    from drkit.chaos.ledger import Ledger
    from drkit.providers.objects import open_objects

    environment = environments.load(settings)
    project = environments.load_project()
    folder = Path.cwd() / "scenarios" if project is None else project.folder / project.file.scenarios
    objects = open_objects(environment)
    return Scene(settings, environment, objects, Ledger(objects, environment.name), names or (), folder)


def scene(settings: Settings, names: Collection[str] | None = None) -> Scene:
    """The same, read. UsageError if nothing is scheduled in its environment."""
    found = opened(settings, names)
    found.read()
    if not found.scheduled:
        raise UsageError(
            f"no scenario in {found.folder} has a schedule for {found.environment.name}", hint="drkit help schedule",
            code="E0230",
        )  # fmt: skip
    return found


def person(environment: Environment) -> str:
    """Who types here, in words."""
    from drkit.cli.ordering import me
    from drkit.engine.identity import hostname, login

    return f"{me(environment).get('name') or login()}@{hostname()}"


@dataclass
class Starter:
    """Starts runs as `drkit drill run` and `drkit chaos run` do; implements the scheduler's port."""

    scene: Scene
    confirm: str | None
    allow_production: bool
    foreground: bool
    code: Exit = Exit.DONE
    """How the last run in the foreground ended."""

    def reserve(self) -> str:
        """A new run's id; its folder is there and says nothing yet."""
        from drkit.engine import runs

        return runs.new().id

    def start(self, table: Timetable, decision: Decision) -> None:
        """Ask a runner to begin this run; in the foreground, carry it out."""
        from drkit.chaos.choose import Aim
        from drkit.chaos.ledger import seconds
        from drkit.cli.rehearsing import Rehearsal, Reserved, rehearse

        assert decision.run is not None
        scheduled = self.scene.scheduled[table.name]
        aim = Aim(decision.seed, table.calendar.opt_in, table.calendar.opt_out)
        wanted = Rehearsal(
            kind="drill" if scheduled.drills else "run", scenario=str(scheduled.path),
            changes=[f"{k}={v}" for k, v in sorted(decision.drawn.items())], confirm=self.confirm,
            allow_production=self.allow_production, reserved=Reserved(decision.run, seconds(decision.decided), aim),
        )  # fmt: skip
        try:
            self.code = rehearse(self.scene.settings, wanted, detach=True, foreground=self.foreground)
        except JournalError:
            # A runner that an earlier process asked may have the journal already, and not have written into it yet.
            if decision.attempts == 1 or not self._seen_soon(decision.run):
                raise

    def begun(self, run: str) -> bool:
        """It is in the journal here, in the copy in the state store, or holds the environment."""
        from drkit.engine import lease
        from drkit.engine.copy import extent
        from drkit.engine.journal import Tail

        with Tail(_folder(run).journal) as tail:
            if tail.new(1):
                return True
        held = lease.look(self.scene.objects, self.scene.environment.name)
        return (held is not None and held[1].run == run) or extent(self.scene.objects, run).seq > 0

    def failure(self, run: str) -> DrkitError | None:
        """What its runner said when it could not begin."""
        from drkit.engine.outcome import failure

        return failure(_folder(run))

    def _seen_soon(self, run: str) -> bool:
        deadline = time.monotonic() + SEEN_WITHIN_S
        while time.monotonic() < deadline:
            if self.begun(run):
                return True
            time.sleep(BUSY_S)
        return False


def _folder(run: str) -> RunFolder:
    """Where the run is, or would be, on this machine."""
    from drkit.engine.runs import RunFolder, state_home

    return RunFolder(state_home() / "runs" / run)


def forever(scene: Scene, scheduler: Scheduler) -> Exit:
    """Decide and start what is due until a signal comes; which one it was."""
    said: str | None = None
    with _signals() as received:
        while True:
            try:
                scene.read()
            except (FileError, UsageError) as error:
                scene.settings.say.warn(f"{error.message}\nThe schedule stays as it was read before.")
            try:
                scheduler.tick(scene.tables, time.time())
                said = None
            except JournalError as error:  # nothing was decided, and the next look tries again
                if said != error.message:
                    scene.settings.say.warn(f"{error.message}. Nothing is started until it answers.")
                said = error.message
            with suppress(Empty):
                number = received.get(timeout=BUSY_S if scheduler.waiting(scene.tables) else _pause(scene.tables))
                return Exit.SIGTERM if number == signal.SIGTERM else Exit.SIGINT


def once(scene: Scene, scheduler: Scheduler, starter: Starter) -> Exit:
    """Decide what is due now, carry it out to its end; how that ended. Nothing due or allowed: DONE."""
    scheduler.tick(scene.tables, time.time())
    while scheduler.waiting(scene.tables):  # a runner of an earlier process is about to begin
        time.sleep(BUSY_S)
        scheduler.tick(scene.tables, time.time())
    return starter.code


def as_json(scenario: str, decision: Decision) -> dict[str, Any]:
    """A decision as scripts read it."""
    return {"schema": "drkit.decision/1", "scenario": scenario, **decision.model_dump(mode="json")}


def _pause(tables: list[Timetable]) -> float:
    """Until something is due, and at most a few seconds."""
    from drkit.chaos.calendar import occurrences

    now = time.time()
    soon = [next(occurrences(table, now, now + IDLE_S), now + IDLE_S) for table in tables]
    return max(0.0, min(soon, default=now + IDLE_S) - now)


@contextmanager
def _signals() -> Iterator[SimpleQueue[int]]:
    """SIGINT and SIGTERM end the loop between two decisions, never inside one.

    Of the things that can be waited for, this queue is the one that a handler may fill while its own thread waits.
    """
    received: SimpleQueue[int] = SimpleQueue()
    before: dict[signal.Signals, Callable[[int, Any], Any] | int | None] = {}
    for one in (signal.SIGINT, signal.SIGTERM):
        before[one] = signal.signal(one, lambda number, frame: received.put(number))
    try:
        yield received
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
