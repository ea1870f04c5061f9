"""Steps that build what stands for AWS and for the world outside: API, routing controls, sinks, names, replication."""

from __future__ import annotations

from typing import Any

from drkit.sandbox import furnishing, schema
from drkit.sandbox.layout import OUTSIDE, REGIONS, SOURCE, STATE_BUCKET, TARGET, TTL_S, ZONE, address
from drkit.sandbox.worksite import PARTS, Worksite, place


async def aws(world: Worksite) -> None:
    """The AWS API: both regions' gateways in one process, outside of both."""
    config = {
        "regions": {region: {"address": address(region, "cloud"), "port": 0} for region in REGIONS},
        "admin": {"address": address(OUTSIDE, "cloud"), "port": 0},
        "calls": str(world.folders.state("aws-calls.jsonl")),
    }
    await world.start("aws", OUTSIDE, f"{PARTS}.aws", config)


async def routing(world: Worksite) -> None:
    """The routing controls' data plane, with an endpoint in each region and one outside."""
    config = {
        "endpoints": {site: {"address": address(site, "routing"), "port": 0} for site in (*REGIONS, OUTSIDE)},
        "admin": {"address": address(OUTSIDE, "admin"), "port": 0},
        "state": str(world.folders.state("routing.json")),
        "calls": str(world.folders.state("routing-calls.jsonl")),
        "regions": list(REGIONS),
        "on": SOURCE,
    }
    await world.start("routing", OUTSIDE, f"{PARTS}.routing", config)


async def sinks(world: Worksite) -> None:
    """Recorders for everything that tells people something."""
    config: dict[str, Any] = {
        role: {"address": address(OUTSIDE, "sinks"), "port": 0} for role in ("http", "smtp", "admin")
    }
    config["messages"] = str(world.folders.state("messages.jsonl"))
    await world.start("sinks", OUTSIDE, f"{PARTS}.sinks", config)


async def seed(world: Worksite) -> None:
    """Make what ReliableTech has in both regions. A job: it runs once and ends."""
    gateways = {region: found["url"] for region, found in world.ready["aws"]["regions"].items()}
    config = {
        "gateways": gateways,
        "source": SOURCE,
        "target": TARGET,
        "edges": {region: place(world.routes[f"users-{region}"]) for region in REGIONS},
        "databases": {region: place(world.doors[region]) for region in REGIONS},
        "database": {"name": schema.DATABASE, "user": "app", "password": world.secret("app")},
        "release": str(furnishing.SHOP_RELEASE),
        "zone": ZONE,
        "ttl_s": int(TTL_S),
        "sinks_url": world.ready["sinks"]["http"]["url"],
        "state_bucket": STATE_BUCKET,
    }
    await world.start("seed", OUTSIDE, "drkit.sandbox.seed", config)
    del world.supervisor.parts["seed"]  # a job, not a part: it has done its work


async def replicator(world: Worksite) -> None:
    """What copies objects and items from the source to the target."""
    source, target = (
        {"region": region, "url": world.ready["aws"]["regions"][region]["url"]} for region in (SOURCE, TARGET)
    )
    config = {
        "source": source,
        "target": target,
        "buckets": {f"reliabletech-uploads-{SOURCE}": f"reliabletech-uploads-{TARGET}"},
        "tables": {"reliabletech-sessions": "reliabletech-sessions"},
        "admin": {"address": address(OUTSIDE, "admin"), "port": 0},
    }
    await world.start("replicator", OUTSIDE, f"{PARTS}.replicator", config)


async def names(world: Worksite) -> None:
    """The zone's authority and the users' resolver."""
    gateways = [{"region": region, "url": world.ready["aws"]["regions"][region]["url"]} for region in REGIONS]
    config: dict[str, Any] = {
        "zone": ZONE,
        "gateways": gateways,
        "routing_state": str(world.folders.state("routing.json")),
    }
    for number, role in enumerate(("authority", "resolver", "admin")):
        config[role] = {"address": address(OUTSIDE, "names", number), "port": 0}
    await world.start("names", OUTSIDE, f"{PARTS}.dns", config)
