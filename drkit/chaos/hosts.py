"""host.inventory: which hosts a scenario may hit, and who would do their work without them."""

from __future__ import annotations

from drkit.catalog import probe
from drkit.context import Context
from drkit.model.environment import Host
from drkit.model.inventory import Inventory, Member
from drkit.model.params import Params, SiteName


class Which(Params):
    """Hosts of the environment."""

    site: SiteName | None = None
    """Only those on this site: its name, `source` or `target`."""
    role: str | None = None
    """Only those in this role."""
    votes: bool = False
    """Whether the role needs a majority of its hosts."""


@probe("host.inventory", side="neither")
async def inventory(ctx: Context, p: Which) -> Inventory:
    """Hosts by site and role, as the environment declares them; asks nobody. A group is a role on a site."""
    site = None if p.site is None else ctx.site(p.site).name
    hosts = [h for h in ctx.environment.hosts if site in (None, h.site) and (p.role is None or p.role in h.roles)]
    groups = {_group(host, p) for host in hosts}
    others = [h for h in ctx.environment.hosts if h not in hosts and _group(h, p) in groups]
    return Inventory(members=tuple(_member(h, p) for h in hosts), others=tuple(_member(h, p) for h in others))


def _group(host: Host, p: Which) -> str:
    role = p.role or (host.roles[0] if host.roles else host.name)
    return f"{role} in {host.site}"


def _member(host: Host, p: Which) -> Member:
    return Member(name=host.name, group=_group(host, p), votes=p.votes, tags=(*host.roles, host.site))
