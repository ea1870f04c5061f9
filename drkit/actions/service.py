"""Services on hosts, over SSH, through the host's service manager (`svc`), for every host in a role on a site."""

from __future__ import annotations

import json
import shlex

from drkit.actions.together import fail_with, together
from drkit.catalog import action, probe
from drkit.context import Context
from drkit.errors import DrkitError, Refused, ShutOut, StepFailed, Unobservable, Unreachable
from drkit.model.environment import Host
from drkit.model.observation import Observation, State
from drkit.model.paper import Paper, lines
from drkit.model.params import Params, SiteName, Use
from drkit.providers.ssh import Ssh


class Group(Params):
    """A service on every host in a role on a site."""

    site: SiteName
    """Site of the hosts: a name, `source` or `target`."""
    role: str
    """Role of the hosts in the environment."""
    service: str
    """Name the host's service manager knows it by."""


class HostService(Observation):
    """A service on one host. `reached` False: nothing else is known; `why` says more."""

    host: str
    reached: bool
    known: bool = False
    """The host is the one the environment means (machine-id), and knows the service."""
    running: bool = False
    release: str | None = None
    """Digest of what the running process was started from."""
    release_on_disk: str | None = None
    why: str | None = None


class Services(Observation):
    """A service on a group of hosts."""

    hosts: list[HostService]
    running: int
    reached: int
    source: str = "answered"
    """`unreachable` if no host answered."""


def hosts_of(ctx: Context, site: str, role: str) -> list[Host]:
    """Hosts in a role on a site. StepFailed if there is none: a typing error must not pass for an empty group."""
    found = [host for host in ctx.environment.hosts if host.site == ctx.site(site).name and role in host.roles]
    if not found:
        raise StepFailed(f"There is no host in the role {role} in {site}.", world="untouched")
    return found


async def look_at(ctx: Context, host: Host, service: str) -> HostService:
    """One host's answer; silence is part of it."""
    command = f"cat etc/machine-id && svc status {shlex.quote(service)}"
    try:
        done = await ctx.use(Ssh).run(host.name, ["sh", "-c", command], timeout_s=3)
    except ShutOut as shut:
        return HostService(host=host.name, reached=True, why=shut.message)
    except Unobservable as error:
        return HostService(host=host.name, reached=False, why=error.message)
    return understood(host, done.output, done.errors)


def understood(host: Host, output: str, errors: str) -> HostService:
    """What `cat etc/machine-id && svc status NAME` said."""
    machine_id, _, rest = output.partition("\n")
    if machine_id.strip() != host.machine_id:
        return HostService(host=host.name, reached=True, why=f"machine-id is {machine_id.strip() or 'missing'}")
    try:
        status = json.loads(rest)
    except ValueError:
        return HostService(host=host.name, reached=True, answered_by=machine_id, why=errors.strip() or rest.strip())
    return HostService(
        host=host.name,
        answered_by=machine_id,
        reached=True,
        known=True,
        running=bool(status["running"]),
        release=status.get("release"),
        release_on_disk=status.get("release_on_disk"),
    )


@probe("service.status")
async def status(ctx: Context, p: Group) -> Services:
    """Ask every host of the group what its service manager says."""
    meant = hosts_of(ctx, p.site, p.role)
    found = await together(look_at(ctx, host, p.service) for host in meant)
    reached = sum(each.reached for each in found)
    return Services(
        hosts=found,
        running=sum(each.running for each in found),
        reached=reached,
        source="answered" if reached else "unreachable",
    )


async def on_each(ctx: Context, p: Group, verb: str, *, unreachable_ok: bool = False) -> None:
    """Run `svc VERB` once on every host of the group. Every failure is named."""
    hosts, failures = hosts_of(ctx, p.site, p.role), list[DrkitError]()

    async def send(host: Host) -> None:
        try:
            await ctx.use(Ssh).change(
                host.name,
                ["svc", verb, p.service],
                token=f"{ctx.token}-{ctx.attempt}-{verb}-{p.service}",
                permit=ctx.permit,
                timeout_s=10,
            )
        except Unreachable as error:
            if not unreachable_ok:
                failures.append(error)
        except (StepFailed, Refused, ShutOut) as error:
            failures.append(error)

    await together(send(host) for host in hosts)
    fail_with(failures, asked=len(hosts))


class Start(Group):
    """Start a service on every host of a group."""

    release: str = ""
    """Digest that the running process must have been started from; empty: any."""


@action("service.start", observe=status, repeat="safe", unfenced=False, timeout_s=60, poll_s=0.15)
async def start(ctx: Context, p: Start, before: Services) -> None:
    """Start a service on every host of a group, and wait until each runs what it should."""
    await on_each(ctx, p, "start")


@start.check
def started(p: Start, now: Services) -> State:
    """Running on every host, each the machine that was meant, from the release that was meant."""
    if any(not host.reached or not host.known for host in now.hosts):
        return State.UNKNOWN
    good = [host.running and p.release in ("", host.release) for host in now.hosts]
    return State.HOLDS if all(good) else State.ABSENT


@start.undo
def stop_again(p: Start, before: Services, after: Services | None) -> Use | None:
    """Stop it where all of it was stopped before; a group that was half up is left as it is."""
    if before.running:
        return None
    return stop.use(Stop(site=p.site, role=p.role, service=p.service))


class Stop(Group):
    """Stop a service on every host of a group."""

    unreachable: bool = False
    """Hosts that do not answer are recorded as unreachable and not waited for (the side that is being left)."""


@action("service.stop", observe=status, repeat="safe", unfenced=False, timeout_s=30, poll_s=0.15)
async def stop(ctx: Context, p: Stop, before: Services) -> None:
    """Stop a service on every host of a group that can be reached."""
    await on_each(ctx, p, "stop", unreachable_ok=p.unreachable)


@stop.check
def stopped(p: Stop, now: Services) -> State:
    """Stopped wherever somebody answers; silence counts only where it may be recorded."""
    if any(host.reached and not host.known for host in now.hosts):
        return State.UNKNOWN
    if not p.unreachable and now.reached < len(now.hosts):
        return State.UNKNOWN
    return State.HOLDS if now.running == 0 else State.ABSENT


@stop.undo
def start_again(p: Stop, before: Services, after: Services | None) -> Use | None:
    """Start it where all of it ran before."""
    if before.running < len(before.hosts):
        return None
    return start.use(Start(site=p.site, role=p.role, service=p.service))


@status.by_hand
def look_at_service(p: Group, paper: Paper) -> str:
    """Who each host is, and what its service manager says."""
    ids = ", ".join(f"{host.name} {host.machine_id}" for host in paper.hosts(p.site, p.role))
    command = f"cat etc/machine-id && svc status {shlex.quote(p.service)}"
    return lines(f"# each must answer with its own machine-id: {ids}", paper.on_each(p.site, p.role, command))


@start.by_hand
def start_by_hand(p: Start, paper: Paper) -> str:
    """On each host, if it is the one that was meant."""
    return lines(paper.on_each(p.site, p.role, f"svc start {shlex.quote(p.service)}", change=True))


@stop.by_hand
def stop_by_hand(p: Stop, paper: Paper) -> str:
    """On each host, if it is the one that was meant."""
    return lines(paper.on_each(p.site, p.role, f"svc stop {shlex.quote(p.service)}", change=True))
