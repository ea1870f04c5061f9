"""Access in a disaster: everything a recovery logs in to lets us in, and nothing of it needs the region left."""

from __future__ import annotations

from collections.abc import Awaitable

from drkit.actions.service import hosts_of
from drkit.actions.together import together
from drkit.catalog import probe
from drkit.context import Context
from drkit.errors import DrkitError
from drkit.model.environment import Host
from drkit.model.observation import Observation
from drkit.model.params import Params, SiteName
from drkit.providers.aws import Aws
from drkit.providers.postgres import Postgres, why_not_meant
from drkit.providers.ssh import Ssh


class Doors(Params):
    """What must let us in."""

    site: SiteName = "target"
    """Region whose STS is asked."""
    role: str
    """ARN of the break-glass role that must be assumable there."""
    hosts: dict[str, str]
    """Role of the hosts that must let us in, by site: `{target: app, onprem: batch}`."""
    database: str
    """Database whose side in `site` must let us in."""


class Opened(Observation):
    """What let us in. `ok`: everything did; `shut` says what did not, and why."""

    ok: bool
    role: bool
    hosts: list[str]
    database: bool
    shut: dict[str, str]
    host_keys_known: int
    """Hosts whose key was compared with the known one."""


@probe("access.check")
async def check(ctx: Context, p: Doors) -> Opened:
    """Assume the break-glass role at the regional STS, log in to every host and to the database. Nothing is changed."""
    shut: dict[str, str] = {}
    opened: list[str] = []
    entered: dict[str, bool] = {}

    async def assume() -> None:
        request = {"RoleArn": p.role, "RoleSessionName": ctx.token[:64], "DurationSeconds": 900}
        answer = await ctx.use(Aws).call(p.site, "sts", "assume_role", request, write=False)
        entered["role"] = bool(answer["Credentials"]["SessionToken"])

    async def log_in(host: Host) -> None:
        # An open connection proves nothing: it stays open when the key that opened it is taken away.
        await ctx.use(Ssh).login(host.name)
        done = await ctx.use(Ssh).run(host.name, ["cat", "etc/machine-id"])
        if done.output.strip() != host.machine_id:
            raise DrkitError(f"machine-id is {done.output.strip() or 'missing'}, not {host.machine_id}")
        opened.append(host.name)

    async def ask_database() -> None:
        who = await ctx.use(Postgres).identity(p.database, p.site)
        why = why_not_meant(who, ctx.environment.database(p.database, p.site), "any")
        if why is not None:
            raise DrkitError(why)
        entered["database"] = True

    hosts = [host for site, role in p.hosts.items() for host in hosts_of(ctx, site, role)]
    doors = [("role", assume()), ("database", ask_database()), *((host.name, log_in(host)) for host in hosts)]
    await together(_note(name, door, shut) for name, door in doors)
    return Opened(
        ok=not shut and entered.get("role", False),
        role=entered.get("role", False),
        hosts=sorted(opened),
        database=entered.get("database", False),
        shut=dict(sorted(shut.items())),
        host_keys_known=len(opened),
    )


async def _note(name: str, door: Awaitable[None], shut: dict[str, str]) -> None:
    """Try one door; a shut one is written down and stops nobody."""
    try:
        await door
    except DrkitError as error:
        shut[name] = error.message
