"""`drkit doctor`: would a failover find what it needs? Read-only, short deadlines, one line a check, the worst wins."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from drkit.cli import environment as environments
from drkit.cli.settings import Settings
from drkit.errors import DrkitError, Exit

if TYPE_CHECKING:
    from drkit.context import Secrets
    from drkit.model.environment import Environment
    from drkit.model.plan import Plan

Verdict = Literal["OK", "WARN", "FAIL", "?"]
OFFSET_S_MAX = 1.0
DRILL_AGE_S_MAX = 14 * 86400


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's answer; `?` is *could not tell*."""

    check: str
    verdict: Verdict
    detail: str


def register(app: typer.Typer) -> None:
    """Put `doctor` on `app`."""
    app.command("doctor", rich_help_panel="Decide")(doctor)


def doctor(
    ctx: typer.Context,
    region: Annotated[str | None, typer.Option("--region", "--to", help="The region that would be activated.")] = None,
    source: Annotated[str | None, typer.Option("--from", help="The region that would be left.")] = None,
) -> None:
    """Would a failover find what it needs? State store, lock, clock, credentials, drills; nothing in the source."""
    import anyio

    settings: Settings = ctx.obj
    environment = environments.load(settings)
    target = region or _standby(environment)
    source, target = environments.region(environment, target, source)
    settings.say.note(f"Checking {environment.name} for a move {source} -> {target}; read-only.")
    found = anyio.run(_examine, environment, source, target, _own_plan(settings, environment, source, target))
    settings.say.result(
        {"schema": "drkit.doctor/1", "environment": environment.name, "source": source, "target": target,
         "checks": [asdict(finding) for finding in found]},
        lambda: settings.say.table(("", "check", "found"), [(f.verdict, f.check, f.detail) for f in found]),
    )  # fmt: skip
    counts = {verdict: sum(f.verdict == verdict for f in found) for verdict in ("OK", "WARN", "FAIL", "?")}
    settings.say.note(f"{counts['OK']} ok, {counts['WARN']} warnings, {counts['FAIL']} problems, {counts['?']} unknown")
    if counts["FAIL"]:
        raise typer.Exit(int(Exit.REFUSED))
    settings.say.next(f"drkit plan --region {target} --env {environment.name}")


def _standby(environment: Environment) -> str:
    """The region to examine when none is named: the last one that is listed."""
    return environment.regions[-1]


def _own_plan(settings: Settings, environment: Environment, source: str, target: str) -> Plan | None:
    """What a failover would do by default; None if the environment names no runbook, or one that cannot be planned."""
    from drkit.cli import planning

    if environment.runbook is None:
        return None
    try:
        return planning.make(settings, planning.Wanted(target, source)).plan
    except DrkitError:
        return None  # `drkit validate` says why; here it only means that nobody knows how long a run takes


async def _examine(environment: Environment, source: str, target: str, plan: Plan | None) -> list[Finding]:
    from drkit.providers.secrets import Secrets

    secrets = Secrets(environment)
    return [
        *await _guarded("state store", lambda: _state_store(environment, source)),
        *await _guarded("lock", lambda: _lock(environment)),
        *await _guarded("clock", lambda: _clock(environment, secrets, target)),
        *await _guarded("credentials", lambda: _credentials(environment, secrets, target)),
        *await _guarded("credential's life", lambda: _lives(environment, source, target, plan)),
        *await _guarded("secrets", lambda: _secrets(environment, secrets, source)),
        *await _guarded("last good drill", lambda: _last_drill(environment)),
        *(Finding("needs nothing in the source", verdict, text) for verdict, text in needed_in(environment, source)),
    ]


async def _guarded(check: str, look: Callable[[], Awaitable[Iterable[Finding]]]) -> list[Finding]:
    """A check that cannot be made is a finding too, not the end of the examination."""
    import anyio

    try:
        with anyio.fail_after(15):
            return list(await look())
    except DrkitError as error:
        return [Finding(check, "FAIL", error.message.splitlines()[0])]
    except TimeoutError:
        return [Finding(check, "?", "no answer within 15 s")]


async def _state_store(environment: Environment, source: str) -> list[Finding]:
    import anyio.to_thread

    from drkit.providers.objects import open_objects

    objects = open_objects(environment)
    began = time.monotonic()
    await anyio.to_thread.run_sync(objects.keys, "doctor/")
    took_ms = (time.monotonic() - began) * 1000
    where = objects.describe()
    if environment.state_store_site == source:
        return [Finding("state store", "FAIL", f"{where} stands in {source}, the region that would be lost")]
    verdict: Verdict = "WARN" if environment.state_store.startswith("file:") else "OK"
    return [Finding("state store", verdict, f"{where}, answers in {took_ms:.0f} ms")]


async def _lock(environment: Environment) -> list[Finding]:
    from drkit.cli.compose import holder

    held = await holder(environment)
    if held is None:
        return [Finding("lock", "OK", "free")]
    return [Finding("lock", "WARN", f"run {held.run} by {held.who} on {held.host} since {held.since} ({held.lock_id})")]


