"""What ReliableTech has in both regions, made through the gateways: the source in production, the target asleep."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from drkit.sandbox import seed_compute, seed_data, seed_guard, seed_network
from drkit.sandbox.seed_base import Clients, World


def seed(config: Mapping[str, Any]) -> dict[str, Any]:
    """Create everything in the table above, in both regions at once; what was made, as JSON.

    Any botocore error is raised as it is: a half-seeded world is not a world.
    """
    world = World.of(config)
    clients = Clients(world.gateways)
    with ThreadPoolExecutor(max_workers=6, thread_name_prefix="seed") as pool:
        everywhere = {
            "roles": pool.submit(seed_guard.roles, clients, world),
            "names": pool.submit(seed_network.names, clients, world),
        }
        regions = {region: _region(pool, clients, world, region) for region in world.regions}
        made: dict[str, Any] = {name: future.result() for name, future in everywhere.items()}
        made["regions"] = {
            region: {name: future.result() for name, future in futures.items()} for region, futures in regions.items()
        }
    return made


def _region(pool: ThreadPoolExecutor, clients: Clients, world: World, region: str) -> dict[str, Future[Any]]:
    def submit(work: Callable[..., Any], *more: Any) -> Future[Any]:
        return pool.submit(work, clients, world, region, *more)

    return {
        "compute": submit(_compute),
        "buckets": submit(_buckets_and_watch),
        "tables": submit(seed_data.tables),
        "queues": submit(seed_data.queues),
        "keys": submit(seed_data.keys),
        "secrets": submit(seed_data.secrets),
        "containers": submit(seed_compute.containers),
        "files": pool.submit(seed_compute.files, clients, region),
        **({"cache": pool.submit(seed_compute.cache, clients, region)} if region == world.source else {}),
    }


def _compute(clients: Clients, world: World, region: str) -> dict[str, Any]:
    """What needs the network, in order."""
    certificate = seed_network.certificate(clients, world, region)
    net = seed_network.network(clients, world, region)
    machines = seed_compute.machines(clients, world, region, net)
    front = seed_network.balancer(clients, world, region, net, certificate)
    if region == world.source:
        seed_compute.attach(clients, region, front["target_group"])
    parameters = seed_data.parameters(clients, world, region, machines["images"])
    return {"certificate": certificate, **net, **machines, **front, "parameters": sorted(parameters)}


def _buckets_and_watch(clients: Clients, world: World, region: str) -> dict[str, Any]:
    """The audit trail needs its bucket."""
    buckets = seed_data.buckets(clients, world, region)
    return {**buckets, **seed_guard.watch(clients, world, region)}


def main() -> None:
    """`python -m drkit.sandbox.seed CONFIG.json`: seed, and print what was made as one JSON line."""
    gc.disable()  # a short life: loading the models of twenty services takes a quarter less
    print(json.dumps(seed(json.loads(Path(sys.argv[1]).read_text()))))


if __name__ == "__main__":
    main()
