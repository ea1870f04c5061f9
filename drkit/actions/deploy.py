"""Deployments: frozen while a recovery is on, and the live release put on hosts at its pinned digest."""

from __future__ import annotations

import hashlib
import json

from drkit.actions.aws_ecr import live_release
from drkit.actions.aws_ssm import read_parameter, write_parameter
from drkit.actions.host import put_on_each
from drkit.actions.service import Group, HostService, hosts_of, look_at, on_each
from drkit.actions.together import together
from drkit.actions.trying import Source, tried
from drkit.catalog import action, probe
from drkit.context import Context
from drkit.errors import StepFailed, Unobservable
from drkit.model.environment import Host
from drkit.model.observation import Observation, State
from drkit.model.params import Params, SiteName, Use
from drkit.providers.aws import Aws
from drkit.providers.ssh import Ssh

FREEZE_FILE = "etc/deploy-freeze"


class Freeze(Params):
    """Where deployments are frozen: a parameter that pipelines and migrations obey, and a file on hosts."""

    parameter: str
    """SSM parameter, set in both regions as far as they answer."""
    hosts: dict[str, str]
    """Role of the hosts that carry the file, by site; those of the source are tried only."""
    site: SiteName = "target"
    """Region in which the parameter must be set."""
    on: bool = True
    """Frozen or not."""


class Frozen(Observation):
    """What is frozen."""

    parameter: str | None
    source: Source
    """Whether the source's parameter store answered."""
    source_parameter: str | None = None
    hosts: dict[str, bool | None]
    """Whether the file is there, by host; null: the host does not answer, or is not the one that was meant."""
    away: list[str]
    """Hosts of the side being left, from which silence is accepted."""


@probe("deploy.freeze.state", side="neither")
async def frozen(ctx: Context, p: Freeze) -> Frozen:
    """Read the parameter in both regions and look for the file on every host."""
    value, _ = await read_parameter(ctx, p.site, p.parameter)
    source, theirs = await tried(ctx, read_parameter(ctx, ctx.source, p.parameter))
    hosts = [host for site, role in p.hosts.items() for host in hosts_of(ctx, site, role)]
    seen = await together(_has_file(ctx, host) for host in hosts)
    return Frozen(
        parameter=value,
        source=source,
        source_parameter=theirs[0] if theirs else None,
        away=[host.name for host in hosts if host.site == ctx.source],
        hosts=dict(zip((host.name for host in hosts), seen, strict=True)),
    )


async def _has_file(ctx: Context, host: Host) -> bool | None:
    look = f"cat etc/machine-id; test -e {FREEZE_FILE}; echo $?"
    try:
        done = await ctx.use(Ssh).run(host.name, ["sh", "-c", look], timeout_s=3)
    except Unobservable:
        return None
    lines = done.output.split()
    return lines[1] == "0" if len(lines) == 2 and lines[0] == host.machine_id else None


@action("deploy.freeze", observe=frozen, repeat="safe", side="neither", timeout_s=40)
async def freeze(ctx: Context, p: Freeze, before: Frozen) -> None:
    """Freeze deployments everywhere that answers: nothing changes under the hands of a recovery. Or thaw them."""
    value = f"frozen by {ctx.token}" if p.on else "thawed"
    await write_parameter(ctx, p.site, p.parameter, value)
    await tried(ctx, write_parameter(ctx, ctx.source, p.parameter, value))
    hosts = [
        h for site, role in p.hosts.items() for h in hosts_of(ctx, site, role) if before.hosts.get(h.name) is not None
    ]
    if p.on:
        note = json.dumps({"by": ctx.token}).encode()
        await put_on_each(ctx, hosts, FREEZE_FILE, {host.name: note for host in hosts})
        return
    for host in hosts:
        token = f"{ctx.token}-{ctx.attempt}-thaw"
        argv = ["rm", "-f", FREEZE_FILE]
        await ctx.use(Ssh).change(host.name, argv, token=token, permit=ctx.permit)


@freeze.check
def as_wanted(p: Freeze, now: Frozen) -> State:
    """As wanted wherever somebody answers; the region entered must answer."""
    said = [now.parameter] + ([now.source_parameter] if now.source == "answered" else [])
    parameters = [value is not None and value.startswith("frozen") for value in said]
    if any(there is None and host not in now.away for host, there in now.hosts.items()):
        return State.UNKNOWN
    files = [there for there in now.hosts.values() if there is not None]
    return State.HOLDS if all(each == p.on for each in [*parameters, *files]) else State.ABSENT


@freeze.undo
def thaw(p: Freeze, before: Frozen, after: Frozen | None) -> Use | None:
    """Thawed again, if it was not frozen before."""
    was = before.parameter is not None and before.parameter.startswith("frozen")
    return None if was == p.on else freeze.use(p.but(on=was))


class Deployment(Params):
    """The live release of a service, and the hosts it belongs on."""

    site: SiteName = "target"
    """Region of hosts, artifact and release."""
    role: str
    """Role of the hosts."""
    service: str
    """Service that is started from the release."""
    path: str
    """Path of the release on the host, relative to its root."""
    parameter: str
    """SSM parameter with the live release."""
    bucket: str
    """Bucket that holds the artifact."""


class Deployed(Observation):
    """What runs, and what should."""

    tag: str
    sha256: str
    """Digest of the live release."""
    hosts: list[HostService]


@probe("deploy.state")
async def deployed(ctx: Context, p: Deployment) -> Deployed:
    """Ask every host which digest its running process was started from."""
    live = await live_release(ctx, p.site, p.parameter)
    hosts = [await look_at(ctx, host, p.service) for host in hosts_of(ctx, p.site, p.role)]
    return Deployed(tag=live["tag"], sha256=live["sha256"], hosts=hosts)


@action("deploy.release", observe=deployed, repeat="safe", unfenced=False, timeout_s=90)
async def release(ctx: Context, p: Deployment, before: Deployed) -> None:
    """Fetch the artifact, compare its digest, put it on every host that lacks it, and (re)start the service there."""
    live = await live_release(ctx, p.site, p.parameter)
    request = {"Bucket": p.bucket, "Key": live["artifact"]}
    content: bytes = (await ctx.use(Aws).call(p.site, "s3", "get_object", request))["Body"]
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    if digest != live["sha256"]:
        raise StepFailed(f"{live['artifact']} in {p.bucket} is {digest}, not {live['sha256']}.", world="untouched")
    stale = {host.host for host in before.hosts if host.release_on_disk != digest}
    hosts = [host for host in hosts_of(ctx, p.site, p.role) if host.name in stale]
    await put_on_each(ctx, hosts, p.path, {host.name: content for host in hosts})
    wrong = any(host.running and host.release != digest for host in before.hosts)
    await on_each(ctx, Group(site=p.site, role=p.role, service=p.service), "restart" if wrong else "start")


@release.check
def at_digest(p: Deployment, now: Deployed) -> State:
    """Running on every host, each the machine that was meant, from exactly the live release."""
    if any(not host.reached or not host.known for host in now.hosts):
        return State.UNKNOWN
    return State.HOLDS if all(host.running and host.release == now.sha256 for host in now.hosts) else State.ABSENT


@release.undo
def left_running(p: Deployment, before: Deployed, after: Deployed | None) -> Use | None:
    """Left running: without traffic it serves nobody, and it is the release that is live anyway."""
    return None
