"""One use of every fault, and look-alikes of its effect: what could be taken for a fault and is none, or for its heal.

A heal is done when its fault is seen to be gone, so the same table serves both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Example:
    """A fault, what is seen while it is injected, and what is seen of targets that are not, or not quite."""

    params: dict[str, Any]
    injected: dict[str, Any]
    healed: dict[str, Any]
    neither: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Observations in which it is neither injected nor healed, by what they are."""


FAULTS: dict[str, Example] = {
    "host.process-pause": Example(
        {"host": "app-1", "service": "app", "lease_s": 60.0},
        injected={"processes": 3, "stopped": 3}, healed={"processes": 3, "stopped": 0},
        neither={"one still runs": {"processes": 3, "stopped": 2}},
    ),
    "region.outage": Example(
        {"site": "east"},
        injected={"parts": 5, "running": 0, "links": 3, "links_cut": 3, "outage": True},
        healed={"parts": 5, "running": 5, "links": 3, "links_cut": 0, "outage": False},
        neither={
            "a link carries": {"parts": 5, "running": 0, "links": 3, "links_cut": 2, "outage": True},
            "a part is not back": {"parts": 5, "running": 4, "links": 3, "links_cut": 0, "outage": False},
        },
    ),
}  # fmt: skip

#: One use of every probe that only faults use.
LOOKS: dict[str, list[dict[str, Any]]] = {
    "host.faults": [{}],
    "host.inventory": [{}, {"site": "west", "role": "app"}],
    "host.processes": [{"host": "app-1", "service": "app"}],
    "sandbox.faults": [{}],
}
