"""host.bandwidth: a host sends slowly to some others."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge

from drkit.chaos.faults._queue import handle, queue, shaped
from drkit.chaos.faults._traffic import PeerFault, Traffic, traffic
from drkit.chaos.onhost import IN_KERNEL, Recipe, host_fault
from drkit.model.observation import State


class Bandwidth(PeerFault):
    """How slowly."""

    kbit_per_s: Annotated[int, Ge(8)]
    """So much is sent to all of them together."""


@host_fault("host.bandwidth", observe=traffic, needs="netns", lease=IN_KERNEL)
def narrow(p: Bandwidth) -> Recipe:
    """Limit what a host sends to its peers, as a thin or crowded line does; what it receives is not limited."""
    return queue(p, handle(narrow.name, p), f"{p.kbit_per_s}kbit")


@narrow.check
def narrowed(p: Bandwidth, now: Traffic) -> State:
    """The queue is there, and all of them go through it."""
    return shaped(narrow.name, p, now)
