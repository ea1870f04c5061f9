"""Steps that build the databases: secrets, wires, the witness, the writer with its schema, the standby that follows."""

from __future__ import annotations

import asyncio
import secrets as random_secrets
from pathlib import Path
from typing import Any

from drkit.errors import DrkitError
from drkit.sandbox import postgres
from drkit.sandbox import schema as database
from drkit.sandbox.layout import ONPREM, REGIONS, SOURCE, TARGET, address
from drkit.sandbox.links import Link
from drkit.sandbox.parts._aio import fetch
from drkit.sandbox.worksite import PARTS, Worksite, onprem_end, place, write


async def secrets(world: Worksite) -> None:
    """A password for each role, and the binaries within the servers' reach."""
    for name in ("superuser", *database.ROLES):
        path = world.folders.secret(name)
        path.touch(mode=0o600)
        path.write_text(random_secrets.token_urlsafe(18) + "\n")
    world.binaries = await asyncio.to_thread(postgres.find_binaries, world.folders.world)


async def links(world: Worksite) -> None:
    """Make the wires, and those of their routes that lead to the databases: whoever needs one may start at once."""
    names = [f"{kind}-{region}" for kind in ("users", "admin", "witness", "onprem") for region in REGIONS]
    for name in ("replication", *names, f"admin-{ONPREM}"):
        world.supervisor.links[name] = Link(name)
    for region in REGIONS:
        door = world.doors[region] = world.supervisor.reserve(address(region, "agent"))
        agent = world.agents[region] = world.supervisor.reserve(address(region, "agent"))
        for kind, host in (
            ("admin", address(region, "admin-link")),
            ("users", address(region, "users")),
            ("onprem", onprem_end(region)),
        ):
            await world.route(f"{kind}-{region}", f"{kind}-{region}-database", door, host)
        await world.route(f"admin-{region}", f"admin-{region}-agent", agent, address(region, "admin-link"))
    # Each region's standby would follow over the same wire: the second route is for the way back.
    for name, reader, writer in (("replication", TARGET, SOURCE), ("replication-back", SOURCE, TARGET)):
        await world.route("replication", name, world.doors[writer], address(reader, "replication"))


async def witness(world: Worksite) -> None:
    """The witness, which knows that there never was a writer."""
    state = world.folders.state("witness.json")
    # There never was a holder: said explicitly, because a witness without a state waits a full term.
    write(state, {"holder": None, "site": None, "epoch": 0, "released": False, "revoked": None})
    config = {
        "host": address(ONPREM, "witness"),
        "state": str(state),
        "term_s": world.settings.term_s,
        "margin_s": world.settings.margin_s,
    }
    await world.start("witness", ONPREM, f"{PARTS}.witness", config)


async def writer(world: Worksite) -> None:
    """The database in the source, behind its agent."""
    await _agent(world, SOURCE, {})


async def schema(world: Worksite) -> None:
    """Roles, tables, and a catalogue to sell from."""
    assert world.settings.sockets is not None
    passwords = {name: world.secret(name) for name in database.ROLES}
    await asyncio.to_thread(
        database.apply,
        Path(world.settings.sockets[SOURCE]),
        postgres.SOCKET_PORT,
        world.secret("superuser"),
        passwords,
    )


async def standby(world: Worksite) -> None:
    """The database in the target: cloned, following, and from then on at the settings' distance."""
    await _agent(world, TARGET, {"upstream": place(world.routes["replication"])})
    await _streaming(world)
    world.supervisor.links["replication"].delay_s = world.settings.link_delay_s
    if world.settings.replication == "sync":
        await _replicate_synchronously(world)


async def _streaming(world: Worksite) -> None:
    """Wait until the standby follows: until then nothing that is written would survive the writer."""
    ready = world.ready[f"agent-{TARGET}"]
    deadline = asyncio.get_running_loop().time() + 15
    while asyncio.get_running_loop().time() < deadline:
        reply = await fetch("GET", f"http://{ready['host']}:{ready['admin_port']}/status", timeout_s=3)
        if reply.json().get("upstream_connected"):
            return
        await asyncio.sleep(0.05)
    hint = f"cat {world.folders.log(f'postgres-{TARGET}')}"
    raise DrkitError(f"the standby in {TARGET} does not follow the writer", hint=hint, code="E0805")


async def _agent(world: Worksite, region: str, make: dict[str, Any]) -> None:
    witness = world.endpoint("witness")
    reach = await world.route(f"witness-{region}", f"witness-{region}", witness, address(region, "witness"))
    assert world.settings.sockets is not None
    name = f"agent-{region}"
    config = {
        "site": region,
        "host": address(region, "agent"),
        "port": world.doors[region].port,
        "admin_port": world.agents[region].port,
        "binaries": str(world.binaries),
        "data": str(world.folders.data(region)),
        "sockets": world.settings.sockets[region],
        "log": str(world.folders.log(f"postgres-{region}")),
        "state": str(world.folders.state(f"{name}.json")),
        "witness": reach.url,
        "term_s": world.settings.term_s,
        "margin_s": world.settings.margin_s,
        "superuser_password_file": str(world.folders.secret("superuser")),
        "replicator_password_file": str(world.folders.secret("replicator")),
        "make": make,
    }
    await world.start(name, region, f"{PARTS}.agent", config)


async def _replicate_synchronously(world: Worksite) -> None:
    from drkit.sandbox.control import Control

    await Control(world.supervisor).replicate("sync")
