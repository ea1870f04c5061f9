"""Runs of the real command that break hosts and are killed, with every process that is drkit's; and what then becomes
of what they broke, as who is outside sees it.

Each run has a project and a state store of its own, as one that was killed still holds the lock; the hosts are shared.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL
from typing import Any, Final, Literal, TypeVar, get_args

from cli_lab import Lab, due, project
from fault_cases import BUSY_S, Case
from fault_hosts import Lab as Hosts
from fault_hosts import changed_s, uptime_s

from drkit.chaos.compile import HEAL
from drkit.engine.journal import Tail
from drkit.engine.runs import RunFolder
from drkit.model.faults import fault_key

#: What a run is doing, as its journal and the markers at the host tell.
Phase = Literal["arming", "injecting", "holding", "healing"]
PHASES: Final[tuple[Phase, ...]] = get_args(Phase)
HOLD_S: Final = 1.0
#: A kill comes at random within so long after its phase was seen to begin: about what the phase takes.
WITHIN_S: Final[dict[Phase, float]] = {"arming": 0.25, "injecting": 0.1, "holding": HOLD_S, "healing": 0.3}
#: What a host writes down last of a fault.
OVER: Final = ("healed", "never-injected")
#: What was sent by who is dead by now has reached its host.
NOTHING_COMES_S: Final = 2.0
#: Most looks take no longer.
LOOK_S: Final = 0.8
#: A run is so far, or has ended by itself: on a busy machine an injection may outlast its lease, and is aborted then.
BEGINS_WITHIN_S: Final = 150.0


@dataclass(frozen=True)
class Way:
    """How a run that breaks hosts comes about."""

    words: tuple[str, ...]
    then: tuple[dict[str, str], ...] = ()
    """What comes in the scenario's method when everything is broken."""
    more: Callable[[], dict[str, Any]] = dict
    """Further keys of the scenario."""
    phases: tuple[Phase, ...] = PHASES
    """When it may be killed."""
    also: str | None = None
    """A file of the project that is there when it is time to kill."""


WATCHED = Way(("chaos", "run", "break"))
FOREGROUND = Way(("chaos", "run", "break", "--foreground"))
SCHEDULED = Way(("schedule", "run"), more=lambda: {"schedule": {"cron": due(), "start_within": "30m"}})
#: Its runbook is stuck in its first step while everything is broken.
DRILL = Way(
    ("drill", "run", "break"), then=({"id": "recovery", "run": "runbook/walk", "mode": "drill"},), also="begun",
    phases=("holding",),
)  # fmt: skip


@dataclass(frozen=True)
class Place:
    """A project, and the hosts that its run breaks."""

    project: Lab
    hosts: Hosts

    @classmethod
    def made(cls, folder: Path, hosts: Hosts) -> Place:
        """A new one; nobody else writes into its folder."""
        made = project(folder / "project", XDG_STATE_HOME=str(folder / "state"), XDG_CONFIG_HOME=str(folder / "config"))
        (made.folder / "scenarios").mkdir()
        made.first_waits()
        toml = made.folder / "drkit.toml"
        toml.write_text(toml.read_text() + hosts.toml("us-east-1"))
        return cls(made, hosts)

    @property
    def run(self) -> RunFolder | None:
        """The folder of its run, as soon as there is one."""
        runs = Path(self.project.environment["XDG_STATE_HOME"]) / "drkit" / "runs"
        return next((RunFolder(path) for path in runs.glob("*")), None)

    def marker(self, case: Case) -> Path:
        """Folder of the case's marker at the host."""
        return self.hosts.root("app-1") / "var/lib/drkit/faults" / fault_key(case.fault.name, case.given(1))

    def breaks(self, way: Way, cases: Sequence[Case], lease_s: float) -> None:
        """Write the scenario `break`: one after the other is injected, and each is held."""
        method: list[dict[str, Any]] = [
            {
                "id": str(case), "inject": case.fault.name, "duration": f"{HOLD_S:g}s",
                "with": {"host": "app-1", "lease_s": lease_s, **case.params},
            }
            for case in cases
        ]  # fmt: skip
        scenario = {
            "apiVersion": "drkit/v1", "kind": "Scenario", "metadata": {"name": "break", "owner": "nobody"},
            "hypothesis": "What is broken heals itself", "environment": "lab", "method": [*method, *way.then],
            "source": "us-east-1", "target": "us-west-2", **way.more(),
        }  # fmt: skip
        (self.project.folder / "scenarios" / "break.yaml").write_text(json.dumps(scenario))

    def left(self) -> subprocess.CompletedProcess[str]:
        """What `drkit chaos leftovers` says."""
        return self.project.process("chaos", "leftovers", "-o", "json")


@dataclass(frozen=True)
class Mark:
    """What a host remembers of a fault, if it is a certain run's."""

    state: str = ""
    """armed, injected, healed or never-injected; nothing: it is not that run's."""
    by: str = ""
    lease: bool = False
    """Its lease has been started."""
    until_s: float = 0.0
    """When the lease is over, by the host's clock."""
    since_s: float = 0.0
    """When it became what it is."""

    @classmethod
    def read(cls, folder: Path, run: str) -> Mark:
        """As it is now."""
        with suppress(FileNotFoundError, ValueError):  # it is being made
            state, by, owner = (folder / "state").read_text().split()
            since_s = changed_s(folder / "state")
            if run in owner:
                return cls(state, by, (folder / "lease").exists(), int((folder / "until").read_text()) / 100, since_s)
        return cls()


