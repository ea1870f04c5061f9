"""What a dead-man agent knows and does: it is the parent of one PostgreSQL server, and its only TCP door.

It promises that a server which may write acknowledges nothing without a valid lease, whoever promoted it and whatever
happens to the links, to the server or to the agent itself. It never starts a server as writable that another one may
have replaced: what it was told is on disk (`agent.json`).

The door is *open* while the server is a standby (its `standby.signal` exists; PostgreSQL removes that before it
accepts a write) or while the lease is valid; *held* between a promotion and the grant of the lease, so that whoever
called `pg_promote` hears of it when the new writer really may write; *shut* otherwise.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from drkit.errors import DrkitError
from drkit.sandbox import postgres
from drkit.sandbox.links import Endpoint
from drkit.sandbox.parts._door import Door, State
from drkit.sandbox.parts._lease import Refusal, WriterLease, boot_time, log
from drkit.sandbox.parts._memory import AgentMemory
from drkit.sandbox.parts._server import ServerSession

START_WITHIN_S = 20.0


class Agent:
    """Everything one agent knows. Runs in one event loop; the server is its child."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.site: str = config["site"]
        self.server = postgres.Server(
            self.site, Path(config["binaries"]), Path(config["data"]), Path(config["sockets"])
        )
        self.log_path = Path(config["log"])
        self.replicator_password = Path(config["replicator_password_file"])
        self.superuser_password = Path(config["superuser_password_file"])
        self.sql = ServerSession(self.server, self.superuser_password)
        self.memory = AgentMemory(Path(config["state"]))
        self.term_s = float(config["term_s"])
        self.margin_s = float(config["margin_s"])
        self.acquire_within_s = 2 * (self.term_s + self.margin_s) + 1
        holder = f"{self.site}/{os.getpid()}-{time.time_ns()}"  # a restarted agent is somebody else
        self.lease = WriterLease(config["witness"], holder, self.site, self.term_s)
        self.door = Door(self.server.socket, self.keep, self.why_shut)
        self.process: subprocess.Popen[bytes] | None = None
        self.standby = False
        self.draining = False
        self.may_write = False
        self.looked_for = asyncio.Event()
        """Set when a lease may be needed: whoever keeps it looks at once."""
        self._stopping: asyncio.Task[None] | None = None

    # -- what the door asks ------------------------------------------------------------------------------------------

    def keep(self, is_replication: bool) -> State:
        """May bytes pass now? Called before every relay."""
        if self.process is None or self.memory.fenced is not None or (self.draining and not is_replication):
            return "shut"
        if self.standby:
            if self.server.standby_signal.exists():
                return "open"
            self.standby = False  # promoted: from here on only a lease opens the door
            self.looked_for.set()
        if self.may_write:
            return "open" if self.lease.valid else "shut"
        return "held"

    def why_shut(self) -> str:
        """For clients that are turned away."""
        if self.memory.fenced is not None:
            return f"fenced: {self.memory.fenced['reason']}"
        return "the server is stopping" if self.draining else "the server is not running"

    # -- making, starting and stopping the server ----------------------------------------------------------------------

    async def make_server(self, how: dict[str, Any]) -> None:
        """Create the data folder if there is none: a new database, or a clone of `upstream`. Raises DrkitError."""
        if (self.server.data / "PG_VERSION").exists():
            return
        if "upstream" in how:
            upstream = Endpoint(str(how["upstream"]["host"]), int(how["upstream"]["port"]))
            password = self.replicator_password.read_text().strip()
            await asyncio.to_thread(postgres.clone, self.server, upstream, password)
        else:
            password = self.superuser_password.read_text().strip()
            await asyncio.to_thread(postgres.initialise, self.server, password, {})

    async def start_server(self) -> None:
        """Start PostgreSQL and wait until it answers. Raises DrkitError."""
        self.standby = self.server.standby_signal.exists()
        if self.standby:
            self.memory.lapse()
        self.draining = self.may_write = False
        process = postgres.start(self.server, self.log_path)
        deadline = boot_time() + START_WITHIN_S
        while True:
            if process.poll() is not None:
                raise DrkitError(f"postgres of {self.site} ended at its start; see {self.log_path}", code="E0803")
            try:
                await self.sql.ask("SELECT 1")
                break
            except OSError as error:
                if boot_time() > deadline:
                    await self.end(process, "immediate", 1.0)
                    raise DrkitError(f"postgres of {self.site} does not answer: {error}", code="E0803") from error
                await asyncio.sleep(0.03)
        self.process = process
        self._watch(process)
        if not self.standby:
            self.looked_for.set()

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        """Notice the server's end, whatever ended it."""
        handle = os.pidfd_open(process.pid)
        loop = asyncio.get_running_loop()

        def ended() -> None:
            loop.remove_reader(handle)
            os.close(handle)
            process.wait()
            if self.process is process:
                log(f"postgres ended with {process.returncode}")
                self.process = None
                self.may_write = False
                if not self.draining:
                    self.lease.drop()  # not released: backends may outlive it by a moment, the term covers that
                self.door.close_sessions(replication=True)

        loop.add_reader(handle, ended)

    async def end(self, process: subprocess.Popen[bytes], mode: str, within_s: float) -> None:
        """Stop the server; harder when `within_s` have passed."""
        for how, patience_s in ((postgres.stop_signal(mode), within_s), (signal.SIGQUIT, 1.0), (signal.SIGKILL, 1.0)):
            if process.poll() is None:
                process.send_signal(how)
            deadline = boot_time() + patience_s
            while process.poll() is None and boot_time() < deadline:
                await asyncio.sleep(0.01)
            if process.poll() is not None:
                return
        raise DrkitError(f"postgres {process.pid} survived SIGKILL for 1 s")

    def fence(self, reason: str, *, graceful: bool) -> asyncio.Task[None]:
        """Stop writing for good: nothing is acknowledged from this call on; the task ends when the server has."""
        if self._stopping is None or self._stopping.done():
            self._stopping = asyncio.ensure_future(self._fence(reason, graceful=graceful))
            # Shut before anything else runs; the task only carries out what is already decided.
            self.draining = True
            self.door.close_sessions(replication=not graceful)
        return self._stopping

    async def _fence(self, reason: str, *, graceful: bool) -> None:
        log(f"fencing ({'graceful' if graceful else 'immediate'}): {reason}")
        if not graceful:
            self.shut(reason)
        process = self.process
        if process is not None:
            patience_s = min(10.0, self.lease.remaining_s - 0.2) if graceful and self.lease.held else 10.0
            await self.end(process, "fast" if graceful and patience_s > 0 else "immediate", max(patience_s, 0.1))
        self.shut(reason)
        self.process = None
        if self.lease.held:
            try:
                await self.lease.release()
            except (OSError, ValueError, Refusal) as error:  # the witness will see that it is not renewed
                log(f"the lease could not be given back: {error}")

    def shut(self, reason: str) -> None:
        """Write that down and acknowledge nothing any more; the server may still run."""
        self.memory.fence(reason)
        self.may_write = False
        self.door.close_sessions(replication=True)
        if not self.lease.valid:
            self.lease.drop()
