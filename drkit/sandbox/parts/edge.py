"""The edge of one region: the HTTP load balancer that users connect to.

It sends each request to the next healthy target of its region, and says 503 when there is none. A target is healthy
while `GET /healthz` on it answers 200: asked four times a second; two failures in a row take it out, one success brings
it in. In maintenance, requests that write are answered 503 and reads go on.

Targets and the load balancer's listener stand in a file that is read again when it changes:
`{"targets": [{"host", "port"}], "listener": {"endpoint", "arn", "region"} | null}`. If a listener is named it is asked
for at the region's AWS endpoint every half second; while its default action does not forward, users get its fixed
answer. If the endpoint does not answer, what was last known stands: traffic needs no control plane.

Config: `{region, host, port, admin_port?, targets: FILE, maintenance: FILE}`.
Admin port: `GET /_edge/status` · `PUT /_edge/maintenance {"on": bool}` · `PUT /_edge/targets {"targets": [...]}`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from drkit.sandbox.parts import announce, die_with_parent, load_config
from drkit.sandbox.parts._aio import Answer, Message, answer, encode_request, fetch, read_message, serve
from drkit.sandbox.parts._holders import Holders, clock

CHECK_EVERY_S = 0.25
LISTENER_EVERY_S = 0.5
UPSTREAM_TIMEOUT_S = 8.0
FAILURES_OUT = 2
_READS = ("GET", "HEAD", "OPTIONS")
_HOP_BY_HOP = ("connection", "keep-alive", "transfer-encoding", "content-length", "upgrade", "te", "trailer")


@dataclass
class Target:
    """One server behind the edge, and what its health checks said."""

    host: str
    port: int
    healthy: bool = False
    failures: int = 0
    reason: str = "not checked yet"
    told: dict[str, Any] = field(default_factory=dict)

    def passed(self, told: dict[str, Any]) -> None:
        """A check succeeded."""
        self.healthy, self.failures, self.reason, self.told = True, 0, "ok", told

    def failed(self, reason: str) -> None:
        """A check, or a connection of a user's request, failed."""
        self.failures += 1
        self.reason = reason
        if self.failures >= FAILURES_OUT:
            self.healthy = False


