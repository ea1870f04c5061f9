"""host.port-blackhole: what is sent to some ports is never answered."""

from __future__ import annotations

from drkit.chaos.faults._traffic import PortFault, Traffic, holds, to_ports, traffic
from drkit.chaos.onhost import IN_KERNEL, Recipe, host_fault
from drkit.model.observation import State


class PortBlackhole(PortFault):
    """Which ports answer nobody."""


@host_fault("host.port-blackhole", observe=traffic, needs="netns", lease=IN_KERNEL)
def blackhole(p: PortBlackhole) -> Recipe:
    """Drop what comes to these ports of the host and what it sends to them elsewhere: callers wait, until they give up.

    So it breaks a service of the host and a dependency of the host alike.
    """
    return to_ports(p.ports, "drop")


@blackhole.check
def swallowed(p: PortBlackhole, now: Traffic) -> State:
    """All of them answer nobody."""
    return holds(blackhole.name, p, now)
