"""Consumers: whoever takes work off queues and schedules. Off on both sides before data moves, on at one side after."""

from __future__ import annotations

import json

from drkit.actions.aws_events import rule_state, switch_rule
from drkit.actions.aws_ssm import read_parameter, write_parameter
from drkit.actions.service import Group, Services, Stop, hosts_of, on_each, stop
from drkit.actions.service import status as service_status
from drkit.actions.together import together
from drkit.actions.trying import Source, tried
from drkit.catalog import action, probe
from drkit.context import Context
from drkit.errors import Unobservable
from drkit.model.observation import Observation, State
from drkit.model.params import Params, SiteName, Use
from drkit.providers.postgres import Postgres
from drkit.providers.ssh import Ssh


class Consumers(Params):
    """What consumes on a side: a switch that workers read, a scheduled rule, and a service on hosts."""

    source: SiteName = "source"
    """Side whose consumers are turned off; what does not answer there is recorded as unreachable."""
    target: SiteName = "target"
    """Side whose consumers must be off too, and must answer."""
    switch: str
    """SSM parameter that workers obey: `true` or `false`."""
    rule: str
    """Scheduled rule."""
    role: str
    """Role of the hosts on which the service runs."""
    service: str
    """The service."""


class Side(Observation):
    """Consumers of one side. Null: it did not say."""

    site: str
    api: Source
    hosts: Source
    switch: str | None = None
    rule: str | None = None
    running: int | None = None
    """Hosts on which the service runs."""
    unknown_hosts: int = 0
    """Hosts that answered and are not who was meant, or do not know the service."""

    @property
    def off(self) -> bool:
        """Nothing that answered is on."""
        return self.switch in (None, "false") and self.rule in (None, "DISABLED") and not self.running


class Both(Observation):
    """Both sides."""

    source: Side
    target: Side


@probe("consumers.state", side="neither")
async def state(ctx: Context, p: Consumers) -> Both:
    """Look at both sides at once."""
    source, target = await together(_side(ctx, p, name) for name in (p.source, p.target))
    return Both(source=source, target=target)


async def _side(ctx: Context, p: Consumers, site: str) -> Side:
    async def ask() -> tuple[str | None, str | None]:
        return (await read_parameter(ctx, site, p.switch))[0], await rule_state(ctx, site, p.rule)

    api, said = await tried(ctx, ask())
    hosts, services = await tried(ctx, service_status(ctx, Group(site=site, role=p.role, service=p.service)))
    reached = services is not None and services.reached == len(services.hosts)
    # The side being entered must say; of the side being left silence is recorded.
    return Side(
        site=site,
        api=api,
        hosts="answered" if hosts == "answered" and reached else "unreachable",
        switch=said[0] if said else None,
        rule=said[1] if said else None,
        running=services.running if services is not None and services.reached else None,
        unknown_hosts=_strangers(services),
    )


def _strangers(services: Services | None) -> int:
    return sum(host.reached and not host.known for host in services.hosts) if services is not None else 0


@action("consumers.disable", observe=state, repeat="safe", side="source", timeout_s=60, skippable=False)
async def disable(ctx: Context, p: Consumers, before: Both) -> None:
    """Turn consumers off, at the side being left as far as it answers, and at the side being entered."""

    async def turn_off(site: str) -> None:
        if (await read_parameter(ctx, site, p.switch))[0] not in (None, "false"):
            await write_parameter(ctx, site, p.switch, "false")
        if await rule_state(ctx, site, p.rule) == "ENABLED":
            await switch_rule(ctx, site, p.rule, on=False)

    async def stop_service(site: str, *, leaving: bool) -> None:
        await on_each(ctx, Group(site=site, role=p.role, service=p.service), "stop", unreachable_ok=leaving)

    # Each by itself: hosts may answer where the cloud's API does not.
    await tried(ctx, turn_off(p.source))
    await tried(ctx, stop_service(p.source, leaving=True), deadline_s=8)
    await turn_off(p.target)
    if before.target.running:
        await stop_service(p.target, leaving=False)


