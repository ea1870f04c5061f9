"""DNS: what every authority and every resolver answers for a name, and which site that leads to."""

from __future__ import annotations

from drkit.actions.together import together
from drkit.catalog import probe
from drkit.context import Context
from drkit.errors import Unobservable, Unreachable
from drkit.model.environment import Address
from drkit.model.observation import Observation
from drkit.model.params import Params
from drkit.providers.dns import Dns, Told


class Name(Params):
    """The name to ask for."""

    name: str = ""
    """Host name; empty: the environment's service."""


class Served(Observation):
    """One server's answer."""

    server: str
    addresses: list[str]
    sites: list[str]
    """Sites whose entry the addresses are; an address that is nobody's entry is listed as `unknown`."""
    ttl_s: int
    authoritative: bool


class Answers(Observation):
    """What all of them answer. `all` is the one site that every answer leads to, else `mixed`."""

    all: str
    answers: list[Served]
    silent: list[str]
    """Servers that did not answer."""


@probe("dns.answers", side="neither")
async def answers(ctx: Context, p: Name) -> Answers:
    """Ask each authority and each resolver for a name; Unobservable if none answers."""
    names, service = ctx.environment.dns, ctx.environment.service
    if names is None or (not p.name and service is None):
        raise Unobservable("This environment names no DNS servers, or no service.")
    wanted = p.name or (service.hostname if service else "")
    told: list[Told] = []
    silent: list[str] = []

    async def ask(server: Address, recursive: bool) -> None:
        try:
            told.append(await ctx.use(Dns).ask(server, wanted, recursive=recursive))
        except Unreachable:
            silent.append(str(server))

    questions = [(server, False) for server in names.authorities] + [(server, True) for server in names.resolvers]
    await together(ask(server, recursive) for server, recursive in questions)
    if not told:
        raise Unobservable(f"No DNS server answers for {wanted}.")
    entries = {site.edge.host: site.name for site in ctx.environment.sites if site.edge}
    return summary(told, silent, entries)


def summary(told: list[Told], silent: list[str], entries: dict[str, str]) -> Answers:
    """Put the answers side by side; `entries` says whose entry an address is."""
    served = [
        Served(
            server=each.server,
            addresses=list(each.addresses),
            sites=sorted({entries.get(address, "unknown") for address in each.addresses}),
            ttl_s=each.ttl_s,
            authoritative=each.authoritative,
        )
        for each in sorted(told, key=lambda each: each.server)
    ]
    sites = {site for each in served for site in each.sites or ["unknown"]}
    return Answers(all=sites.pop() if len(sites) == 1 and not silent else "mixed", answers=served, silent=silent)
