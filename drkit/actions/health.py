"""Internal health of the side entered, before users come: servers, instances, targets, errors."""

from __future__ import annotations

from typing import Any

from drkit.actions.aws_ecr import live_release
from drkit.actions.aws_elb import Balancer
from drkit.actions.aws_elb import state as balancer_state
from drkit.actions.http import Target, Visitor
from drkit.actions.service import hosts_of
from drkit.catalog import probe
from drkit.context import Context
from drkit.errors import Unobservable
from drkit.model.observation import Observation
from drkit.model.params import Params, SiteName
from drkit.providers.http import Http


class Inside(Params):
    """What must be healthy."""

    site: SiteName = "target"
    """Side that is entered."""
    role: str
    """Role of the hosts behind the entry."""
    release: str
    """SSM parameter with the live release, which every server must run."""
    balancer: str
    """Load balancer, target group and web ACL."""
    group: str
    """Auto scaling group behind it."""
    size: int
    """Instances that must be healthy."""
    requests: int = 10
    """Requests sent to the entry to see the error rate."""


class Healthy(Observation):
    """What was seen. `ok`: nothing is wrong."""

    ok: bool
    wrong: list[str]
    """What is wrong, a sentence each."""
    servers: int
    servers_healthy: int
    instances_healthy: int
    forwards: bool
    requests: int
    errors: int


@probe("health.internal")
async def internal(ctx: Context, p: Inside) -> Healthy:
    """Ask entry, servers, load balancer and application; send some reads through the entry."""
    wrong: list[str] = []
    live = await live_release(ctx, p.site, p.release)
    entry = await _entry(ctx, p)
    servers = len(hosts_of(ctx, p.site, p.role))
    for target in entry["targets"]:
        name = f"{target['host']}:{target['port']}"
        if not target["healthy"]:
            wrong.append(f"{name} is not healthy: {target['reason']}")
        elif target["release"] != live["sha256"]:
            wrong.append(f"{name} runs {target['release']}, not the live release")
        elif not (target["database"] or {}).get("writable"):
            wrong.append(f"{name} cannot write to its database")
    if entry["healthy"] < servers:
        wrong.append(f"{entry['healthy']} of {servers} servers are healthy")
    if entry["maintenance"]:
        wrong.append("the entry is in maintenance")
    balancer = await balancer_state(ctx, Balancer(site=p.site, name=p.balancer, group=p.group))
    serving = len(set(balancer.instances) & set(balancer.healthy))
    if serving < p.size:
        wrong.append(f"{serving} of {p.size} instances are healthy")
    if not balancer.forwards:
        wrong.append("the load balancer does not forward")
    errors = await _errors(ctx, p)
    if errors:
        wrong.append(f"{errors} of {p.requests} requests failed")
    return Healthy(
        ok=not wrong,
        wrong=wrong,
        servers=servers,
        servers_healthy=entry["healthy"],
        instances_healthy=serving,
        forwards=balancer.forwards,
        requests=p.requests,
        errors=errors,
    )


async def _entry(ctx: Context, p: Inside) -> dict[str, Any]:
    admin = ctx.site(p.site).edge_admin
    if admin is None:
        raise Unobservable(f"The entry of {p.site} does not say how its servers are.")
    status: dict[str, Any] = (await ctx.use(Http).request("GET", f"{admin}/_edge/status")).json()
    return status


async def _errors(ctx: Context, p: Inside) -> int:
    visitor = Visitor(ctx, Target(pin=p.site))
    errors = 0
    for number in range(p.requests):
        try:
            answer = await visitor.ask("GET", "/catalog" if number % 2 else "/healthz")
        except Unobservable:
            errors += 1
            continue
        errors += not 200 <= answer.status < 300
    return errors
