"""Injectors that are killed or frozen, and how late what they leave is healed. Used by tests and by the benchmarks.

An injector is a process of its own that does what a run's worker does, with the real SSH provider.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fault_hosts import Lab, uptime_s

from drkit.catalog import Action, Catalog
from drkit.model.faults import fault_key

SLEEPER = json.dumps({"argv": ["sh", "-c", "while :; do sleep 0.05; done"]})
ECHO = json.dumps({"argv": ["python3", "-c", """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); server.bind(("0.0.0.0", 9000))
while True:
    data, who = server.recvfrom(2048)
    try:
        server.sendto(data, who)
    except OSError:
        pass
"""]})  # fmt: skip

INJECTOR = """
import asyncio, json, os, signal, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from fault_hosts import Lab
from drkit.catalog import Catalog
from drkit.errors import DrkitError
from drkit.providers.ssh import Ssh
from drkit.testing import FakeSecrets

class Freezes(Ssh):
    "Stops its process between the last look and the send."
    async def run(self, host, argv, **more):
        if "inject" in argv and {frozen!r}:
            os.kill(os.getpid(), signal.SIGSTOP)
        return await super().run(host, argv, **more)

async def main():
    lab = Lab(Path({folder!r}), json.loads({ready!r}), [])
    for line in sys.stdin:
        run, name, params = json.loads(line)
        entry = Catalog().entry(name)
        p = entry.params.model_validate(params, strict=False)
        ssh = Freezes(lab.environment, FakeSecrets(lab.secrets))
        ctx = lab.context(run=run, fakes={{Ssh: ssh}})
        before = await entry.observe(ctx, p)
        print("ready", flush=True)
        sys.stdin.readline()
        try:
            await entry(ctx, p, before)
            print("injected", flush=True)
        except DrkitError as error:
            print(type(error).__name__, error.message, flush=True)

