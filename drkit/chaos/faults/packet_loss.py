"""host.packet-loss: some packets between a host and others get lost."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Interval

from drkit.chaos.faults._traffic import PeerFault, Traffic, holds, to_peers, traffic
from drkit.chaos.onhost import IN_KERNEL, Recipe, host_fault
from drkit.model.observation import State


class PacketLoss(PeerFault):
    """How many get lost."""

    percent: Annotated[int, Interval(ge=1, le=100)]
    """Share of the packets, each way."""


@host_fault("host.packet-loss", observe=traffic, needs="netns", lease=IN_KERNEL)
def lose(p: PacketLoss) -> Recipe:
    """Drop a random share of the packets between a host and its peers, as a bad cable or a full switch does."""
    return to_peers(p, f"numgen random mod 100 < {p.percent} drop")


@lose.check
def lossy(p: PacketLoss, now: Traffic) -> State:
    """Packets of all of them may be lost."""
    return holds(lose.name, p, now)
