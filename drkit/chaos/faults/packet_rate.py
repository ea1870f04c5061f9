"""host.packet-rate: more packets than so many a second are dropped."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Interval

from drkit.chaos.faults._traffic import PeerFault, Traffic, holds, to_peers, traffic
from drkit.chaos.onhost import IN_KERNEL, Recipe, host_fault
from drkit.model.observation import State


class PacketRate(PeerFault):
    """How many get through."""

    per_s: Annotated[int, Interval(ge=1, le=1_000_000)]
    """Packets a second, each way; what is above is dropped."""


@host_fault("host.packet-rate", observe=traffic, needs="netns", lease=IN_KERNEL)
def limit(p: PacketRate) -> Recipe:
    """Drop what exceeds a number of packets a second between a host and its peers, as an overloaded router does."""
    return to_peers(p, f"limit rate over {p.per_s}/second drop")


@limit.check
def limited(p: PacketRate, now: Traffic) -> State:
    """Packets of all of them are counted."""
    return holds(limit.name, p, now)
