"""Outages that end by themselves: the supervisor, which outlives drkit, keeps the lease of the sandbox's faults."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Lapse:
    """An outage with its end. `meta` says whose it is and how it is healed; None: nobody gave it an end."""

    meta: dict[str, Any] | None = None
    until: float | None = None
    """On `time.monotonic()`."""
    timer: asyncio.Task[None] | None = field(default=None, repr=False)

    def shown(self) -> dict[str, Any] | None:
        """As `GET /faults` tells it; None for one that is no fault of anybody's."""
        if self.meta is None:
            return None
        left = None if self.until is None else self.until - time.monotonic()
        return {"state": "injected", "expires_in_s": left, **self.meta}


class Lapses(dict[str, Lapse]):
    """Outages by region."""

    def begin(self, region: str, lease_s: float | None, meta: dict[str, Any] | None, end: End) -> None:
        """A region is about to go dark. From now on `end` is called when the lease is over, whatever else happens."""
        self.over(region)
        lapse = self[region] = Lapse(meta)
        if lease_s is not None:
            lapse.until = time.monotonic() + lease_s
            lapse.timer = asyncio.create_task(_ends(region, lease_s, end))

    def over(self, region: str) -> None:
        """It is back, by whoever's doing."""
        lapse = self.pop(region, None)
        if lapse is not None and lapse.timer is not None and lapse.timer is not asyncio.current_task():
            lapse.timer.cancel()


End = Callable[[str], Awaitable[Any]]


async def _ends(region: str, lease_s: float, end: End) -> None:
    await asyncio.sleep(lease_s)
    await end(region)
