"""Build the world: which part needs which, with what configuration, and the environment that comes out.

Every step of the table starts as soon as the steps it needs are done; what one part announced goes into the next one's
configuration, so no port is fixed anywhere.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from drkit.errors import DrkitError
from drkit.sandbox import furnishing, postgres, schema
from drkit.sandbox.layout import (
    ONPREM,
    OUTSIDE,
    REGIONS,
    SERVICE,
    SOURCE,
    SSH_USER,
    STATE_BUCKET,
    TARGET,
    TTL_S,
    WINDOW_S,
    ZONE,
    Settings,
    address,
    hosts,
)
from drkit.sandbox.links import Endpoint, Link
from drkit.sandbox.parts._aio import fetch
from drkit.sandbox.portrait import environment_of
from drkit.sandbox.processes import identify
from drkit.sandbox.supervisor import Supervisor, report, say

_PARTS = "drkit.sandbox.parts"


async def assemble(supervisor: Supervisor, serve_control: Callable[[Supervisor], Awaitable[str]]) -> None:
    """Start everything, then write environment.json. Raises DrkitError (maybe in a group) for what did not start."""
    folders = supervisor.folders
    settings = Settings(**json.loads(folders.settings.read_text()))
    control = await serve_control(supervisor)
    own = identify(os.getpid())
    assert own is not None
    _write(folders.supervisor, {"pid": own.pid, "start": own.start, "control": control})
    assembly = Assembly(supervisor, settings, control)
    await assembly.build()
    _write(folders.environment, environment_of(assembly).model_dump(mode="json"))


class Assembly:
    """The table of steps and what they have found out so far."""

    def __init__(self, supervisor: Supervisor, settings: Settings, control: str) -> None:
        self.supervisor = supervisor
        self.folders = supervisor.folders
        self.settings = settings
        self.control = control
        self.ready: dict[str, dict[str, Any]] = {}
        self.routes: dict[str, Endpoint] = {}
        self._done: dict[str, asyncio.Event] = {}
        self.doors: dict[str, Endpoint] = {}
        self.agents: dict[str, Endpoint] = {}
        self.apps: dict[str, Endpoint] = {}
        self.binaries = Path()
        self.steps: dict[str, tuple[Callable[[], Awaitable[None]], tuple[str, ...]]] = {
            "secrets": (self._secrets, ()),
            "links": (self._links, ()),
            "witness": (self._witness, ()),
            "writer": (self._writer, ("secrets", "links", "witness")),
            "schema": (self._schema, ("writer",)),
            "standby": (self._standby, ("schema",)),
            "aws": (self._aws, ()),
            "routing": (self._routing, ()),
            "sinks": (self._sinks, ()),
            "edges": (self._edges, ("links",)),
            "seed": (self._seed, ("secrets", "aws", "sinks", "edges")),
            "hosts": (self._hosts, ("secrets", "links", "aws")),
            "targets": (self._targets, ("hosts", "edges")),
            "replicator": (self._replicator, ("seed",)),
            "names": (self._names, ("routing", "seed")),
            "service": (self._service, ("names", "targets", "standby")),
            "prober": (self._prober, ("service",)),
        }

    async def build(self, goals: Iterable[str] | None = None) -> None:
        """Carry out every step that `goals` need (None: all), each as soon as it can."""
        wanted = set(self.steps) if goals is None else self._closure(goals)
        self._done = {name: asyncio.Event() for name in wanted}
        async with asyncio.TaskGroup() as group:
            for name in self.steps:
                if name in wanted:
                    group.create_task(self._carry_out(name))

    def _closure(self, goals: Iterable[str]) -> set[str]:
        wanted: set[str] = set()
        pending = list(goals)
        while pending:
            name = pending.pop()
            if name not in wanted:
                wanted.add(name)
                pending += self.steps[name][1]
        return wanted

    async def _carry_out(self, name: str) -> None:
        step, needs = self.steps[name]
        for need in needs:
            await self._done[need].wait()
        await step()
        self._done[name].set()
        report({"part": name})
        say(f"{name} is ready")

    async def _start(self, name: str, site: str, module: str, config: dict[str, Any]) -> dict[str, Any]:
        self.ready[name] = await self.supervisor.start(name, site, module, config)
        return self.ready[name]

    # -- steps -------------------------------------------------------------------------------------------------------

    async def _secrets(self) -> None:
        for name in ("superuser", *schema.ROLES):
            path = self.folders.secret(name)
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe(18) + "\n")
        self.binaries = await asyncio.to_thread(postgres.find_binaries, self.folders.world)

    async def _links(self) -> None:
        """Make the wires, and those of their routes that lead to the databases: whoever needs one may start at once."""
        names = [f"{kind}-{region}" for kind in ("users", "admin", "witness", "onprem") for region in REGIONS]
        for name in ("replication", *names):
            self.supervisor.links[name] = Link(name)
        for region in REGIONS:
            door = self.doors[region] = self.supervisor.reserve(address(region, "agent"))
            agent = self.agents[region] = self.supervisor.reserve(address(region, "agent"))
            for kind, host in (
                ("admin", address(region, "admin-link")),
                ("users", address(region, "users")),
                ("onprem", self._onprem_end(region)),
            ):
                await self._route(f"{kind}-{region}", f"{kind}-{region}-database", door, host)
            await self._route(f"admin-{region}", f"admin-{region}-agent", agent, address(region, "admin-link"))
        # Each region's standby would follow over the same wire: the second route is for the way back.
        for name, reader, writer in (("replication", TARGET, SOURCE), ("replication-back", SOURCE, TARGET)):
            await self._route("replication", name, self.doors[writer], address(reader, "replication"))

    async def _route(self, link: str, name: str, upstream: Endpoint, host: str, port: int = 0) -> Endpoint:
        self.routes[name] = await self.supervisor.links[link].open_route(upstream, host, port)
        return self.routes[name]

    async def _witness(self) -> None:
        state = self.folders.state("witness.json")
        # There never was a holder: said explicitly, because a witness without a state waits a full term.
        _write(state, {"holder": None, "site": None, "epoch": 0, "released": False, "revoked": None})
        config = {
            "host": address(ONPREM, "witness"),
            "state": str(state),
            "term_s": self.settings.term_s,
            "margin_s": self.settings.margin_s,
        }
        await self._start("witness", ONPREM, f"{_PARTS}.witness", config)

    async def _writer(self) -> None:
        await self._agent(SOURCE, {})

    async def _standby(self) -> None:
        await self._agent(TARGET, {"upstream": _place(self.routes["replication"])})
        await self._streaming()
        self.supervisor.links["replication"].delay_s = self.settings.link_delay_s
        if self.settings.replication == "sync":
            await self._replicate_synchronously()

    async def _streaming(self) -> None:
        """Wait until the standby follows: until then nothing that is written would survive the writer."""
        ready = self.ready[f"agent-{TARGET}"]
        deadline = asyncio.get_running_loop().time() + 15
        while asyncio.get_running_loop().time() < deadline:
            reply = await fetch("GET", f"http://{ready['host']}:{ready['admin_port']}/status", timeout_s=3)
            if reply.json().get("upstream_connected"):
                return
            await asyncio.sleep(0.05)
        hint = f"cat {self.folders.log(f'postgres-{TARGET}')}"
        raise DrkitError(f"the standby in {TARGET} does not follow the writer", hint=hint, code="E0805")

    async def _agent(self, region: str, make: dict[str, Any]) -> None:
        witness = self.endpoint("witness")
        reach = await self._route(f"witness-{region}", f"witness-{region}", witness, address(region, "witness"))
        assert self.settings.sockets is not None
        name = f"agent-{region}"
        config = {
            "site": region,
            "host": address(region, "agent"),
            "port": self.doors[region].port,
            "admin_port": self.agents[region].port,
            "binaries": str(self.binaries),
            "data": str(self.folders.data(region)),
            "sockets": self.settings.sockets[region],
            "log": str(self.folders.log(f"postgres-{region}")),
            "state": str(self.folders.state(f"{name}.json")),
            "witness": reach.url,
            "term_s": self.settings.term_s,
            "margin_s": self.settings.margin_s,
            "superuser_password_file": str(self.folders.secret("superuser")),
            "replicator_password_file": str(self.folders.secret("replicator")),
            "make": make,
        }
        await self._start(name, region, f"{_PARTS}.agent", config)

    async def _aws(self) -> None:
        config = {
            "regions": {region: {"address": address(region, "cloud"), "port": 0} for region in REGIONS},
            "admin": {"address": address(OUTSIDE, "cloud"), "port": 0},
            "calls": str(self.folders.state("aws-calls.jsonl")),
        }
        await self._start("aws", OUTSIDE, f"{_PARTS}.aws", config)

    async def _routing(self) -> None:
        config = {
            "endpoints": {site: {"address": address(site, "routing"), "port": 0} for site in (*REGIONS, OUTSIDE)},
            "admin": {"address": address(OUTSIDE, "admin"), "port": 0},
            "state": str(self.folders.state("routing.json")),
            "calls": str(self.folders.state("routing-calls.jsonl")),
            "regions": list(REGIONS),
            "on": SOURCE,
        }
        await self._start("routing", OUTSIDE, f"{_PARTS}.routing", config)

    async def _sinks(self) -> None:
        config: dict[str, Any] = {
            role: {"address": address(OUTSIDE, "sinks"), "port": 0} for role in ("http", "smtp", "admin")
        }
        config["messages"] = str(self.folders.state("messages.jsonl"))
        await self._start("sinks", OUTSIDE, f"{_PARTS}.sinks", config)

    async def _edges(self) -> None:
        """One edge a region; users reach both on the same port, because a name has addresses and no ports."""
        async with asyncio.TaskGroup() as group:
            for region in REGIONS:
                group.create_task(self._edge(region))
        for _ in range(50):
            first = await self._open_users(SOURCE, 0)
            try:
                await self._open_users(TARGET, first.port)
                break
            except OSError:  # taken over there: look for another one on both
                self.supervisor.links[f"users-{SOURCE}"].close_route(first)
        else:
            raise DrkitError("no port is free on the entrances of both regions", code="E0805")
        for region in REGIONS:
            edge = self.endpoint(f"edge-{region}")
            await self._route(f"onprem-{region}", f"onprem-{region}", edge, self._onprem_end(region))
            admin = Endpoint(edge.host, self.ready[f"edge-{region}"]["admin_port"])
            await self._route(f"admin-{region}", f"admin-{region}-edge", admin, address(region, "admin-link"))

    async def _edge(self, region: str) -> None:
        targets = self.folders.state(f"edge-{region}.json")
        _write(targets, {"targets": [], "listener": None})
        config = {
            "region": region,
            "host": address(region, "edge"),
            "targets": str(targets),
            "maintenance": str(self.folders.state(f"maintenance-{region}")),
        }
        await self._start(f"edge-{region}", region, f"{_PARTS}.edge", config)

    async def _open_users(self, region: str, port: int) -> Endpoint:
        edge = self.endpoint(f"edge-{region}")
        return await self._route(f"users-{region}", f"users-{region}", edge, address(region, "users"), port)

    async def _seed(self) -> None:
        gateways = {region: found["url"] for region, found in self.ready["aws"]["regions"].items()}
        config = {
            "gateways": gateways,
            "source": SOURCE,
            "target": TARGET,
            "edges": {region: _place(self.routes[f"users-{region}"]) for region in REGIONS},
            "databases": {region: _place(self.doors[region]) for region in REGIONS},
            "database": {"name": schema.DATABASE, "user": "app", "password": self._secret("app")},
            "release": str(furnishing.SHOP_RELEASE),
            "zone": ZONE,
            "ttl_s": int(TTL_S),
            "sinks_url": self.ready["sinks"]["http"]["url"],
            "state_bucket": STATE_BUCKET,
        }
        await self._start("seed", OUTSIDE, "drkit.sandbox.seed", config)
        del self.supervisor.parts["seed"]  # a job, not a part: it has done its work

    async def _hosts(self) -> None:
        private, public = await asyncio.to_thread(_new_key)
        _write_text(self.folders.secret("operator_key"), private)
        batch = self._secret("batch")
        cloud = {region: found["url"] for region, found in self.ready["aws"]["regions"].items()}
        async with asyncio.TaskGroup() as group:
            for region in REGIONS:
                for number, name in enumerate(hosts(region)):
                    self.apps[name] = self.supervisor.reserve(address(region, "host", number))
                    door = self.doors[region]
                    furniture = furnishing.app_host(name, region, self.apps[name], door, cloud[region], batch)
                    group.create_task(self._host(name, region, number, public, furniture))
            for number, name in enumerate(hosts(ONPREM)):
                furniture = furnishing.onprem_host(name, self.routes[f"onprem-{SOURCE}-database"], batch)
                group.create_task(self._host(name, ONPREM, number, public, furniture))

    async def _host(self, name: str, site: str, number: int, public: str, furniture: dict[str, Any]) -> None:
        config = {
            "name": name,
            "address": address(site, "host", number),
            "port": 0,
            "folder": str(self.folders.host(name)),
            "user": SSH_USER,
            "authorized_keys": [public],
            "env": furnishing.marks(self.folders.world, site),
            **furniture,
        }
        ready = await self._start(name, site, f"{_PARTS}.host", config)
        for done in ready["boot"]:
            if done["exit"] != 0:
                raise DrkitError(f"{name}: {done['command']} ended with {done['exit']}: {done['output']}", code="E0805")
        ssh = Endpoint(ready["address"], ready["port"])
        if site in REGIONS:
            await self._route(f"admin-{site}", f"ssh-{name}", ssh, address(site, "admin-link"))
        else:
            self.routes[f"ssh-{name}"] = ssh

    async def _targets(self) -> None:
        for region in REGIONS:
            places = [_place(self.apps[name]) for name in hosts(region)]
            _write(self.folders.state(f"edge-{region}.json"), {"targets": places, "listener": None})

    async def _replicator(self) -> None:
        source, target = (
            {"region": region, "url": self.ready["aws"]["regions"][region]["url"]} for region in (SOURCE, TARGET)
        )
        config = {
            "source": source,
            "target": target,
            "buckets": {f"reliabletech-uploads-{SOURCE}": f"reliabletech-uploads-{TARGET}"},
            "tables": {"reliabletech-sessions": "reliabletech-sessions"},
            "admin": {"address": address(OUTSIDE, "admin"), "port": 0},
        }
        await self._start("replicator", OUTSIDE, f"{_PARTS}.replicator", config)

    async def _names(self) -> None:
        gateways = [{"region": region, "url": self.ready["aws"]["regions"][region]["url"]} for region in REGIONS]
        config: dict[str, Any] = {
            "zone": ZONE,
            "gateways": gateways,
            "routing_state": str(self.folders.state("routing.json")),
        }
        for number, role in enumerate(("authority", "resolver", "admin")):
            config[role] = {"address": address(OUTSIDE, "names", number), "port": 0}
        await self._start("names", OUTSIDE, f"{_PARTS}.dns", config)

    async def _service(self) -> None:
        """Wait until a user is served by name: measuring a world that is still starting would show an outage."""
        deadline = asyncio.get_running_loop().time() + 20
        while (why := await self._why_not_served()) is not None:
            if asyncio.get_running_loop().time() > deadline:
                hint = f"cat {self.folders.host(hosts(SOURCE)[0])}/root/var/log/order-app.log"
                raise DrkitError(f"the shop is not served: {why}", hint=hint, code="E0805")
            await asyncio.sleep(0.1)

    async def _why_not_served(self) -> str | None:
        import dns.asyncquery
        import dns.exception
        import dns.message

        resolver, entrance = self.ready["names"]["resolver"], self.routes[f"users-{SOURCE}"]
        question = dns.message.make_query(SERVICE, "A")
        try:
            reply = await dns.asyncquery.udp(question, resolver["address"], port=resolver["port"], timeout=1)
        except (OSError, dns.exception.DNSException) as error:
            return f"{SERVICE} does not resolve: {error or type(error).__name__}"
        found = [str(record) for answers in reply.answer for record in answers]
        if found != [entrance.host]:
            return f"{SERVICE} resolves to {found or 'nothing'}, not to {entrance.host}"
        try:
            page = await fetch("GET", f"{entrance.url}/catalog", timeout_s=3)
        except OSError as error:
            return str(error) or type(error).__name__
        return None if page.status == 200 else page.body.decode(errors="replace")[:200]

    async def _prober(self) -> None:
        resolver = self.ready["names"]["resolver"]
        servers = [{"site": region, "address": _place(self.routes[f"users-{region}-database"])} for region in REGIONS]
        config = {
            "folder": str(self.folders.readings),
            "hostname": SERVICE,
            "port": self.routes[f"users-{SOURCE}"].port,
            "resolvers": [{"host": resolver["address"], "port": resolver["port"]}],
            "window_s": WINDOW_S,
            "canary": {
                "servers": servers,
                "dbname": schema.DATABASE,
                "user": "canary",
                "password_file": str(self.folders.secret("canary")),
            },
        }
        await self._start("prober", OUTSIDE, "drkit.measure.prober", config)

    async def _replicate_synchronously(self) -> None:
        from drkit.sandbox.control import Control

        await Control(self.supervisor).replicate("sync")

    async def _schema(self) -> None:
        assert self.settings.sockets is not None
        passwords = {name: self._secret(name) for name in schema.ROLES}
        await asyncio.to_thread(
            schema.apply,
            Path(self.settings.sockets[SOURCE]),
            postgres.SOCKET_PORT,
            self._secret("superuser"),
            passwords,
        )

    def _onprem_end(self, region: str) -> str:
        return address(ONPREM, "onprem", REGIONS.index(region))

    def endpoint(self, part: str) -> Endpoint:
        """Where a part of ours listens."""
        ready = self.ready[part]
        return Endpoint(ready["host"], ready["port"])

    def _secret(self, name: str) -> str:
        return self.folders.secret(name).read_text().strip()


def _place(where: Endpoint) -> dict[str, Any]:
    return {"host": where.host, "port": where.port}


def _new_key() -> tuple[str, str]:
    """A fresh Ed25519 key pair: the private half as OpenSSH keeps it, the public half as one line."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return private.decode(), public.decode()


def _write(path: Path, value: Any) -> None:
    _write_text(path, json.dumps(value, indent=2) + "\n")


def _write_text(path: Path, text: str) -> None:
    draft = path.with_name(path.name + ".new")
    draft.touch(mode=0o600)
    draft.write_text(text)
    draft.replace(path)
