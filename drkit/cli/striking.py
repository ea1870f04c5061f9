"""Strike real drills in the sandbox: for each cell a world of its own, a drill, one fault, and what became of it.

Only what can be done for real from outside is offered: SIGKILL of the runner, and throttling by the AWS API's own
gateway, whose lease ends it. The run's journal says when; whether it came in time is seen afterwards.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from drkit.errors import DrkitError, PreflightFailed

if TYPE_CHECKING:
    from drkit.cli.seen import Seen
    from drkit.drill.matrix import Cell, Result
    from drkit.engine.runs import RunFolder
    from drkit.model.environment import Environment
    from drkit.model.plan import Plan

#: As requests are signed. S3 is left alone: the state store, and with it the lease, is there too.
THROTTLED = (
    "acm", "autoscaling", "cloudformation", "cloudtrail", "dynamodb", "ec2", "ecr", "elasticache",
    "elasticfilesystem", "elasticloadbalancing", "events", "guardduty", "iam", "kms", "monitoring", "secretsmanager",
    "servicequotas", "sns", "sqs", "ssm", "sts", "wafv2",
)  # fmt: skip
LEASE_S = 12.0
"""How long throttling goes on."""
COMES_S, ENDS_S = 240.0, 600.0
"""How long the moment, and the end of the run, is waited for."""
LOOKS_S = 0.003


def offered(plan: Plan) -> tuple[Cell, ...]:
    """The cells that can be struck for real, in the plan's order."""
    from drkit.catalog import Catalog
    from drkit.drill.matrix import Cell, Fault, Moment, applies
    from drkit.drill.reach import reach

    known, found = Catalog(), list[Cell]()
    for step in plan.steps:
        if step.kind == "action":
            real = itertools.product((Fault.KILL, Fault.THROTTLE), (Moment.BEFORE, Moment.DURING))
            every = [Cell(step.id, moment, fault) for fault, moment in real]
            found += [cell for cell in every if applies(cell, reach(known.entry(step.uses)))]
    return tuple(found)