@disable.check
def disabled(p: Consumers, now: Both) -> State:
    """Off wherever somebody answers; the side being entered must answer, and have switch and rule."""
    target = now.target
    if target.api != "answered" or target.hosts != "answered" or target.switch is None or target.rule is None:
        return State.UNKNOWN
    if now.source.unknown_hosts or target.unknown_hosts:
        return State.UNKNOWN
    return State.HOLDS if now.source.off and target.off else State.ABSENT


@disable.undo
def left_disabled(p: Consumers, before: Both, after: Both | None) -> Use | None:
    """On again at the side being left, if its workers ran: its queues fill up otherwise."""
    if before.source.switch != "true":
        return None
    return enable.use(Enable(site=p.source, switch=p.switch, role=p.role, service=p.service, database=""))


class Workers(Params):
    """Workers of one side."""

    site: SiteName = "target"
    """Side whose workers are to run."""
    switch: str
    """SSM parameter that workers obey."""
    role: str
    """Role of the hosts on which they run."""
    service: str
    """The service."""
    database: str
    """Database whose lock lets one of them work at a time; empty: not looked at."""


class Worker(Observation):
    """One worker: what its service manager says, and what it says of itself in its status file."""

    host: str
    running: bool
    state: str | None
    """`running` holds the lock, `waiting` waits for it, `failing` cannot reach the database."""


class Working(Observation):
    """All workers of a side."""

    switch: str | None
    workers: list[Worker]
    runners: int | None
    """Workers of this side that wrote to the database within the last 5 s; null: not looked at."""


@probe("consumers.workers")
async def workers(ctx: Context, p: Workers) -> Working:
    """Ask every host, read every worker's own status, and count who really writes."""
    found = [await _worker(ctx, p, host.name) for host in hosts_of(ctx, p.site, p.role)]
    runners: int | None = None
    if p.database:
        sql = "select count(distinct runner) as n from batch_runs where site = %s and ran_at > now() - interval '5 s'"
        runners = (await ctx.use(Postgres).query(p.database, p.site, sql, [p.site]))[0]["n"]
    return Working(switch=(await read_parameter(ctx, p.site, p.switch))[0], workers=found, runners=runners)


async def _worker(ctx: Context, p: Workers, host: str) -> Worker:
    look = 'svc status "$1" | head -1; cat "var/run/$1-status.json" 2>/dev/null || echo "{}"'
    done = await ctx.use(Ssh).run(host, ["sh", "-c", look, "look", p.service])
    lines = done.output.splitlines()
    try:
        status, said = json.loads(lines[0]), json.loads(lines[1])
    except (ValueError, IndexError) as error:
        raise Unobservable(f"{host} does not say how {p.service} is: {done.errors.strip() or error}.") from error
    current = said.get("pid") == status["pid"]  # a former process's status says nothing about this one
    return Worker(host=host, running=bool(status["running"]), state=said.get("state") if current else None)


class Enable(Workers):
    """Turn workers on; the lock keeps it to one at a time."""


@action("consumers.enable", observe=workers, repeat="safe", timeout_s=40)
async def enable(ctx: Context, p: Enable, before: Working) -> None:
    """Turn the switch on and start the service on every host of the side."""
    await write_parameter(ctx, p.site, p.switch, "true")
    await on_each(ctx, Group(site=p.site, role=p.role, service=p.service), "start")


@enable.check
def one_works(p: Enable, now: Working) -> State:
    """The switch is on, every worker runs, exactly one holds the lock, and exactly one writes."""
    if now.switch != "true" or not all(worker.running for worker in now.workers):
        return State.ABSENT
    holding = sum(worker.state == "running" for worker in now.workers)
    if any(worker.state == "failing" for worker in now.workers) or holding > 1:
        return State.UNKNOWN
    return State.HOLDS if holding == 1 and now.runners in (None, 1) else State.IN_PROGRESS


@enable.undo
def stop_working(p: Enable, before: Working, after: Working | None) -> Use | None:
    """Stopped again, if none of them ran."""
    if any(worker.running for worker in before.workers):
        return None
    return stop.use(Stop(site=p.site, role=p.role, service=p.service))
