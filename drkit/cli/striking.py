"""Strike real drills in the sandbox: for each cell a world of its own, a drill, one fault, and what became of it.

The run's journal says when (`drkit.drill.moments`), the fault is one of `drkit.sandbox.strikes`. A fault that met
nothing, or that came when its moment had passed, has shown nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drkit.errors import DrkitError

if TYPE_CHECKING:
    from drkit.cli.offering import Ways
    from drkit.cli.seen import Seen
    from drkit.drill.matrix import Cell, Moment, Result
    from drkit.engine.runs import RunFolder
    from drkit.model.environment import Environment
    from drkit.sandbox.processes import Process
    from drkit.sandbox.strikes import Strike

COMES_S, EFFECT_S, ENDS_S = 240.0, 30.0, 600.0
"""How long the moment, the effect once its command is there, and the end of the run are waited for."""
LOOKS_S = 0.2


class Missed(Exception):
    """The fault has shown nothing, and why."""


@dataclass(frozen=True, slots=True)
class World:
    """A sandbox that is up, for one cell."""

    folder: Path
    environment: Environment

    def drkit(self, *words: str) -> str:
        """What the command, as anybody types it, prints. DrkitError unless it ends well (4: an objective missed)."""
        done = subprocess.run(
            [sys.executable, "-m", "drkit.cli", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=ENDS_S, env=_surroundings(self.folder),
        )  # fmt: skip
        if done.returncode not in (0, 4):
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()[:3]
            raise DrkitError(f"drkit {shlex.join(words)} ended with {done.returncode}: {' '.join(said)}",
                             state="The drill may go on.", hint="drkit status")  # fmt: skip
        return done.stdout


@dataclass
class Struck:
    """One cell's drill."""

    cell: Cell
    way: Ways
    """How its step goes to the world."""
    scenario: str
    runbook: str
    world: World
    commands: list[str] = field(default_factory=list)
    why: str = ""

    def result(self) -> Result:
        """Begin the drill, strike, and see it through. A drill that cannot be is wrong, too."""
        from drkit.drill.matrix import Ending, Result

        try:
            return self._result()
        except Missed as nothing:
            return Result(self.cell, Ending.MISSED, str(nothing))
        except DrkitError as error:
            return Result(self.cell, Ending.WRONG, error.message, tuple(self.commands))

    def _result(self) -> Result:
        from drkit.cli.seen import read
        from drkit.drill.matrix import Ending, Result
        from drkit.engine import runs

        words = ("drill", "run", self.scenario, "-r", self.runbook, "--env", "sandbox", "--detach")
        folder = runs.find(self.world.drkit(*words).strip())
        strike = self._strike(folder)
        try:
            self._wait_until_met(strike)
            wrong = self._see_through(folder, strike)
        finally:
            strike.end()
        seen = read(folder)
        wrong = wrong or self._wrong(seen)
        took_s = seen.state.finished_t
        if wrong:
            return Result(self.cell, Ending.WRONG, "; ".join(wrong), tuple(self.commands), took_s=took_s)
        ending = Ending.SAFE_STOP if self.commands else Ending.RESUMED
        return Result(self.cell, ending, self.why, tuple(self.commands), took_s=took_s)

    # The fault

    def _strike(self, folder: RunFolder) -> Strike:
        """Wait for the moment, and let the fault begin while the run stands still. Missed."""
        from drkit.drill.matrix import Fault, Moment
        from drkit.drill.moments import SIGNS, come, held
        from drkit.sandbox.processes import Process
        from drkit.sandbox.strikes.freezing import Freezer

        cell, way = self.cell, self.way
        # Where the gateway itself sees the step's effect it says when; it is told before anything was sent.
        at_gateway = cell.fault in (Fault.THROTTLE, Fault.STALE, Fault.DENIED) and bool(way.writes)
        moment = Moment.BEFORE if at_gateway else cell.moment
        runner = folder.runner()
        assert runner is not None  # it was detached from us
        process = Process(runner.pid, runner.start)
        with Freezer(process) as freezer:
            if not come(folder.journal, SIGNS[way.kind, moment], cell.step, COMES_S):
                raise DrkitError(f"run {folder.id} never came to {cell.step}", hint=f"drkit status {folder.id}")
            if moment is Moment.AFTER and way.kind == "action":
                with held(folder.journal):  # it goes on to take effect, and nothing of that is written down
                    self._look_in_time(folder, moment)
                    self._look_for_effect(folder)
                    strike = self._begun(folder, process, lies_in_wait=False)
            else:
                with freezer.frozen():
                    self._look_in_time(folder, moment)
                    strike = self._begun(folder, process, lies_in_wait=moment is not cell.moment)
        if cell.fault is Fault.KILL:
            self.world.drkit("resume", folder.id, "--detach")
        return strike

    def _look_in_time(self, folder: RunFolder, moment: Moment) -> None:
        """Missed if it is not this moment any more."""
        from drkit.cli.seen import read
        from drkit.drill.moments import in_time

        if not in_time(read(folder).state.steps[self.cell.step], moment):
            raise Missed("its moment passed before the fault was there")

    def _look_for_effect(self, folder: RunFolder) -> None:
        """Wait until the step's own check holds, asked from outside. Missed if it does not."""
        deadline = time.monotonic() + EFFECT_S
        while time.monotonic() < deadline:
            with contextlib.suppress(DrkitError):  # it cannot be looked at yet
                if json.loads(self.world.drkit("inspect", folder.id, self.cell.step, "-o", "json"))["check"] == "holds":
                    return
        raise Missed(f"{self.cell.step} was not seen to take effect while its result was held back")

    def _begun(self, folder: RunFolder, runner: Process, *, lies_in_wait: bool) -> Strike:
        from drkit.cli.seen import read
        from drkit.drill.matrix import Moment
        from drkit.sandbox.strikes import Drilled
        from drkit.sandbox.strikes.every import STRIKES

        control, region = self.world.environment.control, read(folder).state.plan.target
        assert control is not None  # of a sandbox
        drilled = Drilled(
            control, region, folder.id, self.cell.step, runner, self.way.permissions,
            self.way.writes if lies_in_wait else (), loses=self.cell.moment is Moment.AFTER,
        )  # fmt: skip
        strike = STRIKES[self.cell.fault](drilled)
        strike.begin()
        return strike

    def _wait_until_met(self, strike: Strike) -> None:
        """Missed if it is over, or a drill could be, before it made a difference."""
        deadline = time.monotonic() + COMES_S
        while not strike.met():
            if not strike.lasts() or time.monotonic() > deadline:
                raise Missed("the fault was there, and met nothing")
            time.sleep(LOOKS_S)

    # What becomes of it

    def _see_through(self, folder: RunFolder, strike: Strike) -> list[str]:
        """Until the run is over; where it stops, do as it says. What is wrong with that."""
        from drkit.cli.seen import read
        from drkit.engine import runs

        deadline = time.monotonic() + ENDS_S
        while time.monotonic() < deadline:
            seen = read(folder)
            state = seen.state
            if state.outcome is not None and not runs.alive(folder):
                return []
            if state.outcome is None and state.phase in ("paused", "waiting"):
                wrong = self._follow(seen, strike)
                if wrong:
                    return [wrong]
            time.sleep(LOOKS_S)
        return [f"it hangs: not over after {ENDS_S:g} s"]

    def _follow(self, seen: Seen, strike: Strike) -> str | None:
        blocks = seen.state.blocks()
        if not blocks:
            return "it stands still and names no next command"
        command = blocks[0].command
        if command in self.commands:
            return f"{command} does not recover it: {blocks[0].reason}"
        self.why = self.why or f"{blocks[0].step}: {blocks[0].reason}"
        if not self.cell.transient:
            strike.end()  # a person has granted it again
        while strike.lasts():
            time.sleep(LOOKS_S)
        self.commands.append(command)
        _, *words = shlex.split(command)
        told = self.world.drkit(*words, *(["-o", "json"] if words[0] == "inspect" else []))
        if words[0] == "inspect":
            done = json.loads(told)["check"] == "holds" and not seen.state.steps[words[2]].plan.fences
            settle = ["resolve", *words[1:], "--as", "done" if done else "not-done", "--reason", "seen by inspect"]
            self.commands.append(f"drkit {shlex.join(settle)}")
            self.world.drkit(*settle)
        return None

    def _wrong(self, seen: Seen) -> list[str]:
        """By the journal, by the evidence, and by what users saw."""
        from drkit.drill.judging import by_journal

        found = by_journal(seen.state.plan, seen.rows)
        report: dict[str, Any] = json.loads(self.world.drkit("report", seen.folder.id, "-o", "json"))
        if not report["evidence"]["verified"]:
            found.append("its evidence does not verify")
        users, breaks = report["recovery_time"], any(step.heals is not None for step in seen.state.plan.steps)
        if breaks and users["recovered_at"] is None:
            found.append(f"users were not seen to be served again: {users['reason']}")
        return found + [f"left behind: {leak}" for leak in report["leaks"]]


@contextmanager
def world() -> Iterator[World]:
    """A sandbox for one cell, in a folder of its own: it clashes with no other, and is gone afterwards."""
    from drkit.sandbox import world as sandbox

    place = Path(tempfile.mkdtemp(prefix="drkit-matrix-"))
    place.chmod(0o711)  # as root the servers run as nobody, who must pass through
    folder = place / "w"
    try:
        yield World(folder, sandbox.up(folder, tell=lambda part: None))
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):  # the next cell has a world of its own
            subprocess.run(
                [sys.executable, "-m", "drkit.cli", "sandbox", "down"], stdin=subprocess.DEVNULL, capture_output=True,
                timeout=120, check=False, env=_surroundings(folder),
            )  # fmt: skip
        shutil.rmtree(place, ignore_errors=True)


def _surroundings(folder: Path) -> dict[str, str]:
    return os.environ | {"DRKIT_SANDBOX_DIR": str(folder)}
