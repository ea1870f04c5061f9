"""The sandbox's DNS: an authority that answers from the Route 53 zone, and a caching resolver in front of it.

The zone is read every second from whichever gateway answers and kept: with us-east-1 down, names go on being answered
from the zone last seen. Which side of a cell is served follows the routing controls, read from their state file at most
100 ms ago. The resolver stands for users' resolvers: it keeps an answer for its TTL, whatever happens meanwhile.

Config: `{"zone": NAME, "authority": {"address", "port"}, "resolver": {...}, "admin": {...},
"gateways": [{"region", "url"}], "routing_state": FILE, "poll_s": 1.0, "seed": 7}`.
Ready line: the three addresses with their ports. Admin: `GET /zone` → `{"age_s": seconds | null,
"from": REGION, "records": N}`.
"""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

from dnslib import AAAA, CNAME, NS, QTYPE, RCODE, RR, TXT, A, DNSError, DNSRecord

from drkit.sandbox.parts import announce, die_with_parent, load_config
from drkit.sandbox.parts._routing_state import read_states
from drkit.sandbox.parts._web import Reply, Request, json_reply, serve
from drkit.sandbox.parts._wire import Wire, WireError
from drkit.sandbox.parts._zone import Record, Zone, answer, has_name, parse_zone

STATES_FRESH_S = 0.1
Answer = Callable[[DNSRecord], DNSRecord]


class Source:
    """The zone as last seen in Route 53, kept up to date by a thread of its own."""

    def __init__(self, zone_name: str, gateways: Sequence[dict[str, str]], poll_s: float) -> None:
        self.zone: Zone = {}
        self.region: str | None = None
        self.seen_at: float | None = None
        self._zone_name = zone_name
        self._wires = [(each["region"], Wire(each["url"], each["region"], "sandbox-dns", 1.0)) for each in gateways]
        self._poll_s = poll_s
        threading.Thread(target=self._follow, daemon=True, name="zone").start()

    def _follow(self) -> None:
        while True:
            self._look()
            time.sleep(self._poll_s if self.zone else min(0.2, self._poll_s))

    def _look(self) -> None:
        for region, wire in self._wires:
            try:
                zone = parse_zone(wire.record_sets(self._zone_name))
            except WireError:
                continue  # another gateway may answer; if none does, the zone last seen stays
            if zone:
                self.zone, self.region, self.seen_at = zone, region, time.monotonic()
                return


