"""Hosts that faults are tried on: real SSH servers with real processes, and, as root, namespaces of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
                name=name, site="here", address=Address(host=told["address"], port=told["port"]), user="drkit",
                key=SecretRef(ref=f"secret://file/{self.folder / 'login'}"), known_host=told["public_key"],
                machine_id=told["machine_id"], isolation=told["isolation"],
            )
            for name, told in self.ready.items()
        )  # fmt: skip
        site = Site(name="here", kind="region")
        store = f"file://{self.folder / 'store'}"
        return Environment(name="lab", kind="staging", account="0", sites=(site,), hosts=hosts, state_store=store)

    def context(self, step: str = "step", **given: Any) -> Context:
        """A context of a run in the lab."""
        secrets = {f"secret://file/{self.folder / 'login'}": (self.folder / "login").read_text()}
        return testing.context(self.environment, secrets=secrets, source="here", target="here", step=step, **given)

    def root(self, host: str) -> Path:
        """The host's root folder."""
        return Path(self.ready[host]["root"])

    def inside(self, host: str, *argv: str) -> str:
        """What a command says that runs in the host's root and namespaces, past SSH and past drkit."""
        enter: Sequence[str] = ()
        if self.ready[host]["room"] is not None:
            kinds = {"mount-ns": ("--mount",), "netns": ("--mount", "--net")}[self.ready[host]["isolation"]]
            enter = ("nsenter", "-t", str(self.ready[host]["room"]), *kinds, f"--wd={self.root(host)}", "--")
        done = subprocess.run([*enter, *argv], cwd=self.root(host), capture_output=True, text=True, timeout=20)
        return done.stdout + done.stderr


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
        for process in found.processes:
            process.terminate()
            process.wait(10)
            assert process.stdout is not None
            process.stdout.close()
