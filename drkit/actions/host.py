"""Hosts as nodes: admitted to service only when proven fit."""

from __future__ import annotations

import json

from drkit.actions.service import hosts_of
from drkit.actions.together import fail_with, together
from drkit.catalog import action, probe
from drkit.context import Context
from drkit.errors import DrkitError, Refused, StepFailed, Unobservable, Unreachable
from drkit.model.environment import Host
from drkit.model.observation import Observation, State
from drkit.model.params import Params, SiteName, Use
from drkit.providers.ssh import Ssh

_NODE = "etc/drkit-node.json"


class Nodes(Params):
    """Hosts in a role on a site."""

    site: SiteName = "target"
    """Site of the hosts."""
    role: str
    """Their role."""
    service: str
    """Service that must be installed there."""


class Node(Observation):
    """One host. Everything but `reached` is as the host itself says."""

    host: str
    reached: bool
    itself: bool = False
    """It is the machine that was meant."""
    disk_free_mb: int = 0
    memory_free_mb: int = 0
    clock_skew_s: float | None = None
    installed: bool = False
    """Its service manager knows the service."""
    admitted: str | None = None
    """Token of the step that admitted it."""
    why: str | None = None


class NodesState(Observation):
    """All of them."""

    nodes: list[Node]
    fit: int


@probe("host.nodes")
async def nodes(ctx: Context, p: Nodes) -> NodesState:
    """Ask every host who it is, what room it has, what time it is, and whether the service is installed."""
    seen = await together(_node(ctx, host, p.service) for host in hosts_of(ctx, p.site, p.role))
    return NodesState(nodes=seen, fit=sum(_fit(node) for node in seen))


_LOOK = (
    "cat etc/machine-id; df -Pm . | tail -1 | tr -s ' ' | cut -d' ' -f4;"
    " sed -n 's/^MemAvailable: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo; date +%s.%N;"
    f' svc status "$1" >/dev/null 2>&1; echo $?; cat {_NODE} 2>/dev/null || echo "{{}}"'
)


async def _node(ctx: Context, host: Host, service: str) -> Node:
    try:
        asked = ctx.clock.wall()
        done = await ctx.use(Ssh).run(host.name, ["sh", "-c", _LOOK, "look", service], timeout_s=4)
        answered = ctx.clock.wall()
    except Unobservable as error:
        return Node(host=host.name, reached=False, why=error.message)
    try:
        machine_id, disk, memory, clock, status, note = done.output.splitlines()[:6]
        skew_s = max(0.0, asked - float(clock), float(clock) - answered)
        return Node(
            host=host.name,
            reached=True,
            itself=machine_id == host.machine_id,
            disk_free_mb=int(disk),
            memory_free_mb=int(memory) // 1024,
            clock_skew_s=round(skew_s, 3),
            installed=status in ("0", "3"),
            admitted=json.loads(note).get("admitted_by"),
            answered_by=machine_id,
        )
    except ValueError as error:
        return Node(host=host.name, reached=True, why=f"its answer makes no sense: {error}")


def _fit(node: Node, disk_mb: int = 0, memory_mb: int = 0, skew_s: float = 5.0) -> bool:
    room = node.disk_free_mb >= disk_mb and node.memory_free_mb >= memory_mb
    on_time = node.clock_skew_s is not None and node.clock_skew_s <= skew_s
    return node.reached and node.itself and node.installed and room and on_time


class Admit(Nodes):
    """Admit hosts to service."""

    disk_free_mb_min: int = 50
    """Free disk that each needs."""
    memory_free_mb_min: int = 50
    """Available memory that each needs."""
    clock_skew_s_max: float = 2.0
    """How far its clock may be from ours."""


@action("host.admit", observe=nodes, repeat="safe", unfenced=False, timeout_s=40)
async def admit(ctx: Context, p: Admit, before: NodesState) -> None:
    """Write on every host, once all are proven fit, that it may serve."""
    now = await nodes(ctx, p)  # what was so before the first attempt is no proof for a later one
    silent = [node.host for node in now.nodes if not node.reached]
    if silent:
        raise Unreachable(f"Nobody answers on {', '.join(silent)}; nothing was written.")
    unfit = [node.host for node in now.nodes if not _admissible(p, node)]
    if unfit:
        raise StepFailed(f"Not fit to serve: {', '.join(unfit)}.", world="untouched")
    note = json.dumps({"admitted_by": ctx.token, "run": ctx.run}).encode()
    await put_on_each(ctx, hosts_of(ctx, p.site, p.role), _NODE, {host.host: note for host in now.nodes})


def _admissible(p: Admit, node: Node) -> bool:
    return _fit(node, p.disk_free_mb_min, p.memory_free_mb_min, p.clock_skew_s_max)


@admit.check
def admitted(p: Admit, now: NodesState) -> State:
    """Every host is itself, fit, and admitted."""
    if not all(_admissible(p, node) for node in now.nodes):
        return State.UNKNOWN
    return State.HOLDS if all(node.admitted is not None for node in now.nodes) else State.ABSENT


@admit.undo
def left_admitted(p: Admit, before: NodesState, after: NodesState | None) -> Use | None:
    """Left: a note that a host was found fit; the next admission looks again."""
    return None


async def put_on_each(ctx: Context, hosts: list[Host], path: str, contents: dict[str, bytes]) -> None:
    """Replace a file on several hosts at once. Every failure is named."""
    failures: list[DrkitError] = []

    async def put(host: Host) -> None:
        token = f"{ctx.token}-{ctx.attempt}"
        try:
            await ctx.use(Ssh).put(host.name, path, contents[host.name], token=token, permit=ctx.permit)
        except (StepFailed, Unobservable, Refused) as error:
            failures.append(error)

    await together(put(host) for host in hosts)
    fail_with(failures, asked=len(hosts))
