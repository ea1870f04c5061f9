"""What the seeding modules share: the settings of the world, clients for its gateways, names and digests."""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ACCOUNT = "123456789012"
PREFIX = "reliabletech"
CALLER = "sandbox-seed"
TAGS = [{"Key": "service", "Value": PREFIX}, {"Key": "managed-by", "Value": "drkit-sandbox"}]
PRODUCTION_SIZE = 6
RELEASE_TAG = "2026.11.2"
AMI_NAME = f"{PREFIX}-web-2026.11"
OLD_AMI_NAME = f"{PREFIX}-web-2026.09"


@dataclass(frozen=True)
class World:
    """Where things are, as the supervisor knows it. `edges` and `databases`: region → (host, port)."""

    gateways: Mapping[str, str]
    source: str
    target: str
    edges: Mapping[str, tuple[str, int]]
    databases: Mapping[str, tuple[str, int]]
    db_name: str
    db_user: str
    db_password: str
    release: bytes
    zone: str = "reliabletech.example"
    ttl_s: int = 1
    sinks_url: str | None = None
    state_bucket: str = f"{PREFIX}-drkit-state"

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> World:
        """From the JSON form described in `seed`; `release` is the path of the order application's file."""
        places = {
            name: {region: (place["host"], int(place["port"])) for region, place in config[name].items()}
            for name in ("edges", "databases")
        }
        database = config["database"]
        optional = {name: config[name] for name in ("zone", "ttl_s", "sinks_url", "state_bucket") if name in config}
        return cls(
            gateways=config["gateways"],
            source=config["source"],
            target=config["target"],
            edges=places["edges"],
            databases=places["databases"],
            db_name=database["name"],
            db_user=database["user"],
            db_password=database["password"],
            release=Path(config["release"]).read_bytes(),
            **optional,
        )

    @property
    def regions(self) -> tuple[str, str]:
        """Source and target."""
        return (self.source, self.target)


@dataclass
class Clients:
    """boto3 clients by region and service, made once each; making one is the slow part, so models are shared."""

    gateways: Mapping[str, str]
    _made: dict[tuple[str, str], Any] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _session: Any = None

    def __call__(self, region: str, service: str) -> Any:
        """The client of a service at a region's gateway."""
        with self._lock:  # sessions are not thread-safe; clients are
            if (region, service) not in self._made:
                self._made[region, service] = self._make(region, service)
            return self._made[region, service]

    def _make(self, region: str, service: str) -> Any:
        import boto3
        from botocore.config import Config

        if self._session is None:
            self._session = boto3.session.Session(aws_access_key_id="sandbox", aws_secret_access_key="-" * 40)
        options: dict[str, Any] = {
            "retries": {"total_max_attempts": 2, "mode": "standard"},
            "connect_timeout": 2,
            "read_timeout": 20,
            "max_pool_connections": 16,
            "user_agent_appid": CALLER,
            "parameter_validation": False,
        }
        config = Config(**options)
        return self._session.client(service, region_name=region, endpoint_url=self.gateways[region], config=config)


def sha256(content: bytes) -> str:
    """`sha256:<hex>`."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def stable_uuid(text: str) -> str:
    """The same UUID for the same text, everywhere."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{text}.{PREFIX}.example"))


def spec(kind: str, name: str, **more: str) -> list[dict[str, Any]]:
    """EC2 `TagSpecifications` that name a resource of this kind."""
    tags = [*TAGS, {"Key": "Name", "Value": name}, *({"Key": key, "Value": value} for key, value in more.items())]
    return [{"ResourceType": kind, "Tags": tags}]