async def _clock(environment: Environment, secrets: Secrets, target: str) -> list[Finding]:
    from drkit.providers.postgres import Postgres

    there = next((d for d in environment.databases if d.site == target), None)
    if there is None:
        return [Finding("clock", "?", f"nothing in {target} to compare with")]
    postgres = Postgres.connect(environment, secrets)
    try:
        await postgres.query(there.name, there.site, "select 1 as one")  # the connection is not part of the measurement
        began, wall = time.monotonic(), time.time()
        rows = await postgres.query(
            there.name, there.site, "select extract(epoch from clock_timestamp())::float8 as now"
        )
        bound_s = time.monotonic() - began
    finally:
        await postgres.aclose()
    offset_s = float(rows[0]["now"]) - wall
    verdict: Verdict = "OK" if abs(offset_s) <= OFFSET_S_MAX + bound_s else "FAIL"
    return [
        Finding(
            "clock", verdict, f"{offset_s * 1000:+.0f} ms against {there.name} in {target} (±{bound_s * 1e3:.0f} ms)"
        )
    ]


async def _credentials(environment: Environment, secrets: Secrets, target: str) -> list[Finding]:
    """Who we are for AWS."""
    from drkit.cli.credentials import uses_aws
    from drkit.providers.aws import Aws

    aws = Aws(environment, secrets)
    try:
        who = await aws.call(target, "sts", "get_caller_identity")
    except DrkitError as error:
        verdict: Verdict = "FAIL" if uses_aws(environment, None) else "WARN"
        return [Finding("credentials", verdict, error.message.splitlines()[0])]
    finally:
        await aws.aclose()
    return [Finding("credentials", "OK", f"{who.get('Arn', 'unknown')} through STS in {target}")]


async def _lives(environment: Environment, source: str, target: str, plan: Plan | None) -> list[Finding]:
    """How long each credential lasts, beside how long the environment's own runbook may take."""
    from drkit.cli import credentials
    from drkit.cli.compose import reach
    from drkit.cli.seen import last_good_drill

    drill = None if plan is None else last_good_drill(environment.name, plan.runbook)
    async with reach(environment, source, target, mode="ungraceful") as context:
        lives = await credentials.lives(context, plan)
    now, likely_s = time.time(), None if drill is None else drill.makespan_s
    longest_s = None if plan is None else credentials.longest_s(plan)
    judged = [credentials.judged(life, now, likely_s=likely_s, longest_s=longest_s) for life in lives]
    return [Finding("credential's life", verdict, told) for verdict, told in judged]


async def _secrets(environment: Environment, secrets: Secrets, source: str) -> list[Finding]:
    """Every secret that the target side and the sites beside it need can be had now."""
    import anyio.to_thread

    wanted = {d.password.ref for d in environment.databases if d.site != source}
    wanted |= {h.key.ref for h in environment.hosts if h.site != source}
    missing: list[str] = []
    for ref in sorted(wanted):
        try:
            await anyio.to_thread.run_sync(secrets.get, ref)
        except DrkitError as error:
            missing.append(error.message.splitlines()[0])
    if missing:
        return [Finding("secrets", "FAIL", "; ".join(missing))]
    return [Finding("secrets", "OK", f"{len(wanted)} of {len(wanted)} can be read")]


async def _last_drill(environment: Environment) -> list[Finding]:
    from drkit.cli.seen import last_good_drill

    drill = last_good_drill(environment.name)
    if drill is None:
        return [Finding("last good drill", "WARN", "none on this machine: drkit drill run SCENARIO")]
    age_s = time.time() - drill.finished_wall
    verdict: Verdict = "OK" if age_s <= DRILL_AGE_S_MAX else "WARN"
    return [Finding("last good drill", verdict, f"{drill.run}, {age_s / 86400:.1f} days ago (limit 14)")]


def needed_in(environment: Environment, source: str) -> list[tuple[Verdict, str]]:
    """What a recovery from the loss of `source` would need there, as the environment says. Pure."""
    bad: list[str] = []
    if environment.state_store_site == source:
        bad.append("the state store")
    if environment.witness is not None and environment.witness.site == source:
        bad.append(f"witness {environment.witness.name}")
    bad += [
        f"the password of {d.name} in {d.site}"
        for d in environment.databases
        if d.site != source and d.password.ref.startswith(f"secret://aws-sm/{source}/")
    ]
    bad += [
        f"the key of host {h.name}"
        for h in environment.hosts
        if h.site != source and h.key.ref.startswith(f"secret://aws-sm/{source}/")
    ]
    routers = [site.name for site in environment.sites if site.routing_endpoint is not None]
    if routers and set(routers) == {source}:
        bad.append("the only endpoint of the routing controls")
    if bad:
        return [("FAIL", f"{what} is in {source}") for what in bad]
    return [("OK", f"state store, witness, secrets and routing controls stand outside {source}")]
