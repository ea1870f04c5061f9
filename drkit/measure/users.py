"""Simulated users: each resolves the service's name through a cache of its own and makes one journey at a time asked.

A journey opens a fresh connection. Keep-alive would measure something else: a connection that survives goes on being
served by the region it was opened to whatever DNS says, and one that dies tells of an outage once and is reopened by
the same path that is taken here. Between outage and recovery every user has to resolve and connect anew, so that is
what is measured, each time.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from drkit.model.environment import Address
from drkit.model.values import Json

Kind = Literal["browse", "order"]

_BODY_BYTES_MAX = 1 << 16
#: A stub resolver that gets no answer asks again, the next server first; two tries fit into a journey.
_DNS_TRY_S = 0.8
_DNS_TRIES = 2


class JourneyFailed(Exception):
    """The user did not get what they came for; the message is the reason as logged."""


@dataclass(slots=True)
class Answer:
    """What one journey came to, filled in while it goes on, so that a timeout keeps what was known."""

    status: int | None = None
    address: str | None = None
    served_by: str | None = None
    order_id: str | None = None


@dataclass(slots=True)
class Resolver:
    """A user's stub resolver with a cache that honours TTL. Failures are not cached; stale answers are not used."""

    servers: Sequence[Address]
    cached: list[str] = field(default_factory=list)
    expires_s: float = 0.0

    async def addresses(self, hostname: str) -> list[str]:
        """IPv4 addresses of a name. JourneyFailed: no server answered, or the name has none."""
        if time.monotonic() >= self.expires_s:
            self.cached, ttl_s = await self._ask(hostname)
            self.expires_s = time.monotonic() + ttl_s
        return self.cached

    async def _ask(self, hostname: str) -> tuple[list[str], float]:
        import dns.asyncquery
        import dns.exception
        import dns.message
        import dns.rcode
        import dns.rdatatype

        failure = "no server"
        for attempt in range(_DNS_TRIES):
            server = self.servers[attempt % len(self.servers)]
            query = dns.message.make_query(hostname, dns.rdatatype.A)
            try:
                reply = await dns.asyncquery.udp(query, server.host, timeout=_DNS_TRY_S, port=server.port)
            except dns.exception.Timeout:
                failure = "timeout"
                continue
            except (OSError, EOFError, dns.exception.DNSException) as error:
                failure = type(error).__name__
                continue
            found = [rrset for rrset in reply.answer if rrset.rdtype == dns.rdatatype.A]
            if found:
                return [str(rdata.address) for rdata in found[0]], float(min(rrset.ttl for rrset in reply.answer))
            failure = dns.rcode.to_text(reply.rcode()) if reply.rcode() else "no address"
        raise JourneyFailed(f"dns: {failure}")


@dataclass(slots=True)
class User:
    """One simulated user of the service."""

    number: int
    resolver: Resolver
    hostname: str
    port: int
    order: Mapping[str, Json] = field(default_factory=dict)
    """What an order says beside who orders and the reference."""

    async def journey(self, kind: Kind, reference: str, answer: Answer) -> None:
        """Browse the catalog, or place an order called `reference`. JourneyFailed says why it did not work."""
        body = b""
        if kind == "order":
            who = {"customer": f"customer-{self.number + 1}", "reference": reference}
            body = json.dumps({**self.order, **who}).encode()
        line = "GET /catalog HTTP/1.1" if kind == "browse" else "POST /orders HTTP/1.1"
        request = (
            f"{line}\r\nHost: {self.hostname}:{self.port}\r\nUser-Agent: drkit-prober\r\nAccept: application/json\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        reader, writer = await self._connect(answer)
        try:
            writer.write(request.encode("ascii") + body)
            content = await _reply(reader, answer)
        except (OSError, EOFError, ValueError) as error:
            raise JourneyFailed(f"http: {_named(error)}") from error
        finally:
            writer.transport.abort()  # nothing is left to say, and a lingering close would hold the descriptor
        _understand(kind, content, answer)

    async def _connect(self, answer: Answer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        failure = "no address"
        for address in await self.resolver.addresses(self.hostname):
            answer.address = address
            try:
                return await asyncio.open_connection(address, self.port)
            except OSError as error:
                failure = _named(error)
        raise JourneyFailed(f"connect: {failure}")


async def _reply(reader: asyncio.StreamReader, answer: Answer) -> bytes:
    """Read one HTTP/1.1 reply; the status is noted as soon as it is known. ValueError: not HTTP."""
    words = (await reader.readuntil(b"\r\n")).split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise ValueError("not HTTP")
    answer.status = int(words[1])
    length: int | None = None
    while (line := (await reader.readuntil(b"\r\n")).strip()) != b"":
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
        elif name.lower() == b"x-served-by":
            answer.served_by = value.strip().decode("ascii", "replace")
        elif name.lower() == b"transfer-encoding":
            raise ValueError("chunked reply")
    if length is None:
        return await reader.read(_BODY_BYTES_MAX)
    return await reader.readexactly(min(length, _BODY_BYTES_MAX))


def _understand(kind: Kind, content: bytes, answer: Answer) -> None:
    """JourneyFailed unless the reply is what the user came for. An order id with a 2xx is noted in any case."""
    status = answer.status or 0
    if not 200 <= status < 300:
        raise JourneyFailed(f"http {status}")
    try:
        reply: Any = json.loads(content)
    except ValueError as error:
        raise JourneyFailed("reply is not JSON") from error
    if kind == "order":
        answer.order_id = str(reply["order_id"]) if isinstance(reply, dict) and reply.get("order_id") else None
        if answer.order_id is None:
            raise JourneyFailed("reply has no order_id")


def _named(error: BaseException) -> str:
    match error:
        case ConnectionRefusedError():
            return "refused"
        case ConnectionResetError() | BrokenPipeError():
            return "reset"
        case asyncio.IncompleteReadError():
            return "closed before the reply was complete"
        case _:
            return str(error) or type(error).__name__
