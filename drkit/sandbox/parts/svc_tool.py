#!/usr/bin/env python3
"""svc start|stop|status|restart NAME: the service manager of one sandbox host, in one self-contained file.

A service is described by `etc/services/NAME.json`: `{"argv": [...], "env": {...}, "cwd": ".", "pidfile":
"var/run/NAME.json", "log": "var/log/NAME.log", "release": "srv/app.py", "stop_timeout_s": 3}`; only `argv` is required,
paths are relative to the host's root. The pid file holds pid **and** start time, so that a reused pid is never taken
for the service; it is written atomically. `start` and `stop` are idempotent. `status` prints one JSON line
`{"name", "running", "pid", "started_at", "release", "release_on_disk"}` (release: sha256 of the file that the running
process was started from) and exits 0 if the service runs, 3 if not, 4 if there is no such service.

A service belongs to its host: it ends when the host's server process ends.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PR_SET_PDEATHSIG = 1


class NoSuchService(Exception):
    """There is no `etc/services/NAME.json`."""


class Service:
    """One service of this host."""

    def __init__(self, name: str) -> None:
        path = ROOT / "etc" / "services" / f"{name}.json"
        if not path.is_file():
            raise NoSuchService(name)
        self.name = name
        self.spec: dict[str, Any] = json.loads(path.read_text())
        self.pidfile = ROOT / self.spec.get("pidfile", f"var/run/{name}.json")
        self.log = ROOT / self.spec.get("log", f"var/log/{name}.log")

    def running(self) -> dict[str, Any] | None:
        """The pid file's content if that very process is alive."""
        try:
            found: dict[str, Any] = json.loads(self.pidfile.read_text())
        except (FileNotFoundError, ValueError):
            return None
        return found if start_ticks(found["pid"]) == found["start_ticks"] else None

    def status(self) -> dict[str, Any]:
        """What `svc status` prints."""
        found = self.running()
        return {
            "name": self.name,
            "running": found is not None,
            "pid": found and found["pid"],
            "started_at": found and found["started_at"],
            "release": found and found["release"],
            "release_on_disk": self.release_digest(),
        }

    def release_digest(self) -> str | None:
        """`sha256:<hex>` of the release file; None if none is declared or it is absent."""
        path = self.spec.get("release")
        if path is None or not (ROOT / path).is_file():
            return None
        return "sha256:" + hashlib.sha256((ROOT / path).read_bytes()).hexdigest()

    def start(self) -> None:
        """Start unless it runs; OSError if it cannot be executed."""
        with self.locked():
            if self.running():
                return
            spawn(self)

    def record(self) -> None:
        """Write the pid file for the calling process, which is about to become the service."""
        found = {
            "pid": os.getpid(),
            "start_ticks": start_ticks(os.getpid()),
            "started_at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "release": self.release_digest(),
        }
        fresh = self.pidfile.with_suffix(".new")
        fresh.write_text(json.dumps(found))
        fresh.replace(self.pidfile)

    def stop(self) -> None:
        """TERM, then KILL after `stop_timeout_s`; gone when this returns."""
        with self.locked():
            if found := self.running():
                self._end(found)
            self.pidfile.unlink(missing_ok=True)

    def _end(self, found: dict[str, Any]) -> None:
        send(found, signal.SIGTERM)
        deadline = time.monotonic() + float(self.spec.get("stop_timeout_s", 3))
        while start_ticks(found["pid"]) == found["start_ticks"]:
            if time.monotonic() > deadline:
                send(found, signal.SIGKILL)
            time.sleep(0.01)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One `svc` at a time for each service."""
        self.pidfile.parent.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.pidfile.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def start_ticks(pid: int) -> int | None:
    """The kernel's start time of a live process; None if there is none (or only its zombie)."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if after_name[0] in "ZX" else int(after_name[19])


def send(found: dict[str, Any], number: int) -> None:
    """Signal the service's process group, if its leader is still the process we know."""
    if start_ticks(found["pid"]) == found["start_ticks"]:
        try:
            os.killpg(found["pid"], number)
        except ProcessLookupError:
            return  # it ended in between


def spawn(service: Service) -> None:
    """Start the service in a session of its own, adopted by the host. OSError if that fails."""
    told, tell = os.pipe()
    middle = os.fork()
    if middle == 0:
        os.close(told)
        if os.fork():
            os._exit(0)  # the host adopts the grandchild: it is the nearest subreaper
        become(service, tell)
    os.close(tell)
    os.waitpid(middle, 0)
    with os.fdopen(told) as pipe:
        error = pipe.read()  # ends when exec closes the other end
    if error:
        service.pidfile.unlink(missing_ok=True)
        raise OSError(error)


def become(service: Service, tell: int) -> None:
    """In the grandchild: never returns. If the service cannot be executed, the reason goes to the pipe `tell`."""
    try:
        os.setsid()
        bind_to_host()
        os.chdir(ROOT / service.spec.get("cwd", "."))
        output = os.open(service.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        # Before exec: were `svc` killed now, the service would still be known by its pid file.
        service.record()
        argv = service.spec["argv"]
        os.execvpe(argv[0], argv, {**os.environ, **service.spec.get("env", {})})
    except (OSError, KeyError, TypeError) as error:
        os.write(tell, f"{type(error).__name__}: {error}".encode())
    finally:
        os._exit(127)


def bind_to_host() -> None:
    """Be killed when the host's server process dies. OSError if it is dead."""
    host = int(os.environ.get("DRKIT_HOST_PID", "0"))
    if not host:
        return  # run by hand, outside a host
    # Only once the host has adopted us is the parent's death the host's death.
    while os.getppid() != host:
        if os.getppid() == 1:
            raise OSError("the host is gone")
        time.sleep(0.001)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != host:
        raise OSError("the host is gone")


def main(argv: list[str]) -> int:
    """Exit code of one invocation."""
    if len(argv) != 3 or argv[1] not in ("start", "stop", "status", "restart"):
        print("usage: svc start|stop|status|restart NAME", file=sys.stderr)
        return 2
    try:
        service = Service(argv[2])
        if argv[1] in ("stop", "restart"):
            service.stop()
        if argv[1] in ("start", "restart"):
            service.start()
    except NoSuchService as error:
        print(f"svc: no service {error} on this host", file=sys.stderr)
        return 4
    except OSError as error:
        print(f"svc: {argv[2]} did not start: {error}", file=sys.stderr)
        return 1
    status = service.status()
    print(json.dumps(status))
    return 0 if status["running"] or argv[1] == "stop" else 3


if __name__ == "__main__":
    sys.exit(main(sys.argv))