class Edge:
    """The load balancer of one region."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.region: str = config["region"]
        self.targets: list[Target] = []
        self.listener: dict[str, str] | None = None
        self.fixed_answer: int | None = None
        """Status that the listener answers by itself; None while it forwards."""
        self.served = 0
        self._file = Path(config["targets"])
        self._seen: tuple[int, int] | None = None
        self._maintenance = Path(config["maintenance"])
        self._holders = Holders(self._maintenance.with_suffix(".holder"))
        self._next = 0

    # -- users -------------------------------------------------------------------------------------------------------

    async def handle(self, request: Message) -> Answer | None:
        """One user's request."""
        if self.fixed_answer is not None:
            return self._own(self.fixed_answer, "standby: the listener does not forward")
        if self._maintenance.exists() and request.method not in _READS:
            return self._own(503, "maintenance")
        tried: set[int] = set()
        while (target := self._pick(tried)) is not None:
            tried.add(id(target))
            try:
                async with asyncio.timeout(1.0):
                    reader, writer = await asyncio.open_connection(target.host, target.port)
            except OSError as error:  # nothing was sent yet: the next one may take it
                target.failed(_named(error))
                continue
            return await self._forward(request, reader, writer)
        return self._own(503, "no healthy target")

    def _pick(self, tried: set[int]) -> Target | None:
        healthy = [target for target in self.targets if target.healthy and id(target) not in tried]
        if not healthy:
            return None
        self._next += 1
        return healthy[self._next % len(healthy)]

    async def _forward(self, request: Message, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Answer:
        """Send on and wait. Once it was sent, a request is never tried elsewhere: it may have been carried out."""
        headers = {name: value for name, value in request.headers.items() if name not in _HOP_BY_HOP}
        try:
            async with asyncio.timeout(UPSTREAM_TIMEOUT_S):
                writer.write(
                    encode_request(request.method, request.first[1], {**headers, "connection": "close"}, request.body)
                )
                reply = await read_message(reader)
        except TimeoutError:
            return self._own(504, "the target did not answer in time")
        except (OSError, ValueError, asyncio.IncompleteReadError) as error:
            return self._own(502, f"the target failed: {_named(error)}")
        finally:
            writer.transport.abort()
        if reply is None:
            return self._own(502, "the target closed the connection")
        self.served += 1
        kept = {name: value for name, value in reply.headers.items() if name not in _HOP_BY_HOP}
        return Answer(reply.status, reply.body, {"X-Served-By": self.region, **_titled(kept)})

    def _own(self, status: int, reason: str) -> Answer:
        body = json.dumps({"error": reason, "region": self.region}) + "\n"
        return Answer(status, body.encode(), {"Content-Type": "application/json", "X-Served-By": self.region})

    # -- what it looks after -----------------------------------------------------------------------------------------

    async def look_after_targets(self) -> None:
        """Follow the file and check every target, for ever."""
        while True:
            started = time.monotonic()
            self.read_file()
            await asyncio.gather(*(self._check(target) for target in self.targets))
            await asyncio.sleep(max(0.02, started + CHECK_EVERY_S - time.monotonic()))

    def read_file(self) -> None:
        """Take over targets and listener if the file changed; what is known of a target that stays is kept."""
        try:
            stat = self._file.stat()
            seen = (stat.st_mtime_ns, stat.st_ino)
            if seen == self._seen:
                return
            found = json.loads(self._file.read_text())
        except (OSError, ValueError) as error:
            print(f"{self._file}: {error}; the former targets stand", file=sys.stderr, flush=True)
            return
        self._seen = seen
        known = {(target.host, target.port): target for target in self.targets}
        places = [(str(each["host"]), int(each["port"])) for each in found.get("targets", [])]
        self.targets = [known.get(place) or Target(*place) for place in places]
        self.listener = found.get("listener")
        if self.listener is None:
            self.fixed_answer = None

    async def _check(self, target: Target) -> None:
        try:
            reply = await fetch("GET", f"http://{target.host}:{target.port}/healthz", timeout_s=1.0)
            told = reply.json()
        except (OSError, ValueError) as error:
            target.failed(_named(error))
            return
        if reply.status == 200:
            target.passed(told)
        else:
            target.failed(f"{reply.status}: {told.get('error') if isinstance(told, dict) else told}")

    async def follow_listener(self) -> None:
        """Ask the control plane whether the listener forwards, for ever."""
        while True:
            if self.listener is not None:
                # Unreachable or unreadable: what was last known stands.
                with contextlib.suppress(OSError, ValueError, ElementTree.ParseError):
                    self.fixed_answer = await _fixed_answer(self.listener)
            await asyncio.sleep(LISTENER_EVERY_S)

    # -- administration ----------------------------------------------------------------------------------------------

    async def administer(self, request: Message) -> Answer:
        """The admin port."""
        match request.method, request.path:
            case "GET", "/_edge/status":
                return answer({**self.status(), "clock": clock()})
            case "PUT", "/_edge/maintenance":
                wanted = request.json()
                if (why := self._holders.why_not(wanted.get("permit"))) is not None:
                    return answer({"error": why}, 412)
                if wanted.get("on") is True:
                    self._maintenance.touch()
                else:
                    self._maintenance.unlink(missing_ok=True)
                return answer(self.status())
            case "PUT", "/_edge/targets":
                content = json.loads(self._file.read_text()) | {"targets": request.json()["targets"]}
                draft = self._file.with_suffix(".new")
                draft.write_text(json.dumps(content))
                draft.replace(self._file)
                self.read_file()
                return answer(self.status())
        return answer({"error": f"no {request.method} {request.path}"}, 404)

    def status(self) -> dict[str, Any]:
        """Targets with their health, maintenance, what the listener does."""
        return {
            "region": self.region,
            "maintenance": self._maintenance.exists(),
            "fixed_answer": self.fixed_answer,
            "healthy": sum(target.healthy for target in self.targets),
            "served": self.served,
            "targets": [
                {
                    "host": target.host,
                    "port": target.port,
                    "healthy": target.healthy,
                    "reason": target.reason,
                    "release": target.told.get("release"),
                    "database": target.told.get("database"),
                }
                for target in self.targets
            ],
        }


async def _fixed_answer(listener: dict[str, str]) -> int | None:
    """Status of the listener's fixed response; None if it forwards. Raises OSError or ValueError."""
    form = {"Action": "DescribeListeners", "Version": "2015-12-01", "ListenerArns.member.1": listener["arn"]}
    scope = f"{time.strftime('%Y%m%d', time.gmtime())}/{listener['region']}/elasticloadbalancing/aws4_request"
    reply = await fetch(
        "POST",
        listener["endpoint"],
        timeout_s=1.0,
        body=urlencode(form).encode(),
        headers={
            "Content-Type": "application/x-www-form-urlencoded",
            "Authorization": f"AWS4-HMAC-SHA256 Credential=edge/{scope}, SignedHeaders=host, Signature=0",
            "User-Agent": "sandbox-edge",
        },
    )
    if reply.status != 200:
        raise ValueError(f"DescribeListeners answered {reply.status}")
    found = {element.tag.rpartition("}")[2]: element.text for element in ElementTree.fromstring(reply.body).iter()}
    if found.get("Type") == "fixed-response":
        return int(found.get("StatusCode") or 503)
    return None


def _titled(headers: dict[str, str]) -> dict[str, str]:
    return {name.title(): value for name, value in headers.items()}


def _named(error: BaseException) -> str:
    return str(error) or type(error).__name__


async def run(config: dict[str, Any]) -> None:
    """Serve until SIGTERM."""
    edge = Edge(config)
    edge.read_file()
    _, port = await serve(edge.handle, config["host"], int(config.get("port", 0)))
    _, admin_port = await serve(edge.administer, config["host"], int(config.get("admin_port", 0)))
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    work = [asyncio.ensure_future(edge.look_after_targets()), asyncio.ensure_future(edge.follow_listener())]
    announce(host=config["host"], port=port, admin_port=admin_port)
    await asyncio.wait([asyncio.ensure_future(stop.wait()), *work], return_when=asyncio.FIRST_COMPLETED)
    for task in work:
        if task.done():
            task.result()


def main() -> None:
    """Serve until SIGTERM."""
    die_with_parent()
    asyncio.run(run(load_config()))


if __name__ == "__main__":
    main()
