"""What the steps that build a world share: what is known of it so far; how a part is started and a route opened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from drkit.sandbox.layout import ONPREM, REGIONS, Settings, address
from drkit.sandbox.links import Endpoint
from drkit.sandbox.supervisor import Supervisor

PARTS = "drkit.sandbox.parts"


class Worksite:
    """A world that is being built: what was announced so far, by part and by route."""

    def __init__(self, supervisor: Supervisor, settings: Settings, control: str) -> None:
        self.supervisor = supervisor
        self.folders = supervisor.folders
        self.settings = settings
        self.control = control
        self.binaries = Path()
        self.ready: dict[str, dict[str, Any]] = {}
        """Ready line of each part."""
        self.routes: dict[str, Endpoint] = {}
        """Near end of each route over a link."""
        self.doors: dict[str, Endpoint] = {}
        """Door of each region's database."""
        self.agents: dict[str, Endpoint] = {}
        """Control port of each region's agent."""
        self.apps: dict[str, Endpoint] = {}
        """Where the shop listens on each server."""

    async def start(self, name: str, site: str, module: str, config: dict[str, Any]) -> dict[str, Any]:
        """Start a part and keep its ready line. Raises DrkitError."""
        self.ready[name] = await self.supervisor.start(name, site, module, config)
        return self.ready[name]

    async def route(self, link: str, name: str, upstream: Endpoint, host: str, port: int = 0) -> Endpoint:
        """Open a route over a link and keep its near end under `name`. Raises OSError."""
        self.routes[name] = await self.supervisor.links[link].open_route(upstream, host, port)
        return self.routes[name]

    def endpoint(self, part: str) -> Endpoint:
        """Where a part of ours listens."""
        ready = self.ready[part]
        return Endpoint(ready["host"], ready["port"])

    def secret(self, name: str) -> str:
        """A secret of the world."""
        return self.folders.secret(name).read_text().strip()


def onprem_end(region: str) -> str:
    """Address of the on-prem end of the link to a region."""
    return address(ONPREM, "onprem", REGIONS.index(region))


def place(where: Endpoint) -> dict[str, Any]:
    """As configurations of parts have it."""
    return {"host": where.host, "port": where.port}


def new_key() -> tuple[str, str]:
    """A fresh Ed25519 key pair: the private half as OpenSSH keeps it, the public half as one line."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return private.decode(), public.decode()


def write(path: Path, value: Any) -> None:
    """Replace a file by this JSON value, readable by us only."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replace a file, readable by us only; nobody ever sees half of it."""
    draft = path.with_name(path.name + ".new")
    draft.touch(mode=0o600)
    draft.write_text(text)
    draft.replace(path)