asyncio.run(main())
"""


class Injector:
    """A process that injects what it is told, when it is told."""

    def __init__(self, hosts: Lab, *, frozen: bool = False) -> None:
        """`frozen`: it stops itself before each send."""
        text = INJECTOR.format(
            tests=str(Path(__file__).parents[1]), folder=str(hosts.folder), ready=json.dumps(hosts.ready), frozen=frozen
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def prepare(self, run: str, fault: str, params: dict[str, Any]) -> None:
        """It has looked, and waits for the word."""
        self._say(json.dumps([run, fault, params]))
        assert self.hear() == "ready"

    def go(self) -> None:
        """The word."""
        self._say("go")

    def hear(self) -> str:
        """The next line that it says."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def wait_frozen(self) -> None:
        """Until it has stopped itself."""
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)

    def end(self) -> None:
        """Kill it, as nobody can prevent."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()

    def _say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()


@dataclass(frozen=True)
class Watch:
    """A fault that is injected again and again, and who sees at once whether it is there."""

    fault: str
    params: dict[str, Any]
    broken: Callable[[], bool]

    def marker(self, hosts: Lab) -> Path:
        """Folder of its marker at the host."""
        p = Catalog().entry(self.fault).params.model_validate(self.params, strict=False)
        return hosts.root("app-1") / "var/lib/drkit/faults" / fault_key(self.fault, p)


@dataclass(frozen=True)
class Killed:
    """What became of one injector."""

    marked: bool
    """The host had begun: without this nothing was injected."""
    broken: bool
    late_s: float | None
    """From the end of its lease until nobody sees the fault any more; None if nobody ever saw it."""
    left: str
    """State of its marker in the end."""


NOTHING_COMES_S, LATE_MAX_S = 1.0, 1.0


def kill_some(hosts: Lab, watch: Watch, seed: int, times: int, *, lease_too: bool = False) -> list[Killed]:
    """Kill so many injectors one after the other, each at a random moment; the next one starts up meanwhile."""
    chance, found, next_one = random.Random(seed), [], Injector(hosts)
    try:
        for number in range(times):
            injector, next_one = next_one, Injector(hosts)
            after_s = chance.uniform(0, KILLED_WITHIN_S)
            found.append(kill(injector, hosts, watch, f"k{seed}-{number}-", after_s, lease_too=lease_too))
    finally:
        next_one.end()
    return found


#: From the word until an injector has injected: about half of this on a quiet machine.
KILLED_WITHIN_S = 0.6
#: What a host writes down last of a fault.
OVER = ("healed", "never-injected")


def kill(injector: Injector, hosts: Lab, watch: Watch, run: str, after_s: float, *, lease_too: bool = False) -> Killed:
    """Kill an injector so long after it was told to go, and look until all is well again.

    AssertionError if that is not so a second after the lease. `lease_too`: with every process of the lease.
    """
    injector.prepare(run, watch.fault, watch.params)
    injector.go()
    time.sleep(after_s)
    injector.end()
    killed, last = uptime_s(), None
    folder = watch.marker(hosts)
    while True:
        now = uptime_s()
        if watch.broken():
            last = now
        state, _, owner = (_read(folder / "state") or "- - -").split()[:3]
        if run not in owner:
            if now - killed > NOTHING_COMES_S:
                return Killed(False, last is not None, None, "")
        else:
            until = float(_read(folder / "until")) / 100
            if lease_too and state == "injected":
                lease_too = not _kill_group(folder / "lease")
            over = state in OVER or (not lease_too and now > until + LATE_MAX_S / 2)
            if over and last != now:
                return Killed(True, last is not None, None if last is None else last - until, state)
            assert now < until + LATE_MAX_S, f"{watch.fault} is still {state}, {now - until:.2f} s after its lease"
        time.sleep(0.005)


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _kill_group(named: Path) -> bool:
    # Not by a program called kill: some of those take -12345 for -1, which is everybody.
    os.killpg(int(named.read_text().split()[0]), signal.SIGKILL)
    return True


class Echoes:
    """Who sees at once whether app-1 reaches a peer: sends a datagram every 10 ms and hears what comes back."""

    TEXT = """
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(0.01); s.connect(("10.77.0.2", 9000))
while True:
    try:
        s.send(b"x"); s.recv(10); print(".", flush=True); time.sleep(0.01)
    except OSError:
        pass
"""
    GAP_S = 0.3
    """Silence that is no chance."""

    def __init__(self, hosts: Lab) -> None:
        self._process = subprocess.Popen(hosts.command("app-1", "bin/python3", "-c", self.TEXT), stdout=subprocess.PIPE)
        self.last_s = uptime_s()
        threading.Thread(target=self._hear, daemon=True).start()

    def silent(self) -> bool:
        """Nothing came back for a while."""
        return uptime_s() - self.last_s > self.GAP_S

    def end(self) -> None:
        self._process.kill()
        self._process.wait()

    def _hear(self) -> None:
        assert self._process.stdout is not None
        while self._process.stdout.readline():
            self.last_s = uptime_s()


def leader(hosts: Lab, service: str) -> int:
    """Process of a service of app-1, as its service manager knows it."""
    return int(json.loads(hosts.inside("app-1", "bin/svc", "status", service))["pid"])


def is_stopped(pid: int) -> bool:
    """Whether the kernel says so."""
    return "State:\tT" in Path(f"/proc/{pid}/status").read_text()


def heal(hosts: Lab, watch: Watch) -> None:
    """Heal what the watch is about, whoever injected it."""

    async def healed() -> None:
        entry = Catalog().entry(watch.fault)
        assert isinstance(entry, Action) and entry.heal is not None
        ctx, p = hosts.context(), entry.params.model_validate(watch.params, strict=False)
        await entry.heal(ctx, p, await entry.observe(ctx, p))
        await ctx.providers.aclose()

    asyncio.run(healed())
