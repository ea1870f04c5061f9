"""host.dns-failure: a host resolves no names."""

from __future__ import annotations

from drkit.chaos.faults._traffic import Traffic, to_ports, traffic
from drkit.chaos.onhost import IN_KERNEL, HostFault, Recipe, host_fault
from drkit.model.faults import fault_key
from drkit.model.observation import State


class DnsFailure(HostFault):
    """Which host resolves nothing."""


@host_fault("host.dns-failure", observe=traffic, needs="netns", lease=IN_KERNEL)
def mute(p: DnsFailure) -> Recipe:
    """Drop what a host sends to any name server (port 53): names that it has not kept are looked up in vain.

    A resolver that asks by TLS or HTTPS is not reached by this.
    """
    return to_ports([53], "drop")


@mute.check
def muted(p: DnsFailure, now: Traffic) -> State:
    """Port 53 answers nobody."""
    return State.HOLDS if now.members(fault_key(mute.name, p)) == 1 else State.ABSENT
