"""Hosts that faults are tried on: real SSH servers with real processes, and, as root, namespaces of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import asyncssh

from drkit import testing
from drkit.context import Context
from drkit.model.environment import Address, Environment, Host, SecretRef, Site


@dataclass
class Lab:
    """Some hosts, reached over SSH."""

    folder: Path
    ready: dict[str, dict[str, Any]]
    processes: list[subprocess.Popen[bytes]]

    @property
    def environment(self) -> Environment:
        """With those hosts; its state store is in the lab's folder."""
        hosts = tuple(
            Host(
                name=name, site="here", address=Address(host=told["address"], port=told["port"]),
                user=told.get("user", "drkit"), key=SecretRef(ref=f"secret://file/{self.folder / 'login'}"),
                known_host=told["public_key"], machine_id=told["machine_id"],
                isolation=told["isolation"], copies=tuple(told.get("copies", ())),
            )
            for name, told in self.ready.items()
        )  # fmt: skip
        site = Site(name="here", kind="region")
        store = f"file://{self.folder / 'store'}"
        return Environment(name="lab", kind="staging", account="0", sites=(site,), hosts=hosts, state_store=store)

    @property
    def secrets(self) -> dict[str, str]:
        """What logs in to its hosts, by reference."""
        return {f"secret://file/{self.folder / 'login'}": (self.folder / "login").read_text()}

    def toml(self, site: str) -> str:
        """The hosts as `drkit.toml` says those of an environment `lab`: all at this site, with the role `app`."""
        return "\n".join(
            "[[environments.lab.hosts]]\n"
            f'name = "{host.name}"\nsite = "{site}"\nuser = "{host.user}"\nroles = ["app"]\n'
            f'address = {{host = "{host.address.host}", port = {host.address.port}}}\n'
            f'key = {{ref = "{host.key.ref}"}}\nknown_host = "{host.known_host}"\n'
            f'machine_id = "{host.machine_id}"\nisolation = "{host.isolation}"\n'
            for host in self.environment.hosts
        )

    def context(self, step: str = "step", **given: Any) -> Context:
        """A context of a run in the lab."""
        return testing.context(self.environment, secrets=self.secrets, source="here", target="here", step=step, **given)

    def root(self, host: str) -> Path:
        """The host's root folder."""
        return Path(self.ready[host]["root"])

    def command(self, host: str, *argv: str) -> list[str]:
        """What runs a command in the host's root and namespaces, past SSH and past drkit."""
        if self.ready[host]["room"] is None:
            return ["env", "-C", str(self.root(host)), *argv]
        kinds = {"mount-ns": ("--mount",), "netns": ("--mount", "--net")}[self.ready[host]["isolation"]]
        return ["nsenter", "-t", str(self.ready[host]["room"]), *kinds, f"--wdns={self.root(host)}", "--", *argv]

    def inside(self, host: str, *argv: str) -> str:
        """What such a command says."""
        done = subprocess.run(self.command(host, *argv), capture_output=True, text=True, timeout=20)
        return done.stdout + done.stderr

    def wire(self, one: str, other: str) -> None:
        """Join two hosts by a cable of their own, inside their namespaces only: 10.77.0.1, and 10.77.0.2 to .9."""
        enter = {name: ["nsenter", f"--net=/proc/{self.ready[name]['room']}/ns/net"] for name in (one, other)}
        cable = f"ip link add wire type veth peer name wire netns {self.ready[other]['room']}"
        subprocess.run([*enter[one], *cable.split()], check=True)
        for name, numbers in ((one, [1]), (other, range(2, 10))):
            words = [f"addr add 10.77.0.{number}/24 dev wire" for number in numbers]
            for line in [*words, "link set wire up"]:
                subprocess.run([*enter[name], "ip", *line.split()], check=True)


@dataclass(frozen=True)
class Machine:
    """What no fault in a host of the lab may change of the machine that the lab runs on.

    Others may work on the same machine: of mounts and groups those count that have to do with a host of the lab.
    """

    rules: str
    queues: str
    mounts: tuple[str, ...]
    groups: tuple[str, ...]
    clock_s: float
    """Wall clock minus monotonic clock."""

    @classmethod
    def now(cls, lab: Lab) -> Machine:
        """As it is."""
        rules, queues = (
            subprocess.run(words.split(), capture_output=True, text=True, check=True).stdout
            for words in ("nft list ruleset", "tc qdisc show")
        )
        mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(lab.folder) in line]
        roots = [
            subprocess.run(["cksum"], input=f"{lab.root(name)}\n".encode(), capture_output=True) for name in lab.ready
        ]
        marks = [done.stdout.split()[0].decode() for done in roots]
        groups = [str(path) for mark in marks for path in Path("/sys/fs/cgroup").glob(f"*/drkit-*-{mark}")]
        return cls(rules, queues, tuple(mounts), tuple(groups), time.time() - time.monotonic())

    def same_as(self, other: Machine) -> bool:
        """Whether nothing is changed; the clock may be corrected a little meanwhile."""
        alike = replace(self, clock_s=0) == replace(other, clock_s=0)
        return alike and abs(self.clock_s - other.clock_s) < CLOCK_S_MAX


CLOCK_S_MAX = 1.0
#: A host's end takes 0.1 s where nobody else is at work; 8 s were seen at a load of 40, with four writers to its disk.
END_S_MAX = 60.0


def uptime_s() -> float:
    """The clock that leases on hosts count on."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def changed_s(path: Path) -> float:
    """When a file became what it is, by that clock."""
    return path.stat().st_ctime - time.time() + uptime_s()


def why_no_rooms(*tools: str) -> str | None:
    """Why hosts cannot have namespaces of their own here; None if they can."""
    if os.geteuid() != 0:
        return "needs root: namespaces of a host's own"
    missing = [tool for tool in ("unshare", "nsenter", "ip", *tools) if shutil.which(tool) is None]
    return f"needs {', '.join(missing)}" if missing else None


@contextmanager
def lab(folder: Path, hosts: dict[str, dict[str, Any]]) -> Iterator[Lab]:
    """Start these hosts (name → further configuration), and end them."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(folder / "login")
    found = Lab(folder, {}, [])
    try:
        for name, more in hosts.items():
            config = {
                "name": name, "address": "127.0.0.1", "folder": str(folder / name), "user": "drkit",
                "authorized_keys": [key.export_public_key().decode()], **more,
            }  # fmt: skip
            (folder / f"{name}.json").write_text(json.dumps(config))
            process = subprocess.Popen(
                [sys.executable, "-m", "drkit.sandbox.parts.host", str(folder / f"{name}.json")],
                stdout=subprocess.PIPE,
            )
            found.processes.append(process)
            assert process.stdout is not None
            found.ready[name] = json.loads(process.stdout.readline())
        yield found
    finally:
        end(found.processes)


def end(processes: list[subprocess.Popen[bytes]]) -> None:
    """End hosts, all at once. Who does not end is killed, and it is told what that was doing."""
    for process in processes:
        process.terminate()
    deadline, stuck = time.monotonic() + END_S_MAX, []
    for process in processes:
        try:
            process.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            stuck.append(f"{process.args!r}: {doing(process.pid)}")
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()
    assert not stuck, f"not ended within {END_S_MAX:g} s: {stuck}"


def doing(pid: int) -> dict[str, str]:
    """What the kernel says that a process waits for."""
    said = {}
    for name in ("status", "wchan", "stack"):
        with suppress(OSError):  # ours to read or not
            said[name] = Path(f"/proc/{pid}/{name}").read_text()
    return said
