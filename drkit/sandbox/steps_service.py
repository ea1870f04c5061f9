"""Steps that build what users use: edges, servers with the shop on them, and the prober that measures both."""

from __future__ import annotations

import asyncio
from typing import Any

from drkit.errors import DrkitError
from drkit.sandbox import furnishing, schema
from drkit.sandbox.layout import (
    ONPREM,
    OUTSIDE,
    REGIONS,
    SERVICE,
    SOURCE,
    SSH_USER,
    TARGET,
    WINDOW_S,
    address,
    hosts,
)
from drkit.sandbox.links import Endpoint
from drkit.sandbox.parts._aio import fetch
from drkit.sandbox.worksite import PARTS, Worksite, new_key, onprem_end, place, write, write_text


async def edges(world: Worksite) -> None:
    """One edge a region; users reach both on the same port, because a name has addresses and no ports."""
    async with asyncio.TaskGroup() as group:
        for region in REGIONS:
            group.create_task(_edge(world, region))
    for _ in range(50):
        first = await _open_users(world, SOURCE, 0)
        try:
            await _open_users(world, TARGET, first.port)
            break
        except OSError:  # taken over there: look for another one on both
            world.supervisor.links[f"users-{SOURCE}"].close_route(first)
    else:
        raise DrkitError("no port is free on the entrances of both regions", code="E0805")
    for region in REGIONS:
        edge = world.endpoint(f"edge-{region}")
        await world.route(f"onprem-{region}", f"onprem-{region}", edge, onprem_end(region))
        admin = Endpoint(edge.host, world.ready[f"edge-{region}"]["admin_port"])
        await world.route(f"admin-{region}", f"admin-{region}-edge", admin, address(region, "admin-link"))


async def _edge(world: Worksite, region: str) -> None:
    targets = world.folders.state(f"edge-{region}.json")
    write(targets, {"targets": [], "listener": None})
    config = {
        "region": region,
        "host": address(region, "edge"),
        "targets": str(targets),
        "maintenance": str(world.folders.state(f"maintenance-{region}")),
    }
    await world.start(f"edge-{region}", region, f"{PARTS}.edge", config)


async def _open_users(world: Worksite, region: str, port: int) -> Endpoint:
    edge = world.endpoint(f"edge-{region}")
    return await world.route(f"users-{region}", f"users-{region}", edge, address(region, "users"), port)


async def hosts_with_shop(world: Worksite) -> None:
    """All servers, each with its releases and its configuration; the shop runs in the source."""
    private, public = await asyncio.to_thread(new_key)
    write_text(world.folders.secret("operator_key"), private)
    batch = world.secret("batch")
    cloud = {region: found["url"] for region, found in world.ready["aws"]["regions"].items()}
    async with asyncio.TaskGroup() as group:
        for region in REGIONS:
            for number, name in enumerate(hosts(region)):
                world.apps[name] = world.supervisor.reserve(address(region, "host", number))
                door = world.doors[region]
                furniture = furnishing.app_host(name, region, world.apps[name], door, cloud[region], batch)
                group.create_task(_host(world, name, region, number, public, furniture))
        for number, name in enumerate(hosts(ONPREM)):
            furniture = furnishing.onprem_host(
                name, world.routes[f"onprem-{SOURCE}-database"], batch, world.secret("replicator"), world.binaries
            )
            group.create_task(_host(world, name, ONPREM, number, public, furniture))


async def _host(world: Worksite, name: str, site: str, number: int, public: str, furniture: dict[str, Any]) -> None:
    config = {
        "name": name,
        "address": address(site, "host", number),
        "port": 0,
        "folder": str(world.folders.host(name)),
        "user": SSH_USER,
        "authorized_keys": [public],
        "env": furnishing.marks(world.folders.world, site, name),
        **furniture,
    }
    ready = await world.start(name, site, f"{PARTS}.host", config)
    for done in ready["boot"]:
        if done["exit"] != 0:
            raise DrkitError(f"{name}: {done['command']} ended with {done['exit']}: {done['output']}", code="E0805")
    ssh = Endpoint(ready["address"], ready["port"])
    await world.route(f"admin-{site}", f"ssh-{name}", ssh, address(site, "admin-link"))


async def targets(world: Worksite) -> None:
    """Tell each edge which servers stand behind it."""
    for region in REGIONS:
        places = [place(world.apps[name]) for name in hosts(region)]
        write(world.folders.state(f"edge-{region}.json"), {"targets": places, "listener": None})


async def service(world: Worksite) -> None:
    """Wait until a user is served by name: measuring a world that is still starting would show an outage."""
    deadline = asyncio.get_running_loop().time() + 20
    while (why := await _why_not_served(world)) is not None:
        if asyncio.get_running_loop().time() > deadline:
            hint = f"cat {world.folders.host(hosts(SOURCE)[0])}/root/var/log/order-app.log"
            raise DrkitError(f"the shop is not served: {why}", hint=hint, code="E0805")
        await asyncio.sleep(0.1)


async def _why_not_served(world: Worksite) -> str | None:
    import dns.asyncquery
    import dns.exception
    import dns.message

    resolver, entrance = world.ready["names"]["resolver"], world.routes[f"users-{SOURCE}"]
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


async def prober(world: Worksite) -> None:
    """Measure from now on what users see."""
    resolver = world.ready["names"]["resolver"]
    servers = [{"site": region, "address": place(world.routes[f"users-{region}-database"])} for region in REGIONS]
    config = {
        "folder": str(world.folders.readings),
        "hostname": SERVICE,
        "port": world.routes[f"users-{SOURCE}"].port,
        "resolvers": [{"host": resolver["address"], "port": resolver["port"]}],
        "window_s": WINDOW_S,
        "canary": {
            "servers": servers,
            "dbname": schema.DATABASE,
            "user": "canary",
            "password_file": str(world.folders.secret("canary")),
        },
    }
    await world.start("prober", OUTSIDE, "drkit.measure.prober", config)
