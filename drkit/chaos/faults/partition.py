"""host.partition: a host and some others do not reach each other."""

from __future__ import annotations

from drkit.chaos.faults._traffic import PeerFault, Traffic, holds, to_peers, traffic
from drkit.chaos.onhost import IN_KERNEL, Recipe, host_fault
from drkit.model.observation import State


class Partition(PeerFault):
    """Who is cut off."""


@host_fault("host.partition", observe=traffic, needs="netns", lease=IN_KERNEL)
def partition(p: Partition) -> Recipe:
    """Drop every packet between a host and its peers, both ways, connections that stand included: nobody answers."""
    return to_peers(p, "drop")


@partition.check
def parted(p: Partition, now: Traffic) -> State:
    """All of them are cut off."""
    return holds(partition.name, p, now)
