"""The world's control API: HTTP on loopback, inside the supervisor.

GET  /status                             parts, links, outages
GET  /faults                             outages that somebody injected, with their ends
POST /outage      {region, lease_s?, meta?}  cut its links and kill its processes in one instant; it ends by itself
GET  /troubles                           what the AWS API does to some calls
POST /troubles/REGION     {...}          throttle calls or let them wait; ends by itself (`parts._trouble`)
POST /troubles/KEY/end    {}
POST /restore     {region}               mend the links, start its parts; a former primary stays fenced
POST /zones/ZONE/down     {lease_s, meta}  its servers die; it ends by itself (`breaking`)
POST /zones/ZONE/up       {}
POST /links/NAME/down     {lease_s, meta}  it is cut; it ends by itself
POST /links/NAME/up       {}
POST /links/NAME  {delay_s?, cut?, reset?}
POST /links/NAME/slow  {delay_s, lease_s, meta}  it ends by itself; `over` ends it before
GET  /silence, /logins                   sites that are shut, and how many `met` that
POST /silence/SITE  {lease_s, meta}      its servers, databases and agents answer nobody; it ends by itself
POST /silence/SITE/over   {}
POST /logins/SITE   {lease_s, meta}      its servers let nobody log in; it ends by itself
POST /logins/SITE/over    {}
POST /replication {mode: sync|async}
POST /kill        {part, signal?}        SIGKILL, SIGSTOP, SIGCONT or SIGTERM for one part
POST /down        {}

Whatever is changed may carry a `permit` (see `parts._holders`); 412: who sent it holds the environment no longer.
"""

from __future__ import annotations

import asyncio
import signal
from typing import Any

from drkit.errors import DrkitError
from drkit.sandbox.breaking import Breaking
from drkit.sandbox.layout import OUTSIDE, REGIONS, address, hosts, other, zones
from drkit.sandbox.parts._aio import Answer, Message, answer, fetch, serve
from drkit.sandbox.parts._holders import Holders, clock
from drkit.sandbox.processes import wait_gone
from drkit.sandbox.silence import Logins, Silence
from drkit.sandbox.supervisor import Supervisor

_SIGNALS = ("SIGKILL", "SIGSTOP", "SIGCONT", "SIGTERM")


async def serve_control(supervisor: Supervisor) -> str:
    """Start answering; the base URL."""
    control = Control(supervisor)
    host = address(OUTSIDE, "admin")
    _, port = await serve(control.handle, host)
    return f"http://{host}:{port}"


