"""Links that are slow for a while, and then as slow as they were: the supervisor keeps the lease."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from drkit.errors import DrkitError
from drkit.sandbox.lapses import Lapses

if TYPE_CHECKING:
    from drkit.sandbox.links import Link


class Slowness:
    """What faults have made slow; `links` are those of the world."""

    def __init__(self, links: dict[str, Link]) -> None:
        self._links = links
        self._lapses = Lapses()
        self._delays_s: dict[str, tuple[float, float]] = {}
        """Before and since, by link."""

    def begin(self, name: str, delay_s: float, lease_s: float | None, meta: dict[str, Any]) -> None:
        """Make a link slow; its end is certain before it is. DrkitError if another fault has done so already."""
        if (lapse := self._lapses.get(name)) is not None:
            owner = lapse.meta or {}
            if (owner["run"], owner["step"]) == (meta["run"], meta["step"]):
                return  # asked twice, it ends when it was to end
            raise DrkitError(f"{name} is slow already, by {owner['step']} of run {owner['run']}")
        self._lapses.begin(name, lease_s, meta, self.over)
        self._delays_s[name] = (self._links[name].delay_s, delay_s)
        self._links[name].delay_s = delay_s

    async def over(self, name: str) -> None:
        """As before. A delay that somebody has set meanwhile is theirs, and stays."""
        if name not in self._lapses:
            return
        before_s, since_s = self._delays_s.pop(name)
        if self._links[name].delay_s == since_s:
            self._links[name].delay_s = before_s
        self._lapses.over(name)

    def shown(self, name: str) -> dict[str, Any] | None:
        """Whose fault makes this link slow, and until when; None: nobody's does."""
        lapse = self._lapses.get(name)
        return None if lapse is None else lapse.shown()
