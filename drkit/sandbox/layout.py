"""Where everything in the sandbox is: sites, loopback addresses, folders, names. Pure."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

Replication = Literal["sync", "async"]

SOURCE = "us-east-1"
TARGET = "us-west-2"
REGIONS = (SOURCE, TARGET)
ONPREM = "onprem"
OUTSIDE = "outside"

_SITE_NUMBERS = {SOURCE: 1, TARGET: 2, ONPREM: 3, OUTSIDE: 4}

ZONE = "reliabletech.example"
SERVICE = f"shop.{ZONE}"
TTL_S = 1.0
WINDOW_S = 5.0
"""How long recovery must hold before it counts; production's is 30 s."""
SSH_USER = "drkit"
BACKUPS = "srv/backups"
"""Folder of the on-prem servers with backups of the database; nothing in it is an original."""
STATE_BUCKET = "reliabletech-drkit-state"
DATABASE_NAME = "orders"
"""What plans call the replicated pair."""

ROLES_ON_SITE = {"agent": 10, "edge": 20, "host": 30, "cloud": 40, "routing": 45, "names": 60, "sinks": 70, "admin": 80}
_LINKS_ON_SITE = {"users": 100, "admin-link": 110, "witness": 120, "replication": 130, "onprem": 140}


def address(site: str, what: str, number: int = 0) -> str:
    """The loopback address of a role (or of a link's near end) on a site."""
    last = {**ROLES_ON_SITE, **_LINKS_ON_SITE}[what] + number
    return f"127.1.{_SITE_NUMBERS[site]}.{last}"


def other(region: str) -> str:
    """The region that a failover of this one enters."""
    return TARGET if region == SOURCE else SOURCE


def hosts(site: str) -> tuple[str, ...]:
    """Names of the servers on a site."""
    return {
        SOURCE: ("app-east-1", "app-east-2"),
        TARGET: ("app-west-1", "app-west-2"),
        ONPREM: ("onprem-1", "onprem-2"),
    }.get(site, ())


def zones(region: str) -> dict[str, tuple[str, ...]]:
    """The zones of a region, each with its servers. Database and edge are the region's own, in every zone."""
    return {f"{region}{letter}": (name,) for letter, name in zip("ab", hosts(region), strict=True)}


@dataclass(frozen=True)
class Settings:
    """What a world is made with; kept in its folder."""

    link_delay_s: float = 0.05
    replication: Replication = "async"
    term_s: float = 3.0
    """How long a writer may go on without a renewal of its lease."""
    margin_s: float = 1.0
    sockets: dict[str, str] | None = None
    """Folders of the servers' Unix sockets where those in the world's folder would be too long a path."""

    def as_json(self) -> dict[str, Any]:
        """For settings.json."""
        return asdict(self)


@dataclass(frozen=True)
class Folders:
    """The files of a world."""

    world: Path

    @property
    def settings(self) -> Path:
        """How it was made."""
        return self.world / "settings.json"

    @property
    def environment(self) -> Path:
        """What drkit is given; there when the world is up."""
        return self.world / "environment.json"

    @property
    def supervisor(self) -> Path:
        """Pid and start time of the supervisor, and its control URL."""
        return self.world / "supervisor.json"

    @property
    def readings(self) -> Path:
        """The prober's folder."""
        return self.world / "readings"

    def log(self, part: str) -> Path:
        """What a part writes to stderr."""
        return self.world / "log" / f"{part}.log"

    def config(self, part: str) -> Path:
        """The configuration file a part is started with."""
        return self.world / "config" / f"{part}.json"

    def secret(self, name: str) -> Path:
        """A file with one secret, 0600."""
        return self.world / "secrets" / name

    def data(self, region: str) -> Path:
        """The data folder of a region's database."""
        return self.world / region / "pgdata"

    def sockets(self, region: str) -> Path:
        """Where a region's server has its Unix socket, unless that path is too long."""
        return self.world / region / "run"

    def host(self, name: str) -> Path:
        """What belongs to a server: its host key and its root."""
        return self.world / "hosts" / name

    def state(self, name: str) -> Path:
        """Small durable states of parts."""
        return self.world / "state" / name

    def make(self) -> None:
        """Create the folders. Secrets are for their owner only; the rest lets the servers' user pass through."""
        for name in ("log", "config", "secrets", "hosts", "state", "readings", *REGIONS):
            (self.world / name).mkdir(parents=True, exist_ok=True)
        self.world.chmod(0o711)
        for region in REGIONS:
            (self.world / region).chmod(0o711)
        (self.world / "secrets").chmod(0o700)


def default_folder() -> Path:
    """`$DRKIT_SANDBOX_DIR`, else `/var/lib/drkit/sandbox` for root, else under the user's state folder."""
    if chosen := os.environ.get("DRKIT_SANDBOX_DIR"):
        return Path(chosen)
    if os.geteuid() == 0:
        return Path("/var/lib/drkit/sandbox")
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local/state") / "drkit" / "sandbox"