@dataclass(frozen=True)
class Fate:
    """What became of one fault whose run was killed."""

    fault: str
    begun: bool
    """The host had begun with it, or was still to."""
    seen: bool
    """Somebody outside saw it after the kill."""
    by: str
    """Who healed it: drkit or lease."""
    written_s: float
    """From the end of its lease until its host had written down that it is healed."""
    looked_s: float
    """From the end of its lease to the beginning of the first look that found nothing."""


@dataclass(frozen=True)
class Kill:
    """One run that was killed."""

    run: str
    fell: str
    """What it was doing, as far as its journal and the markers told: a phase, `before` or `over`."""
    fates: tuple[Fate, ...]


def killed(
    place: Place, way: Way, cases: Sequence[Case], phase: Phase, chance: random.Random, *, late_max_s: float
) -> Kill:
    """Begin a run of `break`, kill it at random in this phase of one of the cases, and look until all is well again.

    AssertionError if anything is not healed so long after its lease, or still seen when its host calls it healed.
    """
    target, log = chance.choice(cases), place.project.folder / "said"
    with log.open("w") as said:
        asked = subprocess.Popen(
            place.project.command(*way.words, "--confirm", "lab"), cwd=place.project.folder,
            env=place.project.environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
        )  # fmt: skip
    try:
        folder = _awaited(lambda: place.run, asked, log)
        with Tail(folder.journal) as tail:
            sent: set[str] = set()

            def reached() -> bool:
                sent.update(c.step for row in tail.new() for c in row.commands if c.verb == "apply" and c.step)
                there = way.also is None or (place.project.folder / way.also).exists()
                return there and _reached(phase, str(target), sent, Mark.read(place.marker(target), folder.id))

            _awaited(lambda: reached() or folder.ended(), asked, log)
            time.sleep(chance.uniform(0, WITHIN_S[phase]))
            mark = Mark.read(place.marker(target), folder.id)
            _kill(asked, folder)
            reached()  # what was journaled up to the end
        fell = "over" if folder.ended() is not None else _fell(str(target), sent, mark)
    finally:
        _kill(asked, place.run)
        (place.project.folder / "let-go").touch()  # else a killed drill's first step waits for ever
    dead_s = uptime_s()
    with ThreadPoolExecutor(len(cases)) as pool:
        fates = tuple(pool.map(lambda case: _fate(place, case, folder.id, dead_s, late_max_s), cases))
    return Kill(folder.id, fell, fates)


T = TypeVar("T")


def _awaited(what: Callable[[], T | None], asked: subprocess.Popen[bytes], log: Path) -> T:
    """What it gives as soon as it gives anything; whoever was asked may only end when there is something."""
    deadline = time.monotonic() + BEGINS_WITHIN_S
    while True:
        ended = asked.poll() is not None
        if found := what():
            return found
        assert time.monotonic() < deadline and not ended, log.read_text()
        time.sleep(0.003)


def _reached(phase: Phase, step: str, sent: set[str], mark: Mark) -> bool:
    return {
        "arming": step in sent,
        "injecting": mark.state != "",
        "holding": mark.state in ("injected", "healed"),
        "healing": HEAL + step in sent,
    }[phase]


def _fell(step: str, sent: set[str], mark: Mark) -> str:
    if HEAL + step in sent:
        return "healing"
    if mark.state in ("injected", "healed"):
        return "holding"
    if mark.lease:
        return "injecting"
    return "arming" if step in sent else "before"


def _kill(asked: subprocess.Popen[bytes], folder: RunFolder | None) -> None:
    """Who was asked, and the run's runner."""
    runner = None if folder is None else folder.runner()
    asked.kill()
    if runner is not None and runner.pid != asked.pid and not runner.dead:
        os.kill(runner.pid, SIGKILL)
    asked.wait()


def _fate(place: Place, case: Case, run: str, dead_s: float, late_max_s: float) -> Fate:
    """Look at one fault until it is gone and its host says so, however long after the kill its host began with it."""
    seen = False
    while True:
        begun_s, mark = uptime_s(), Mark.read(place.marker(case), run)
        ends_s = mark.until_s if mark.state else dead_s + NOTHING_COMES_S
        settled = mark.state in OVER or (not mark.state and begun_s > ends_s)
        if not settled and ends_s - LOOK_S < begun_s < ends_s:
            time.sleep(0.01)  # a look that takes its time would see nothing but the fault's end
            continue
        broken = case.broken(place.hosts)
        seen = seen or (broken and mark.state != "")
        if settled and not broken:
            return Fate(case.fault.name, mark.state != "", seen, mark.by, mark.since_s - ends_s, begun_s - ends_s)
        late = f"{case.fault.name} of {run}: {mark}, {'seen' if broken else 'not seen'}, lease over {ends_s:.2f}"
        limit_s = late_max_s + (BUSY_S if settled else 0)
        assert begun_s < ends_s + limit_s, f"{late}, looked at {begun_s:.2f} to {uptime_s():.2f}"
        time.sleep(0.2 if begun_s < ends_s else 0.01)
