"""Sites whose servers, databases and agents answer nobody for a while, and servers that let nobody log in.

Users are served all the while: only the way by which drkit reaches a site is taken. The supervisor keeps the lease.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from drkit.errors import DrkitError
from drkit.sandbox.lapses import Lapses
from drkit.sandbox.layout import ONPREM, REGIONS, address, hosts
from drkit.sandbox.links import Endpoint, Link
from drkit.sandbox.parts.host import KEYS, LOGINS
from drkit.sandbox.supervisor import Supervisor

SITES = (*REGIONS, ONPREM)
_WITHHELD = ".withheld"


class Silence:
    """By site. Whoever connects to it, or is connected, is reset."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._lapses = Lapses()

    def begin(self, site: str, lease_s: float | None, meta: dict[str, Any]) -> None:
        """From now on. Begun twice it ends when it was to end. DrkitError for a site that is not there."""
        link = _way_to(self._supervisor, site)
        if site not in self._lapses:
            self._lapses.begin(site, lease_s, meta, self.over)
            link.turned_away = 0
        link.silence(frozenset(route.upstream for route in link.routes if route.upstream.host != _edge(site)))

    async def over(self, site: str) -> None:
        """They answer again."""
        self._lapses.over(site)
        _way_to(self._supervisor, site).silence(frozenset())

    def shown(self) -> list[dict[str, Any]]:
        """Those that last; `met`: connections that were turned away."""
        return [
            {"site": site, "met": _way_to(self._supervisor, site).turned_away, **(lapse.shown() or {})}
            for site, lapse in self._lapses.items()
        ]


class Logins:
    """By site. Its servers know no keys: who is logged in is thrown out, and nobody comes in."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._lapses = Lapses()
        self._before: dict[str, int] = {}

    def begin(self, site: str, lease_s: float | None, meta: dict[str, Any]) -> None:
        """From now on. Begun twice it ends when it was to end. DrkitError for a site that is not there."""
        link = _way_to(self._supervisor, site)
        if site not in self._lapses:
            self._before[site] = self._refused(site)
            self._lapses.begin(site, lease_s, meta, self.over)
        for name in hosts(site):
            keys = self._root(name) / KEYS
            withheld = keys.with_name(keys.name + _WITHHELD)
            if not withheld.exists():
                keys.rename(withheld)
            keys.write_text("")
        ready = [self._supervisor.parts[name].ready for name in hosts(site)]
        link.drop(frozenset(Endpoint(host["address"], host["port"]) for host in ready))

    async def over(self, site: str) -> None:
        """Whoever had a key has it again."""
        self._lapses.over(site)
        for name in hosts(site):
            keys = self._root(name) / KEYS
            withheld = keys.with_name(keys.name + _WITHHELD)
            if withheld.exists():
                withheld.replace(keys)

    def shown(self) -> list[dict[str, Any]]:
        """Those that last; `met`: logins that were refused."""
        return [
            {"site": site, "met": self._refused(site) - self._before[site], **(lapse.shown() or {})}
            for site, lapse in self._lapses.items()
        ]

    def _refused(self, site: str) -> int:
        logs = [self._root(name) / LOGINS for name in hosts(site)]
        return sum(len(log.read_text().splitlines()) for log in logs if log.exists())

    def _root(self, host: str) -> Path:
        return self._supervisor.folders.host(host) / "root"


def _way_to(supervisor: Supervisor, site: str) -> Link:
    if site not in SITES:
        raise DrkitError(f"there is no site {site} (known: {', '.join(SITES)})")
    return supervisor.link(f"admin-{site}")


def _edge(site: str) -> str | None:
    """Where users come in, which drkit steers by the same way."""
    return address(site, "edge") if site in REGIONS else None
