"""On-prem servers after their move: are they who licences are bound to, do they get in, do they get through."""

from __future__ import annotations

from drkit.actions.config import CONNECT, Switch, database_used
from drkit.actions.service import hosts_of
from drkit.catalog import probe
from drkit.context import Context
from drkit.errors import Unobservable
from drkit.model.observation import Observation
from drkit.model.params import Params, SiteName
from drkit.providers.postgres import Postgres
from drkit.providers.ssh import Ssh


class Servers(Params):
    """On-prem servers, and what they must get to."""

    site: SiteName
    """On-prem site."""
    role: str
    """Role of the servers."""
    path: str
    """Configuration file that names their database."""
    service: str
    """Service that works there."""
    database: str
    """Database of the environment that they must be using."""
    to: SiteName = "target"
    """Side of the database, and of the entry they must get through to."""


class Server(Observation):
    """One server."""

    host: str
    licensed: bool
    """It is the machine that licences are bound to."""
    authenticated: bool
    """The database has let its service in."""
    through: bool
    """It gets a connection to the entry of the side in use."""


class Checked(Observation):
    """All of them. `ok`: nothing is missing anywhere, and one of them is doing its work."""

    ok: bool
    servers: list[Server]
    rows_recent: int
    """Rows that they wrote in the last 10 s."""


@probe("onprem.check")
async def check(ctx: Context, p: Servers) -> Checked:
    """Ask every server who it is and whom it works with, try the way from there, and count what it wrote."""
    edge = ctx.site(p.to).edge
    if edge is None:
        raise Unobservable(f"{p.to} has no entry.")
    used = await database_used(
        ctx, Switch(site=p.site, role=p.role, path=p.path, service=p.service, database=p.database, to=p.to)
    )
    servers = []
    for host, file in zip(hosts_of(ctx, p.site, p.role), used.files, strict=True):
        done = await ctx.use(Ssh).run(host.name, ["python3", "-c", CONNECT, edge.host, str(edge.port)], timeout_s=4)
        working = file.running and file.state in ("running", "waiting") and file.database == used.address
        servers.append(Server(host=host.name, licensed=file.known, authenticated=working, through=done.exit_code == 0))
    sql = "select count(*) as n from batch_runs where site = %s and ran_at > now() - interval '10 s'"
    rows = (await ctx.use(Postgres).query(p.database, ctx.site(p.to).name, sql, [ctx.site(p.site).name]))[0]["n"]
    good = all(server.licensed and server.authenticated and server.through for server in servers)
    return Checked(ok=good and rows > 0, servers=servers, rows_recent=rows)