class Control:
    """What the API does, verb by verb."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor
        self._breaking = Breaking(supervisor)
        self._silence, self._logins = Silence(supervisor), Logins(supervisor)
        self._changing = asyncio.Lock()
        self._holders = Holders(supervisor.folders.state("control.holder"))

    async def handle(self, request: Message) -> Answer:
        """Dispatch; errors of ours become 409 with `error` and `hint`."""
        body = request.json()
        if not isinstance(body, dict):
            raise ValueError("expected a JSON object")
        if request.method != "GET" and (why := self._holders.why_not(body.get("permit"))) is not None:
            return answer({"error": why}, 412)
        try:
            match request.method, request.path.strip("/").split("/"):
                case "GET", ["status"]:
                    return answer(self.status())
                case "GET", ["faults"]:
                    return answer({"faults": await self.faults()})
                case "GET", ["troubles"]:
                    return answer({"troubles": await self._troubles("GET", "troubles")})
                case "POST", ["troubles", region] if region in REGIONS:
                    trouble = {key: value for key, value in body.items() if key != "permit"}
                    return answer({"troubles": await self._troubles("POST", f"regions/{region}/troubles", trouble)})
                case "POST", ["troubles", key, "end"]:
                    return answer({"troubles": await self._troubles("POST", f"troubles/{key}/end", {})})
                case "POST", ["outage"]:
                    return answer(await self.outage(_region(body), _lease_s(body), body.get("meta")))
                case "POST", ["restore"]:
                    return answer(await self.restore(_region(body)))
                case "POST", ["zones", zone, "down"]:
                    return answer(await self._breaking.zone_down(zone, _lease_s(body), body.get("meta")))
                case "POST", ["zones", zone, "up"]:
                    return answer(await self._breaking.zone_back(zone))
                case "POST", ["links", name, "down"]:
                    return answer(await self._breaking.link_down(name, _lease_s(body), body.get("meta")))
                case "POST", ["links", name, "up"]:
                    return answer(await self._breaking.link_back(name))
                case "POST", ["links", name]:
                    return answer(await self.change_link(name, body))
                case "POST", ["links", name, "slow" | "over" as verb]:
                    return answer(await self.slow_link(name, None if verb == "over" else body))
                case "GET", ["silence" | "logins" as what]:
                    return answer({"sites": self._shut(what).shown()})
                case "POST", ["silence" | "logins" as what, site, *over] if over in ([], ["over"]):
                    return answer(await self.shut_out(what, site, None if over else body))
                case "POST", ["replication"]:
                    return answer(await self.replicate(str(body.get("mode"))))
                case "POST", ["kill"]:
                    return answer(self.kill(str(body.get("part")), str(body.get("signal", "SIGKILL"))))
                case "POST", ["down"]:
                    self.supervisor.stopping.set()
                    return answer({"stopping": True})
        except DrkitError as error:
            return answer({"error": error.message, "hint": error.hint}, 409)
        return answer({"error": f"no {request.method} {request.path}"}, 404)

    def status(self) -> dict[str, Any]:
        """Everything that runs or should."""
        return {
            "parts": [
                {
                    "name": part.name,
                    "site": part.site,
                    "pid": part.process.pid,
                    "start": part.process.start,
                    "running": part.running,
                    "ready": part.ready,
                }
                for part in self.supervisor.parts.values()
            ],
            "links": [_shown(self.supervisor, name) for name in self.supervisor.links],
            "outages": sorted(self.supervisor.outages),
            "zones": {
                zone: [self.supervisor.parts[host].running for host in hosts if host in self.supervisor.parts]
                for region in REGIONS for zone, hosts in zones(region).items()
            },
            "down": sorted([*self._breaking.zones, *self._breaking.links]),
            "clock": clock(),
        }  # fmt: skip

    async def faults(self) -> list[dict[str, Any]]:
        """Outages and troubles that somebody injected, with their ends."""
        shown = [lapse.shown() for lapse in self.supervisor.outages.values()]
        troubles = await self._troubles("GET", "troubles")
        return [
            *(one for one in shown if one is not None),
            *self._breaking.faults(),
            *(
                {"state": "injected", "expires_in_s": one["expires_in_s"], **one["meta"]}
                for one in troubles
                if "fault" in one["meta"]
            ),
        ]

    async def _troubles(self, method: str, path: str, body: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Ask the AWS API about its troubles; they end with its process."""
        part = self.supervisor.parts.get("aws")
        if part is None or not part.running:
            return []
        try:
            reply = await fetch(method, f"{part.ready['admin']['url']}/{path}", body, timeout_s=5)
        except OSError as error:
            raise DrkitError(f"aws does not answer: {error or type(error).__name__}") from error
        if reply.status != 200:
            raise DrkitError(f"aws answered {reply.status} to {method} {path}: {reply.json().get('error')}")
        found: list[dict[str, Any]] = reply.json()["troubles"]
        return found

    async def outage(self, region: str, lease_s: float | None, meta: dict[str, Any] | None) -> dict[str, Any]:
        """Black the region out; then let its cloud endpoints, whose processes live outside, refuse.

        The lease runs before the first link is cut. Answers when the kernel has cleared away what was killed: on a busy
        machine that is not the same instant.
        """
        if region not in self.supervisor.outages:  # asked twice, it ends when it was to end
            self.supervisor.outages.begin(region, lease_s, meta, self.restore)
        killed = self.supervisor.black_out(region)
        await self._set_endpoints(region, "refuse")
        await asyncio.to_thread(wait_gone, killed, within_s=5.0)
        return {"region": region, "killed": len(killed)}

    async def restore(self, region: str) -> dict[str, Any]:
        """Power and network are back. What was killed starts; the database does not write until told to."""
        async with self._changing:
            supervisor = self.supervisor
            for link in supervisor.links_of(region):
                # The replication link ends in both regions: it stays cut while the other one is dark.
                held = link.name == "replication" and other(region) in supervisor.outages
                if not held and link.name not in self._breaking.links:
                    await link.mend()
            supervisor.outages.over(region)
            dark = self._breaking.dark()
            down = [part for part in supervisor.parts.values() if part.site == region and not part.running]
            names = [part.name for part in down if part.name not in dark]
            changes: dict[str, dict[str, Any]] = {
                f"agent-{region}": {"fenced": f"{region} came back after an outage"},
                **{name: {"boot": []} for name in hosts(region)},  # servers come back, services wait to be started
            }
            async with asyncio.TaskGroup() as group:
                for name in names:
                    group.create_task(supervisor.restart(name, **changes.get(name, {})))
            await self._set_endpoints(region, "ok")
            return {"region": region, "started": names}

    async def _set_endpoints(self, region: str, mode: str) -> None:
        """The region's AWS endpoint and its endpoint of the routing controls."""
        for name, path in (("aws", "regions"), ("routing", "endpoints")):
            part = self.supervisor.parts.get(name)
            if part is None or not part.running:
                continue
            url = f"{part.ready['admin']['url']}/{path}/{region}"
            try:
                reply = await fetch("POST", url, {"mode": mode}, timeout_s=5)
            except OSError as error:
                raise DrkitError(f"{name} does not answer: {error or type(error).__name__}") from error
            if reply.status != 200:
                raise DrkitError(f"{name} answered {reply.status} to mode {mode} for {region}")

    async def change_link(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """Set a link's delay, cut or mend it, reset what runs over it."""
        link = self.supervisor.link(name)
        if body.get("delay_s") is not None:
            link.delay_s = _delay_s(body)
        if body.get("cut") is True:
            link.cut()
        elif body.get("cut") is False:
            await link.mend()
        if body.get("reset"):
            link.reset()
        return _shown(self.supervisor, name)

    async def slow_link(self, name: str, fault: dict[str, Any] | None) -> dict[str, Any]:
        """Let a fault make a link slow until its lease is over; None: it is over now."""
        self.supervisor.link(name)
        if fault is None:
            await self.supervisor.slowness.over(name)
        else:
            self.supervisor.slowness.begin(name, _delay_s(fault), _lease_s(fault), dict(fault["meta"]))
        return _shown(self.supervisor, name)

    async def shut_out(self, what: str, site: str, fault: dict[str, Any] | None) -> dict[str, Any]:
        """Let a site's servers answer nobody, or let nobody log in, until the lease is over; None: it is over now."""
        shut = self._shut(what)
        if fault is None:
            await shut.over(site)
        else:
            shut.begin(site, _lease_s(fault), dict(fault["meta"]))
        return {"sites": shut.shown()}

    def _shut(self, what: str) -> Silence | Logins:
        return self._silence if what == "silence" else self._logins

    async def replicate(self, mode: str) -> dict[str, Any]:
        """Make the present writer wait for its standby, or not."""
        if mode not in ("sync", "async"):
            raise ValueError(f"mode is sync or async, not {mode!r}")
        for region in REGIONS:
            agent = self.supervisor.parts.get(f"agent-{region}")
            if agent is None or not agent.running:
                continue
            url = f"http://{agent.ready['host']}:{agent.ready['admin_port']}"
            try:
                if (await fetch("GET", f"{url}/status", timeout_s=3)).json()["role"] != "primary":
                    continue
                reply = await fetch("POST", f"{url}/replication", {"mode": mode, "standby": other(region)}, timeout_s=5)
            except OSError as error:
                raise DrkitError(f"agent-{region} does not answer: {error or type(error).__name__}") from error
            if reply.status != 200:
                raise DrkitError(f"agent-{region}: {reply.json().get('error')}")
            return {"mode": mode, "writer": region}
        raise DrkitError("there is no writer whose replication could be changed")

    def kill(self, name: str, number: str) -> dict[str, Any]:
        """Signal one part, and only it."""
        part = self.supervisor.parts.get(name)
        if part is None:
            raise DrkitError(f"there is no part {name} (known: {', '.join(sorted(self.supervisor.parts))})")
        if number not in _SIGNALS:
            raise ValueError(f"signal is one of {', '.join(_SIGNALS)}, not {number!r}")
        return {"part": name, "signal": number, "sent": part.process.send(signal.Signals[number])}


def _region(body: dict[str, Any]) -> str:
    region = body.get("region")
    if region not in REGIONS:
        raise ValueError(f"region is one of {', '.join(REGIONS)}, not {region!r}")
    return str(region)


def _lease_s(body: dict[str, Any]) -> float | None:
    """Seconds until it ends by itself; None: it does not."""
    lease_s = body.get("lease_s")
    if lease_s is not None and not (isinstance(lease_s, int | float) and lease_s > 0):
        raise ValueError(f"lease_s is a number of seconds, not {lease_s!r}")
    return lease_s


def _delay_s(body: dict[str, Any]) -> float:
    delay_s = body.get("delay_s")
    if not isinstance(delay_s, int | float) or not 0 <= delay_s <= 10:
        raise ValueError(f"delay_s is between 0 and 10 seconds, not {delay_s!r}")
    return float(delay_s)


def _shown(supervisor: Supervisor, name: str) -> dict[str, Any]:
    link = supervisor.links[name]
    return {
        "name": name,
        "delay_s": link.delay_s,
        "cut": link.is_cut,
        "slow": supervisor.slowness.shown(name),
        "connections": link.connections,
        "routes": [
            {"listen": f"{route.listen.host}:{route.listen.port}", "to": f"{route.upstream.host}:{route.upstream.port}"}
            for route in link.routes
        ],
    }
