"""What can be broken of a world that is less than a region: a zone's servers die, a dependency's link carries nothing.

The supervisor, which outlives drkit, keeps the lease: it runs before anything breaks. A region that goes dark takes its
zones and links with it; what was broken here stays so when only the region is restored, until its own lease is over.
"""

from __future__ import annotations

import asyncio
from typing import Any

from drkit.errors import DrkitError
from drkit.sandbox.lapses import Lapses
from drkit.sandbox.layout import REGIONS, zones
from drkit.sandbox.processes import Process, kill_all, of_world, wait_gone
from drkit.sandbox.supervisor import Supervisor


class Breaking:
    """Zones and links of one world that are down on purpose."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self.zones = Lapses()
        self.links = Lapses()
        self._booting = asyncio.Lock()

    def faults(self) -> list[dict[str, Any]]:
        """Those that somebody injected, with their ends."""
        shown = [lapse.shown() for lapses in (self.zones, self.links) for lapse in lapses.values()]
        return [one for one in shown if one is not None]

    def dark(self) -> set[str]:
        """Servers in zones that are down."""
        return {host for zone in self.zones for host in _hosts(zone)}

    async def zone_down(self, zone: str, lease_s: float | None, meta: dict[str, Any] | None) -> dict[str, Any]:
        """Kill every process of a zone's servers. DrkitError for a zone that is not there."""
        hosts = _hosts(zone)
        if zone not in self.zones:  # asked twice, it ends when it was to end
            self.zones.begin(zone, lease_s, meta, self.zone_back)
        killed = [process for host in hosts for process in self._kill(host)]
        await asyncio.to_thread(wait_gone, killed, within_s=5.0)
        return {"zone": zone, "killed": len(killed)}

    async def zone_back(self, zone: str) -> dict[str, Any]:
        """Its servers boot as they are configured to, unless their region is dark."""
        hosts, supervisor = _hosts(zone), self._supervisor
        self.zones.over(zone)
        async with self._booting:  # its lease and somebody who heals it may come at once
            names = [host for host in hosts if supervisor.parts[host].site not in supervisor.outages]
            for name in names:
                await supervisor.restart(name)
        return {"zone": zone, "started": names}

    async def link_down(self, name: str, lease_s: float | None, meta: dict[str, Any] | None) -> dict[str, Any]:
        """Cut a link. DrkitError for one that is not there, or that drkit needs."""
        link = self._supervisor.link(name)
        if name.startswith("admin-"):
            raise DrkitError(f"{name} is the way by which drkit reaches the region: it is never cut")
        if name not in self.links:
            self.links.begin(name, lease_s, meta, self.link_back)
        link.cut()
        return {"link": name, "cut": link.is_cut}

    async def link_back(self, name: str) -> dict[str, Any]:
        """It carries again, unless it ends in a region that is dark."""
        supervisor = self._supervisor
        link = supervisor.link(name)
        self.links.over(name)
        if not any(link in supervisor.links_of(region) for region in supervisor.outages):
            await link.mend()
        return {"link": name, "cut": link.is_cut}

    def _kill(self, host: str) -> list[Process]:
        """Every process of a server; whoever was forked while we looked is found in the next round."""
        part, folder = self._supervisor.parts[host], self._supervisor.folders.world
        roots = [part.process.pid] if part.running else []
        killed: dict[Process, None] = {}
        for _ in range(10):
            more = kill_all(of_world(folder, part.site, roots, host=host))
            if not more:
                break
            killed |= dict.fromkeys(more)
        return list(killed)


def _hosts(zone: str) -> tuple[str, ...]:
    known = {name: hosts for region in REGIONS for name, hosts in zones(region).items()}
    if zone not in known:
        raise DrkitError(f"there is no zone {zone} (known: {', '.join(known)})")
    return known[zone]
