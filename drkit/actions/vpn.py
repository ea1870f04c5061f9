"""The way from on-prem into a region: the preferred path, and whether on-prem really gets through."""

from __future__ import annotations

from drkit.actions.aws_ssm import read_parameter, write_parameter
from drkit.actions.config import CONNECT
from drkit.actions.service import hosts_of
from drkit.catalog import action, probe
from drkit.context import Context
from drkit.errors import Unobservable
from drkit.model.environment import Address
from drkit.model.observation import Observation, State
from drkit.model.params import Params, SiteName, Use
from drkit.providers.ssh import Ssh


class Path(Params):
    """A path from an on-prem site into a region."""

    to: SiteName = "target"
    """Region that on-prem must reach."""
    origin: SiteName
    """On-prem site."""
    role: str
    """Role of the on-prem hosts that try."""
    parameter: str
    """SSM parameter with the preferred region."""
    database: str
    """Database whose side in the region is connected to."""


class PathState(Observation):
    """What is preferred, and who gets through."""

    preferred: str | None
    address: str
    through: list[str]
    """Hosts that got a connection."""
    stuck: dict[str, str]
    """Hosts that did not, and why."""


@probe("vpn.state", side="target")
async def state(ctx: Context, p: Path) -> PathState:
    """Read the preference, and connect from every on-prem host to the region's database."""
    address = reached_at(ctx, p)
    through: list[str] = []
    stuck: dict[str, str] = {}
    for host in hosts_of(ctx, p.origin, p.role):
        argv = ["python3", "-c", CONNECT, address.host, str(address.port)]
        try:
            done = await ctx.use(Ssh).run(host.name, argv, timeout_s=4)
        except Unobservable as error:
            stuck[host.name] = error.message
            continue
        if done.exit_code == 0:
            through.append(host.name)
        else:
            stuck[host.name] = (done.errors.strip().splitlines() or ["no connection"])[-1]
    preferred, _ = await read_parameter(ctx, p.to, p.parameter)
    return PathState(preferred=preferred, address=str(address), through=through, stuck=stuck)


def reached_at(ctx: Context, p: Path) -> Address:
    """Where on-prem reaches the database of the region."""
    side = ctx.environment.database(p.database, ctx.site(p.to).name)
    return side.reached_from.get(ctx.site(p.origin).name, side.address)


@action("vpn.prefer", observe=state, repeat="safe", side="target", timeout_s=60)
async def prefer(ctx: Context, p: Path, before: PathState) -> None:
    """Prefer the path into the region entered."""
    await write_parameter(ctx, p.to, p.parameter, ctx.site(p.to).name)


@prefer.check
def preferred(p: Path, now: PathState) -> State:
    """Preferred, and every on-prem host gets through: a preference without a path carries nothing."""
    if now.stuck or not now.through:
        return State.UNKNOWN
    return State.HOLDS if now.preferred == p.to else State.ABSENT


@prefer.undo
def prefer_back(p: Path, before: PathState, after: PathState | None) -> Use | None:
    """Left: on-prem reaches both regions, and the preference is read in this one only."""
    return None