@dataclass
class Strike:
    """One cell in a world that is up."""

    cell: Cell
    scenario: str
    runbook: str
    environment: Environment
    commands: list[str] = field(default_factory=list)
    why: str = ""

    def result(self) -> Result:
        """Begin the drill, strike, and see it through. A drill that cannot be is wrong, too."""
        from drkit.drill.matrix import Ending, Result

        try:
            return self._result()
        except DrkitError as error:
            return Result(self.cell, Ending.WRONG, error.message, tuple(self.commands))

    def _result(self) -> Result:
        from drkit.cli.seen import read
        from drkit.drill.matrix import Ending, Result
        from drkit.engine import runs

        id = self._drkit("drill", "run", self.scenario, "-r", self.runbook, "--env", "sandbox", "--detach").strip()
        folder = runs.find(id)
        if not self._strike(folder):
            return Result(self.cell, Ending.MISSED, "its moment passed before the fault was there")
        wrong = self._see_through(folder)
        seen = read(folder)
        wrong = wrong or self._wrong(seen)
        took_s = seen.state.finished_t
        if wrong:
            return Result(self.cell, Ending.WRONG, "; ".join(wrong), tuple(self.commands), took_s=took_s)
        ending = Ending.SAFE_STOP if self.commands else Ending.RESUMED
        return Result(self.cell, ending, self.why, tuple(self.commands), took_s=took_s)

    # The fault

    def _strike(self, folder: RunFolder) -> bool:
        """Wait for the moment and strike. Whether it came in time."""
        from drkit.drill.matrix import Fault, Moment

        verb = "apply" if self.cell.moment is Moment.DURING else "prepare"
        if not _reached(folder, verb, self.cell.step):
            raise DrkitError(f"run {folder.id} never came to {self.cell.step}", hint=f"drkit status {folder.id}")
        return self._kill(folder) if self.cell.fault is Fault.KILL else self._throttle(folder)

    def _kill(self, folder: RunFolder) -> bool:
        import signal

        from drkit.sandbox.processes import Process, wait_gone

        runner = folder.runner()
        assert runner is not None  # its journal goes on
        process = Process(runner.pid, runner.start)
        process.send(signal.SIGKILL)
        wait_gone([process], within_s=10)
        in_time = self._in_time(folder)
        self._drkit("resume", folder.id, "--detach")
        return in_time

    def _in_time(self, folder: RunFolder) -> bool:
        """Whether the step, now that the fault is there, is where the cell wants it: not sent, or without a result."""
        from drkit.cli.seen import read
        from drkit.drill.matrix import Moment

        step = read(folder).state.steps[self.cell.step]
        return step.finished_t is None and step.intent is (self.cell.moment is Moment.DURING)

    def _throttle(self, folder: RunFolder) -> bool:
        from drkit.cli.seen import read

        region = read(folder).state.plan.target

        def begin(service: str) -> None:
            meta = {"key": f"matrix-{folder.id}-{service}", "fault": "aws.api-throttle", "run": folder.id}
            body = {"service": service, "throttle": True, "lease_s": LEASE_S, "meta": meta}
            _control(self.environment, f"/troubles/{region}", body)

        with ThreadPoolExecutor(len(THROTTLED)) as at_once:
            list(at_once.map(begin, THROTTLED))
        if not self._in_time(folder):
            return False
        turned_away = 0
        until = time.monotonic() + LEASE_S
        while time.monotonic() < until and not turned_away:
            troubles = _control(self.environment, "/troubles", None)["troubles"]
            turned_away = sum(one["seen"] for one in troubles)
            time.sleep(0.2)
        return turned_away > 0

    # What becomes of it

    def _see_through(self, folder: RunFolder) -> list[str]:
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
                wrong = self._follow(seen)
                if wrong:
                    return [wrong]
            time.sleep(0.5)
        return [f"it hangs: not over after {ENDS_S:g} s"]

    def _follow(self, seen: Seen) -> str | None:
        blocks = seen.state.blocks()
        if not blocks:
            return "it stands still and names no next command"
        command = blocks[0].command
        if command in self.commands:
            return f"{command} does not recover it: {blocks[0].reason}"
        self.why = self.why or f"{blocks[0].step}: {blocks[0].reason}"
        time.sleep(LEASE_S)  # the fault is over by then, by its own lease
        self.commands.append(command)
        _, *words = shlex.split(command)
        told = self._drkit(*words, *(["-o", "json"] if words[0] == "inspect" else []))
        if words[0] == "inspect":
            done = json.loads(told)["check"] == "holds" and not seen.state.steps[words[2]].plan.fences
            settle = ["resolve", *words[1:], "--as", "done" if done else "not-done", "--reason", "seen by inspect"]
            self.commands.append(f"drkit {shlex.join(settle)}")
            self._drkit(*settle)
        return None

    def _wrong(self, seen: Seen) -> list[str]:
        """By the journal, by the evidence, and by what users saw."""
        from drkit.drill.judging import by_journal

        found = by_journal(seen.state.plan, seen.rows)
        report: dict[str, Any] = json.loads(self._drkit("report", seen.folder.id, "-o", "json"))
        if not report["evidence"]["verified"]:
            found.append("its evidence does not verify")
        if report["recovery_time"]["recovered_at"] is None:
            found.append("users were not seen to be served again")
        return found + [f"left behind: {leak}" for leak in report["leaks"]]

    def _drkit(self, *words: str) -> str:
        """What the command, as anybody types it, prints. DrkitError unless it ends well (4: an objective missed)."""
        done = subprocess.run(
            [sys.executable, "-m", "drkit.cli", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=ENDS_S,
        )  # fmt: skip
        if done.returncode not in (0, 4):
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()[:3]
            raise DrkitError(f"drkit {shlex.join(words)} ended with {done.returncode}: {' '.join(said)}",
                             state="The drill may go on.", hint="drkit status")  # fmt: skip
        return done.stdout


@contextmanager
def world() -> Iterator[Environment]:
    """A sandbox for one cell. PreflightFailed if one is up already: what a cell leaves must be nobody's."""
    from drkit.cli.sandbox import where
    from drkit.sandbox import world as sandbox

    folder = where()
    if sandbox.status(folder)["up"]:
        raise PreflightFailed("every cell needs a sandbox of its own, and one is up", hint="drkit sandbox down")
    try:
        sandbox.up(folder, tell=lambda part: None)
        yield sandbox.load(sandbox.default_folder())
    finally:
        with contextlib.suppress(DrkitError):
            subprocess.run(
                [sys.executable, "-m", "drkit.cli", "sandbox", "down"], stdin=subprocess.DEVNULL, capture_output=True,
                timeout=120, check=False,
            )  # fmt: skip


def _reached(folder: RunFolder, verb: str, step: str) -> bool:
    """Wait until the journal has this command. Whether it came."""
    from drkit.engine.journal import Tail

    deadline = time.monotonic() + COMES_S
    with Tail(folder.journal) as tail:
        while time.monotonic() < deadline:
            if any(c.verb == verb and c.step == step for row in tail.new() for c in row.commands):
                return True
            time.sleep(LOOKS_S)
    return False


def _control(environment: Environment, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
    """Ask the sandbox itself. DrkitError if it refuses."""
    import urllib.error
    import urllib.request

    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"{environment.control}{path}", data=data, method="GET" if body is None else "POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            answer: dict[str, Any] = json.load(reply)
            return answer
    except urllib.error.URLError as error:
        raise DrkitError(f"the sandbox refused {path}: {error}", hint="drkit sandbox status") from error
