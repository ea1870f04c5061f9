"""Faults of a host's network: a table of its packet filter, whose members the kernel forgets with the lease.

Every such fault is a set of peers or ports, each with the lease as its timeout, and what becomes of packets that match.
The way by which the host is reached for healing is let through first; if it is not known, nothing is injected.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from ipaddress import ip_network
from typing import Annotated, Any, Final, Literal

from annotated_types import Interval, MinLen
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from drkit.catalog import probe
from drkit.chaos.faults._kept import LIST_KEPT, AllKept, listed, said
from drkit.chaos.onhost import HostFault, OnHost, Recipe
from drkit.context import Context
from drkit.model.faults import fault_key
from drkit.model.observation import State


def _network(text: str) -> str:
    return str(ip_network(text))


Peer = Annotated[str, AfterValidator(_network)]


class PeerFault(HostFault):
    """Base of the parameters of faults between a host and others."""

    peers: Annotated[tuple[Peer, ...], MinLen(1), Field(examples=[["10.0.0.5"]])]
    """Addresses or networks (`10.0.0.5`, `10.2.0.0/16`) at the other end."""


class PortFault(HostFault):
    """Base of the parameters of faults of ports."""

    ports: Annotated[tuple[Annotated[int, Interval(ge=1, le=65535)], ...], MinLen(1), Field(examples=[[5432]])]
    """Ports: the host's own, and those of others that it connects to."""


class Table(BaseModel):
    """What a fault has in the packet filter."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    members: int
    """Peers or ports that the kernel still holds; 0: it has let them all go."""


class Traffic(AllKept):
    """What faults do to a host's network, as its kernel says, and what they keep running."""

    tables: tuple[Table, ...] = ()
    shapers: tuple[str, ...] = ()
    """Handles of queues that delay or limit (`dabc:`)."""

    def members(self, key: str) -> int:
        """Peers or ports of the fault `key`."""
        return next((table.members for table in self.tables if table.key == key), 0)


_PREFIX: Final = "drkit_"
_LOOK = f"""{LIST_KEPT}
if command -v tc >/dev/null; then
  tc qdisc show | sed -n 's/^qdisc htb \\(d[0-9a-f]*:\\) .*/shaper \\1/p'
fi
command -v nft >/dev/null || exit 0
nft list tables | sed -n 's/^table inet \\({_PREFIX}.*\\)$/\\1/p' | while read -r table; do
  nft -j list table inet "$table" 2>/dev/null || true # it is gone meanwhile
done"""


@probe("host.traffic")
async def traffic(ctx: Context, p: OnHost) -> Traffic:
    """What faults drop, refuse, delay or limit of a host's packets."""
    output = await said(ctx, p, _LOOK)
    lines = output.splitlines()
    return Traffic(
        answered_by=p.host, kept=listed(output),
        tables=tuple(_table(json.loads(line)["nftables"]) for line in lines if line.startswith("{")),
        shapers=tuple(line.split()[1] for line in lines if line.startswith("shaper ")),
    )  # fmt: skip


def _table(listed: list[dict[str, Any]]) -> Table:
    name = next(one["table"]["name"] for one in listed if "table" in one)
    return Table(
        key=name.removeprefix(_PREFIX), members=sum(len(one["set"].get("elem", ())) for one in listed if "set" in one)
    )


def holds(name: str, p: PeerFault | PortFault, now: Traffic) -> State:
    """Whether the kernel still holds all that the fault is about."""
    found = now.members(fault_key(name, p))
    meant = len(p.peers if isinstance(p, PeerFault) else p.ports)
    if found == 0:
        return State.ABSENT
    return State.HOLDS if found == meant else State.IN_PROGRESS


def to_peers(p: PeerFault, verdict: str, *, ways: Sequence[Literal["in", "out"]] = ("in", "out")) -> Recipe:
    """What becomes of packets between the host and the peers."""
    sets, rules = "", {"in": "", "out": ""}
    for family, kind, version in (("ip", "ipv4_addr", 4), ("ip6", "ipv6_addr", 6)):
        peers = [peer for peer in p.peers if ip_network(peer).version == version]
        if peers:
            sets += set_of(f"peers{version}", kind, peers, interval=True)
            for way in ways:
                end = {"in": "saddr", "out": "daddr"}[way]
                rules[way] += f"{family} {end} @peers{version} {verdict}\n"
    return Recipe(table_of(sets, rules["in"], rules["out"]), REVERT, starts=False)


def to_ports(ports: Sequence[int], verdict: str, *, protocols: Sequence[str] = ("tcp", "udp")) -> Recipe:
    """What becomes of packets to these ports, whoever has them: the host, or those that it connects to."""
    rules = "".join(f"{protocol} dport @ports {verdict}\n" for protocol in protocols)
    return Recipe(
        table_of(set_of("ports", "inet_service", [str(port) for port in ports]), rules, rules), REVERT, starts=False
    )


def set_of(name: str, kind: str, members: Sequence[str], *, interval: bool = False) -> str:
    """A set whose members the kernel forgets when the lease is over."""
    flags = "interval, timeout" if interval else "timeout"
    listed = ", ".join(f"{member} timeout ${{LEFT_MS}}ms" for member in members)
    return f"set {name} {{ type {kind}; flags {flags}; elements = {{ {listed} }}; }}\n"


TABLE: Final = f"table={_PREFIX}${{FAULT##*/}}\n"

# A host may say that its SSH server is out of its filter's reach.
_WAY: Final = """if [ -n "${DRKIT_HOST_OUTSIDE:-}" ]; then let_in= let_out=
else
  set -- ${SSH_CONNECTION:-}
  [ $# -eq 4 ] || { echo "the way to the SSH server is not known (no SSH_CONNECTION): it might be cut"; exit 1; }
  let_in="tcp dport $4 accept" let_out="tcp sport $4 accept"
fi
"""


def table_of(sets: str, incoming: str, outgoing: str, more: str = "") -> str:
    """Inject: the fault's table with its sets and rules, all or nothing; `more`: further chains."""
    return f"""{TABLE}{_WAY}nft -f - <<END || exit 1
table inet $table {{
{sets}chain incoming {{ type filter hook input priority -10
$let_in
{incoming}}}
chain outgoing {{ type filter hook output priority -10
$let_out
{outgoing}}}
{more}}}
END
"""


REVERT: Final = f"""{TABLE}! nft list table inet "$table" >/dev/null 2>&1 || nft delete table inet "$table" || exit 1
"""