class States:
    """The routing controls, read again when older than 100 ms; an unreadable file keeps the states last read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._states: dict[str, bool] = {}
        self._read_at = float("-inf")

    def now(self) -> dict[str, bool]:
        """Name → on."""
        if time.monotonic() - self._read_at > STATES_FRESH_S:
            self._read_at = time.monotonic()
            try:
                self._states = read_states(self._path)
            except (OSError, ValueError) as error:
                print(f"routing states: {error}", file=sys.stderr)
        return self._states


class Authority:
    """Answers for the zone, never from a cache of answers."""

    def __init__(self, zone_name: str, source: Source, states: States, seed: int) -> None:
        self._suffix = zone_name.lower().rstrip(".") + "."
        self._source = source
        self._states = states
        self._last: dict[tuple[str, str], str] = {}
        self._draw = random.Random(seed)

    def __call__(self, question: DNSRecord) -> DNSRecord:
        """The reply to one query."""
        reply = question.reply(aa=1, ra=0)
        name, type_ = str(question.q.qname).lower(), QTYPE[question.q.qtype]
        if not (name == self._suffix or name.endswith("." + self._suffix)):
            reply.header.rcode = RCODE.REFUSED
        elif not self._source.zone:
            reply.header.rcode = RCODE.SERVFAIL
        else:
            zone = self._source.zone
            records = answer(zone, self._states.now(), self._last, name, type_, self._draw)
            reply.add_answer(*_resource_records(str(question.q.qname), records))
            if not records and not has_name(zone, name):
                reply.header.rcode = RCODE.NXDOMAIN
        return reply


class Resolver:
    """A cache in front of the authority: an answer lives for its TTL, a failure is not kept."""

    def __init__(self, ask: Answer) -> None:
        self._ask = ask
        self._kept: dict[tuple[str, int], tuple[float, DNSRecord]] = {}

    def __call__(self, question: DNSRecord) -> DNSRecord:
        """The reply to one query, with the time left as TTL."""
        key, now = (str(question.q.qname).lower(), question.q.qtype), time.monotonic()
        expires, found = self._kept.get(key, (now, None))
        if found is None or expires <= now:
            found = self._ask(question)
            expires = now + min((record.ttl for record in found.rr), default=0)
            self._kept[key] = (expires, found)
        reply = question.reply(aa=0, ra=1)
        reply.header.rcode = found.header.rcode
        left = max(0, round(expires - now))
        reply.add_answer(*(RR(record.rname, record.rtype, ttl=left, rdata=record.rdata) for record in found.rr))
        return reply


_RDATA = {"A": A, "AAAA": AAAA, "CNAME": CNAME, "NS": NS}


def _resource_records(asked: str, records: Iterable[Record]) -> list[RR]:
    found: list[RR] = []
    owner = asked
    for record in records:
        for value in record.values:
            if record.type in _RDATA:
                found.append(RR(owner, getattr(QTYPE, record.type), ttl=record.ttl_s, rdata=_RDATA[record.type](value)))
            elif record.type == "TXT":
                found.append(RR(owner, QTYPE.TXT, ttl=record.ttl_s, rdata=TXT(value.strip('"'))))
            else:
                found.extend(RR.fromZone(f"{owner} {record.ttl_s} IN {record.type} {value}"))
        if record.type == "CNAME":
            owner = record.values[0]
    return found


def _packed(ask: Answer, data: bytes) -> bytes | None:
    try:
        return bytes(ask(DNSRecord.parse(data)).pack())
    except DNSError:
        return None  # not a DNS message


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, ask: Answer) -> None:
        self._ask = ask

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not an isinstance check: before 3.12 asyncio's own class does not derive from the abstract one.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if reply := _packed(self._ask, data):
            self._transport.sendto(reply, addr)


async def _listen(address: str, port: int, ask: Answer) -> int:
    """Answer over UDP and TCP at the same port; which one. Raises OSError."""

    async def over_tcp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(2), "big")
                reply = _packed(ask, await reader.readexactly(length))
                if reply is None:
                    break
                writer.write(len(reply).to_bytes(2, "big") + reply)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # the client is done
        finally:
            writer.close()

    server = await asyncio.start_server(over_tcp, address, port)
    port = int(server.sockets[0].getsockname()[1])
    await asyncio.get_running_loop().create_datagram_endpoint(lambda: _Udp(ask), local_addr=(address, port))
    return port


def admin(source: Source) -> Callable[[Request], Reply]:
    """The admin API as a function."""

    def handle(request: Request) -> Reply:
        age = None if source.seen_at is None else time.monotonic() - source.seen_at
        return json_reply({"age_s": age, "from": source.region, "records": sum(map(len, source.zone.values()))})

    return handle


async def run(config: dict[str, Any]) -> None:
    """Serve until SIGTERM."""
    source = Source(config["zone"], config["gateways"], float(config.get("poll_s", 1.0)))
    authority = Authority(config["zone"], source, States(Path(config["routing_state"])), int(config.get("seed", 7)))
    ready: dict[str, Any] = {}
    roles: dict[str, Answer] = {"authority": authority, "resolver": Resolver(authority)}
    for role, ask in roles.items():
        address = config[role]["address"]
        ready[role] = {"address": address, "port": await _listen(address, int(config[role].get("port", 0)), ask)}
    where = config["admin"]
    control = serve(where["address"], int(where.get("port", 0)), admin(source))
    url = f"http://{where['address']}:{control.server_port}"
    announce(**ready, admin={"address": where["address"], "port": control.server_port, "url": url})
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


def main() -> None:
    """Serve until SIGTERM."""
    die_with_parent()
    asyncio.run(run(load_config()))


if __name__ == "__main__":
    main()
