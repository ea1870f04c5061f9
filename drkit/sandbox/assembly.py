"""Build the world: which part needs which, with what configuration, and the environment that comes out.

Every step of the table starts as soon as the steps it needs are done; what one part announced goes into the next one's
configuration, so no port is fixed anywhere.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from drkit.model.environment import Address, Database, Environment, SecretRef, Service, Site, Witness
from drkit.sandbox import postgres, schema
from drkit.sandbox.layout import (
    DATABASE_NAME,
    MARGIN_S,
    ONPREM,
    OUTSIDE,
    REGIONS,
    SERVICE,
    SOURCE,
    TARGET,
    TERM_S,
    Settings,
    address,
)
from drkit.sandbox.links import Endpoint, Link
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
    _write(folders.environment, assembly.environment().model_dump(mode="json"))


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
        self.binaries = Path()
        self.steps: dict[str, tuple[Callable[[], Awaitable[None]], tuple[str, ...]]] = {
            "secrets": (self._secrets, ()),
            "links": (self._links, ()),
            "witness": (self._witness, ()),
            "writer": (self._writer, ("secrets", "links", "witness")),
            "schema": (self._schema, ("writer",)),
            "standby": (self._standby, ("schema",)),
        }

    async def build(self) -> None:
        """Carry out every step, each as soon as it can."""
        self._done = {name: asyncio.Event() for name in self.steps}
        async with asyncio.TaskGroup() as group:
            for name in self.steps:
                group.create_task(self._carry_out(name))

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
        """Make the wires. Their routes are opened by the steps that know where they lead."""
        names = [f"{kind}-{region}" for kind in ("users", "admin", "witness", "onprem") for region in REGIONS]
        for name in ("replication", *names):
            self.supervisor.links[name] = Link(name)

    async def _route(self, link: str, name: str, upstream: Endpoint, host: str, port: int = 0) -> Endpoint:
        self.routes[name] = await self.supervisor.links[link].open_route(upstream, host, port)
        return self.routes[name]

    async def _witness(self) -> None:
        state = self.folders.state("witness.json")
        # There never was a holder: said explicitly, because a witness without a state waits a full term.
        _write(state, {"holder": None, "site": None, "epoch": 0, "released": False, "revoked": None})
        config = {"host": address(ONPREM, "witness"), "state": str(state), "term_s": TERM_S, "margin_s": MARGIN_S}
        await self._start("witness", ONPREM, f"{_PARTS}.witness", config)

    async def _writer(self) -> None:
        await self._agent(SOURCE, {})

    async def _standby(self) -> None:
        door = self._endpoint(f"agent-{SOURCE}")
        upstream = await self._route("replication", "replication", door, address(TARGET, "replication"))
        await self._agent(TARGET, {"upstream": {"host": upstream.host, "port": upstream.port}})
        # The way back, for the day on which the target is the writer.
        back = self._endpoint(f"agent-{TARGET}")
        await self._route("replication", "replication-back", back, address(SOURCE, "replication"))
        self.supervisor.links["replication"].delay_s = self.settings.link_delay_s
        if self.settings.replication == "sync":
            await self._replicate_synchronously()

    async def _agent(self, region: str, make: dict[str, Any]) -> None:
        witness = self._endpoint("witness")
        reach = await self._route(f"witness-{region}", f"witness-{region}", witness, address(region, "witness"))
        assert self.settings.sockets is not None
        name = f"agent-{region}"
        config = {
            "site": region,
            "host": address(region, "agent"),
            "binaries": str(self.binaries),
            "data": str(self.folders.data(region)),
            "sockets": self.settings.sockets[region],
            "log": str(self.folders.log(f"postgres-{region}")),
            "state": str(self.folders.state(f"{name}.json")),
            "witness": reach.url,
            "term_s": TERM_S,
            "margin_s": MARGIN_S,
            "superuser_password_file": str(self.folders.secret("superuser")),
            "replicator_password_file": str(self.folders.secret("replicator")),
            "make": make,
        }
        await self._start(name, region, f"{_PARTS}.agent", config)
        for kind, host in (
            ("admin", address(region, "admin")),
            ("users", address(region, "users")),
            ("onprem", address(ONPREM, "onprem", REGIONS.index(region))),
        ):
            await self._route(f"{kind}-{region}", f"{kind}-{region}-database", self._endpoint(name), host)
        ready = self.ready[name]
        agent = Endpoint(ready["host"], ready["admin_port"])
        await self._route(f"admin-{region}", f"admin-{region}-agent", agent, address(region, "admin"))

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

    # -- what comes out ----------------------------------------------------------------------------------------------

    def environment(self) -> Environment:
        """The environment as drkit sees it: every address of a region lies behind a link that an outage cuts."""
        witness = self._endpoint("witness")
        return Environment(
            name="sandbox",
            kind="sandbox",
            account="123456789012",
            sites=(
                *(Site(name=region, kind="region") for region in REGIONS),
                Site(name=ONPREM, kind="on-prem"),
                Site(name=OUTSIDE, kind="outside"),
            ),
            databases=tuple(self._database(region) for region in REGIONS),
            service=Service(hostname=SERVICE, port=80),
            witness=Witness(name="witness", site=ONPREM, url=witness.url, term_s=TERM_S, margin_s=MARGIN_S),
            state_store=(self.folders.world / "store").as_uri(),
            control=self.control,
        )

    def _database(self, region: str) -> Database:
        where = self.routes[f"admin-{region}-database"]
        return Database(
            name=DATABASE_NAME,
            site=region,
            address=Address(host=where.host, port=where.port),
            dbname=schema.DATABASE,
            user="drkit_admin",
            password=SecretRef(ref=f"secret://file/{self.folders.secret('drkit_admin')}"),
            system_identifier=self.ready[f"agent-{region}"]["system_identifier"],
        )

    def _endpoint(self, part: str) -> Endpoint:
        ready = self.ready[part]
        return Endpoint(ready["host"], ready["port"])

    def _secret(self, name: str) -> str:
        return self.folders.secret(name).read_text().strip()


def _write(path: Path, value: Any) -> None:
    draft = path.with_name(path.name + ".new")
    draft.touch(mode=0o600)
    draft.write_text(json.dumps(value, indent=2) + "\n")
    draft.replace(path)
