"""host.connection-reset: connections to some ports are refused, and those that stand are torn down."""

from __future__ import annotations

from drkit.chaos.faults._traffic import PortFault, Traffic, holds, to_ports, traffic
from drkit.chaos.onhost import IN_KERNEL, Recipe, host_fault
from drkit.model.observation import State


class ConnectionReset(PortFault):
    """Which ports refuse."""


@host_fault("host.connection-reset", observe=traffic, needs="netns", lease=IN_KERNEL)
def reset(p: ConnectionReset) -> Recipe:
    """Answer what goes to these TCP ports with a reset, at the host and elsewhere, as when nothing listens there."""
    return to_ports(p.ports, "reject with tcp reset", protocols=("tcp",))


@reset.check
def refused(p: ConnectionReset, now: Traffic) -> State:
    """All of them refuse."""
    return holds(reset.name, p, now)
