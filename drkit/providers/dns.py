"""DNS: every authority and every resolver asked by address, so that what users will be told is seen, not assumed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import anyio

from drkit.errors import Unobservable, Unreachable
from drkit.model.environment import Address, Environment


@dataclass(frozen=True, slots=True)
class Told:
    """What one server answered for a name. No addresses: the name has none there (`rcode` says why)."""

    server: str
    addresses: tuple[str, ...]
    ttl_s: int
    rcode: str
    authoritative: bool


class Dns:
    """DNS questions; holds nothing open."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    @classmethod
    def connect(cls, environment: Environment, secrets: object) -> Self:
        """A provider for this environment."""
        return cls(environment)

    async def aclose(self) -> None:
        """Nothing is open."""

    async def ask(self, server: Address, name: str, *, recursive: bool, timeout_s: float = 1.0) -> Told:
        """Ask one server for the IPv4 addresses of `name`. Unreachable if it does not answer."""
        import dns.asyncquery
        import dns.exception
        import dns.flags
        import dns.message
        import dns.rcode
        import dns.rdatatype

        query = dns.message.make_query(name, dns.rdatatype.A, flags=dns.flags.RD if recursive else 0)
        try:
            with anyio.fail_after(timeout_s):
                answer = await dns.asyncquery.udp(query, server.host, timeout=timeout_s, port=server.port)
        except (TimeoutError, OSError, dns.exception.DNSException) as error:
            said = str(error).strip() or type(error).__name__
            raise Unreachable(f"DNS server {server} did not answer for {name}: {said}.") from error
        found = [rrset for rrset in answer.answer if rrset.rdtype == dns.rdatatype.A]
        addresses = tuple(sorted(record.to_text() for rrset in found for record in rrset))
        ttl_s = min((rrset.ttl for rrset in found), default=0)
        authoritative = bool(answer.flags & dns.flags.AA)
        return Told(str(server), addresses, ttl_s, dns.rcode.to_text(answer.rcode()), authoritative)

    async def resolve(self, name: str) -> str:
        """One address for `name` as a user gets it: from the first resolver that answers, else from an authority."""
        names = self._environment.dns
        if names is None:
            raise Unobservable("This environment names no DNS servers.")
        failures: list[str] = []
        for server in names.resolvers or names.authorities:
            try:
                told = await self.ask(server, name, recursive=bool(names.resolvers))
            except Unreachable as error:
                failures.append(error.message)
                continue
            if told.addresses:
                return told.addresses[0]
            failures.append(f"{server} knows no address for {name} ({told.rcode}).")
        raise Unobservable(" ".join(failures) or "This environment names no DNS servers.")
