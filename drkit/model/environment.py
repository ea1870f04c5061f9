"""What an environment is: sites, databases, hosts, names, people, sinks. Frozen data, read from a file.

An environment is written by people (`drkit.toml`) or by whoever made the world (`drkit sandbox up`). Secrets appear
as references only. Nothing here connects to anything.
"""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Le
from pydantic import BaseModel, ConfigDict, Field

from drkit.model.values import Duration, Json

Port = Annotated[int, Ge(1), Le(65535)]


#: What a host keeps to itself, from nothing to everything: what a fault may touch there follows from it.
Isolation = Literal["none", "mount-ns", "netns", "machine"]


class Frozen(BaseModel):
    """Base of everything read from files: immutable, unknown keys are mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class SecretRef(Frozen):
    """Where a secret is kept, never its value: `secret://file/<path>` or `secret://aws-sm/<region>/<name>`."""

    ref: Annotated[str, Field(pattern=r"^secret://")]


class Address(Frozen):
    """A host and a port."""

    host: str
    port: Port

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Site(Frozen):
    """A region or a data centre. `kind` outside: on neither side of a failover (witness, users)."""

    name: str
    kind: Literal["region", "on-prem", "outside"]
    aws_endpoint: str | None = None
    """Base URL of the site's AWS API; None: the real one."""
    edge: Address | None = None
    """Where users' requests enter this site: what `pin` pins to."""
    edge_admin: str | None = None
    """Base URL of the entry's administration (`PUT /_edge/maintenance`, `GET /_edge/status`); None: it has none."""
    routing_endpoint: str | None = None
    """Base URL of a data-plane endpoint of the routing controls in this site."""


class Database(Frozen):
    """One side of a replicated PostgreSQL pair."""

    name: str
    site: str
    address: Address
    dbname: str
    user: str
    password: SecretRef
    system_identifier: str
    """`pg_control_system().system_identifier`: who must answer before anything destructive is sent."""
    agent: str | None = None
    """Base URL of the dead-man agent beside it (`GET /status`, `POST /promote`), which is told of an override; None: it
    has none that we may talk to."""
    reached_from: dict[str, Address] = Field(default_factory=dict)
    """Address under which servers of another site reach it, by the name of that site, where it is another one."""


class Host(Frozen):
    """A server reached over SSH."""

    name: str
    site: str
    address: Address
    user: str
    key: SecretRef
    """Private key drkit logs in with."""
    known_host: str
    """The server's public key, one OpenSSH line without the host field; anything else is refused."""
    machine_id: str
    """What `cat etc/machine-id` in the host's root must answer (host-identity interlock)."""
    isolation: Isolation = "none"
    """What it keeps to itself: nothing (it shares a machine), its mounts, also its network, or all (`machine`)."""
    roles: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()
    """Folders that hold nothing but copies, as the host names them: what faults of data may spoil without asking."""


class Dns(Frozen):
    """The zone users resolve, who is authoritative for it, and resolvers that stand for users' resolvers."""

    zone: str
    authorities: tuple[Address, ...]
    resolvers: tuple[Address, ...] = ()
    ttl_s: float = 60.0


class Service(Frozen):
    """What users use: the name they resolve and the port they connect to."""

    hostname: str
    port: Port
    scheme: Literal["http", "https"] = "http"


class Witness(Frozen):
    """Outside both regions: sees the source's dead-man lease being renewed, on its own monotonic clock."""

    name: str
    site: str
    url: str
    term_s: float
    """A writer that has not renewed for this long has stopped itself."""
    margin_s: float
    """What the witness waits on top before it says so."""


class Prober(Frozen):
    """The environment's prober and ledgers: who measures what users see, and where the readings are."""

    folder: str
    interval_s: float = 0.1
    window_s: float = 30.0
    """W: recovery must hold this long before it counts; shorter windows are shown as shortened."""
    objective: float = 0.99
    clients: int = 20


class Person(Frozen):
    """Who a Unix user is, and in which roles. The same uid is one person."""

    name: str
    uid: int | None = None
    roles: tuple[str, ...] = ()


class Sink(Frozen):
    """Where messages go: `url` of a webhook or `smtp://host:port`, for one audience."""

    name: str
    kind: Literal["slack", "pagerduty", "statuspage", "mail", "webhook"]
    url: str
    audience: Literal["responders", "stakeholders", "customers", "regulator", "drill"]
    real: bool = True
    """False: reaches nobody (a recorder); a drill refuses sinks that are real."""
    receipts: str | None = None
    """URL that lists what arrived (`{"messages": [{"kind", "path", "body"}]}`); None: only the sink's answer tells."""


class Environment(Frozen):
    """Everything a run may touch. `kind` decides what must be asked before anything is touched."""

    name: str
    kind: Literal["sandbox", "staging", "production"]
    account: str
    sites: tuple[Site, ...]
    databases: tuple[Database, ...] = ()
    hosts: tuple[Host, ...] = ()
    dns: Dns | None = None
    service: Service | None = None
    witness: Witness | None = None
    prober: Prober | None = None
    aws_credentials: SecretRef | None = None
    """Where temporary AWS credentials are written down (JSON of `credential_process`, or `AWS_ACCESS_KEY_ID=…` lines)
    and kept fresh by somebody; None: the usual chain, which refreshes roles by itself."""
    state_store: str
    """`s3://bucket/prefix` or `file:///folder`; outside the source region."""
    state_store_site: str | None = None
    """Site whose AWS endpoint serves an `s3://` state store."""
    people: tuple[Person, ...] = ()
    sinks: tuple[Sink, ...] = ()
    runbook: str | None = None
    """Default runbook of `drkit failover`."""
    rto: Duration | None = None
    """Overrides the runbook's objective: a drill's objectives are its environment's."""
    rpo: Duration | None = None
    parameters: dict[str, Json] = Field(default_factory=dict)
    """Overrides of runbook parameters (hold times, replica counts); plans show what was shortened."""
    simulated: dict[str, str] = Field(default_factory=dict)
    """Actions whose subject nothing in this environment makes real, with the reason; counted in the verdict's line."""
    control: str | None = None
    """Base URL of the sandbox's control API; None elsewhere."""

    def site(self, name: str) -> Site:
        """The site called `name`; KeyError names the known ones."""
        for site in self.sites:
            if site.name == name:
                return site
        raise KeyError(f"{name} (known: {', '.join(site.name for site in self.sites)})")

    @property
    def regions(self) -> tuple[str, ...]:
        """Names of the sites that a failover can leave or enter."""
        return tuple(site.name for site in self.sites if site.kind == "region")

    def database(self, name: str, site: str) -> Database:
        """The side of database `name` in `site`; KeyError if there is none."""
        for database in self.databases:
            if database.name == name and database.site == site:
                return database
        raise KeyError(f"{name} in {site}")

    def host(self, name: str) -> Host:
        """The host called `name`; KeyError names the known ones."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise KeyError(f"{name} (known: {', '.join(host.name for host in self.hosts)})")
