"""The process that owns a world: starts its parts, carries its links, breaks and mends regions, ends everything.

It runs in a session of its own (`serving`). It restarts nothing by itself. Orphans of its
parts become its children (subreaper), so a region that is killed is killed whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drkit.errors import DrkitError
from drkit.sandbox import postgres
from drkit.sandbox.lapses import Lapse, Lapses
from drkit.sandbox.layout import REGIONS, Folders
from drkit.sandbox.links import Endpoint, Link, bind
from drkit.sandbox.parts import PARENT_VARIABLE
from drkit.sandbox.processes import (
    SITE_VARIABLE,
    WORLD_VARIABLE,
    Process,
    identify,
    kill_all,
    of_world,
    wait_gone,
)
from drkit.sandbox.slowness import Slowness

READY_WITHIN_S = 90.0
_PACKAGE_PARENT = Path(__file__).resolve().parents[2]


@dataclass
class Part:
    """One process of the world as it runs now (or last ran)."""

    name: str
    site: str
    module: str
    config: dict[str, Any]
    process: Process
    child: subprocess.Popen[bytes]
    ready: dict[str, Any] = field(default_factory=dict)

    @property
    def running(self) -> bool:
        """It has not ended."""
        return self.child.returncode is None


class Supervisor:
    """Parts and links of one world. Everything happens in the main thread's event loop: parts die with that thread."""

    def __init__(self, folders: Folders) -> None:
        self.folders = folders
        self.parts: dict[str, Part] = {}
        self.links: dict[str, Link] = {}
        self.outages = Lapses()
        self.slowness = Slowness(self.links)
        self._reserved: list[socket.socket] = []
        self.stopping = asyncio.Event()

    # -- parts -------------------------------------------------------------------------------------------------------

    async def start(self, name: str, site: str, module: str, config: Mapping[str, Any]) -> dict[str, Any]:
        """Start a part and wait for its ready line, which is returned. Raises DrkitError naming part and log."""
        part = self._spawn(name, site, module, dict(config))
        self.parts[name] = part
        log = self.folders.log(name)
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                line = await _first_line(part.child)
        except TimeoutError:
            raise DrkitError(
                f"{name} was not ready within {READY_WITHIN_S:g} s", hint=f"cat {log}", code="E0805"
            ) from None
        try:
            ready = json.loads(line)
        except ValueError:
            raise _failed(name, log) from None
        part.ready = ready
        return part.ready

    def reserve(self, host: str) -> Endpoint:
        """A port on `host` for a process that is started later, maybe again and again. Raises OSError."""
        holder = bind(host, 0)
        self._reserved.append(holder)
        return Endpoint(host, holder.getsockname()[1])

    def _spawn(self, name: str, site: str, module: str, config: dict[str, Any]) -> Part:
        path = self.folders.config(name)
        path.touch(mode=0o600)
        path.write_text(json.dumps(config, indent=2))
        with self.folders.log(name).open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", module, str(path)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd="/",
                env=self._environment(site),
            )
        process = identify(child.pid)
        assert process is not None  # our child: not reaped yet, so it has a stat, dead or alive
        self._record(name, site, process)
        return Part(name, site, module, config, process, child)

    def _environment(self, site: str) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        return {
            **kept,
            "PYTHONPATH": str(_PACKAGE_PARENT),
            "PYTHONUNBUFFERED": "1",
            WORLD_VARIABLE: str(self.folders.world),
            SITE_VARIABLE: site,
            PARENT_VARIABLE: str(os.getpid()),
        }

    def _record(self, name: str, site: str, process: Process) -> None:
        entry = {"name": name, "site": site, "pid": process.pid, "start": process.start}
        with (self.folders.world / "processes.jsonl").open("a") as file:
            file.write(json.dumps(entry) + "\n")

    def reap(self) -> None:
        """On SIGCHLD: take the exit status of whatever ended, parts and orphans alike."""
        by_pid = {part.child.pid: part for part in self.parts.values()}
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            if (part := by_pid.get(ended.si_pid)) is not None and part.child.returncode is None:
                code = part.child.wait()
                say(f"{part.name} ended with {code}")
            else:
                os.waitpid(ended.si_pid, os.WNOHANG)

    # -- breaking and mending ----------------------------------------------------------------------------------------

    def link(self, name: str) -> Link:
        """The link called so. DrkitError, with what is known, if there is none."""
        if name not in self.links:
            raise DrkitError(f"there is no link {name} (known: {', '.join(sorted(self.links))})")
        return self.links[name]

    def links_of(self, region: str) -> list[Link]:
        """Every wire that ends in the region; the replication link ends in both."""
        return [link for name, link in self.links.items() if name.endswith(region) or name == "replication"]

    def black_out(self, region: str) -> list[Process]:
        """Cut every link of a region and kill all its processes, in one instant: nothing awaits in here.

        Links first: from then on nothing that the region still does can be noticed outside. The whole family is known
        before the first is killed, because the children of a killed process have no traceable parent. Returns them.
        """
        self.outages.setdefault(region, Lapse())
        for link in self.links_of(region):
            link.cut()
        roots = [part.process.pid for part in self.parts.values() if part.site == region and part.running]
        killed: dict[Process, None] = {}
        for _ in range(10):  # whoever was forked while we looked is found in the next round, as is who still leaves
            more = kill_all(of_world(self.folders.world, region, roots))
            if not more:
                break
            killed |= dict.fromkeys(more)
        return list(killed)

    async def restart(self, name: str, **changes: Any) -> dict[str, Any]:
        """Start an ended part again on the ports it had. `changes` go into its configuration."""
        old = self.parts[name]
        if old.running:
            return old.ready
        config = {**old.config, **changes}
        for key in ("port", "admin_port"):
            if key in old.ready:
                config[key] = old.ready[key]
        return await self.start(name, old.site, old.module, config)

    # -- the end -----------------------------------------------------------------------------------------------------

    def shut_down(self) -> None:
        """End all parts, politely first; remove what they leave in the kernel. Blocks up to 4 s."""
        for link in self.links.values():
            link.close()
        running = [part.process for part in self.parts.values() if part.running]
        for process in running:
            process.send(signal.SIGTERM)
        wait_gone(running, within_s=1.5)
        for _ in range(10):
            left = kill_all(of_world(self.folders.world, roots=[part.child.pid for part in self.parts.values()]))
            if not left:
                break
            wait_gone(left, within_s=1.0)
        for region in REGIONS:
            postgres.remove_leftover_memory(self.folders.data(region))


async def _first_line(child: subprocess.Popen[bytes]) -> bytes:
    """The first line on the child's stdout; empty if it ended without one."""
    assert child.stdout is not None
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 20)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), child.stdout)
    try:
        return await reader.readline()
    finally:
        transport.close()


def _failed(name: str, log: Path) -> DrkitError:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    last = lines[-1] if lines else "it wrote nothing"
    with contextlib.suppress(ValueError, KeyError, TypeError):  # not one of ours: a traceback's last line says it
        last = str(json.loads(last)["error"])
    return DrkitError(f"{name} did not start: {last}", hint=f"cat {log}", code="E0805")


def say(text: str) -> None:
    """One line to the supervisor's log."""
    print(f"{time.strftime('%H:%M:%S', time.gmtime())} {text}", file=sys.stderr, flush=True)


def report(message: Mapping[str, Any]) -> None:
    """Tell whoever runs `up`; nobody may be listening any more."""
    handle = os.environ.get("DRKIT_SANDBOX_REPORT")
    if handle is None:
        return
    try:
        os.write(int(handle), (json.dumps(message) + "\n").encode())
    except BrokenPipeError:
        say("whoever ran `up` has left")
