"""The end of a recovery: a signed statement of time and loss, protection in the other direction, the list for failback.

The statement is kept in the environment's state store, signed with the operator's key, so that it can be shown later
that it was written then and not changed since. The report is made from the journal; this is what stands beside it.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import anyio.to_thread

from drkit.actions.database import Proof, prove
from drkit.actions.trying import tried
from drkit.catalog import action, probe
from drkit.context import Context
from drkit.errors import StepFailed
from drkit.measure.findings import attach
from drkit.measure.journeys import journeys
from drkit.measure.readings import read
from drkit.measure.recovery import Terms, recovery
from drkit.model.measurements import Recovery
from drkit.model.observation import Observation, State
from drkit.model.params import Params, SiteName, Use
from drkit.model.values import canonical, digest, utc
from drkit.providers.objects import open_objects
from drkit.providers.postgres import Postgres

SCHEMA = "drkit.handover/1"


class Handover(Params):
    """What is handed over."""

    database: str
    """Database that is protected in the other direction."""
    site: SiteName = "target"
    """Side that serves now."""
    left: SiteName = "source"
    """Side that was left, and is to follow."""
    failback: list[str]
    """What has to be seen to before going back, a sentence each."""


class HandedOver(Observation):
    """What is so now."""

    slot: bool
    """The log that the side left will need is kept for it."""
    following: bool
    """The side left follows already."""
    source: str
    """Whether the side left answers."""
    statement: str | None
    """Digest of the statement; null: there is none."""
    signed: bool
    """Its signature is the operator's, over exactly what it says."""
    recovery_seconds: float | None = None
    loss_seconds: float | None = None


def slot_name(left: str) -> str:
    """Name of the replication slot for a side."""
    return "reprotect_" + "".join(letter if letter.isalnum() else "_" for letter in left.lower())


@probe("handover.state")
async def state(ctx: Context, p: Handover) -> HandedOver:
    """Look for the slot and who uses it, and check the statement and its signature."""
    postgres = ctx.use(Postgres)
    slot, left = slot_name(ctx.site(p.left).name), ctx.site(p.left).name
    sql = """select exists(select from pg_replication_slots where slot_name = %s) as slot,
                    exists(select from pg_stat_replication where application_name = %s) as following"""
    found = (await postgres.query(p.database, p.site, sql, [slot, left]))[0]
    source, _ = await tried(ctx, postgres.identity(p.database, left), deadline_s=1.5, fenced=True)
    kept = await anyio.to_thread.run_sync(lambda: _read(ctx))
    statement: dict[str, Any] = kept["statement"] if kept else {}
    return HandedOver(
        slot=found["slot"],
        following=found["following"],
        source=source,
        statement=digest(statement) if kept else None,
        signed=kept is not None and verified(kept, _key(ctx)),
        recovery_seconds=(statement.get("recovery") or {}).get("seconds"),
        loss_seconds=(statement.get("loss") or {}).get("seconds"),
    )


def _where(ctx: Context) -> str:
    return f"handover/{ctx.run}.json"


def _read(ctx: Context) -> dict[str, Any] | None:
    found = open_objects(ctx.environment).get(_where(ctx))
    return None if found is None else json.loads(found[0])


def _key(ctx: Context) -> Any:
    """The operator's private key, which is what hosts know drkit by."""
    import asyncssh

    if not ctx.environment.hosts:
        raise StepFailed("This environment has no host, and so no operator's key to sign with.", world="untouched")
    return asyncssh.import_private_key(ctx.secrets.get(ctx.environment.hosts[0].key))


def signed(statement: dict[str, Any], key: Any) -> dict[str, Any]:
    """A statement with its signature and the public key it can be checked with."""
    signature = base64.b64encode(key.sign(canonical(statement), key.sig_algorithms[0])).decode()
    public = key.export_public_key().decode().strip()
    return {"statement": statement, "signature": signature, "public_key": public}


def verified(kept: dict[str, Any], key: Any) -> bool:
    """Whether the signature is that of this key over this statement."""
    try:
        signature = base64.b64decode(kept["signature"])
    except (KeyError, ValueError):
        return False
    return bool(key.convert_to_public().verify(canonical(kept["statement"]), signature))


@action("handover.close", observe=state, repeat="safe", timeout_s=60, skippable=False)
async def close(ctx: Context, p: Handover, before: HandedOver) -> None:
    """Keep the log for the side left, write down what was measured and what failback has to see to, and sign it."""
    slot = slot_name(ctx.site(p.left).name)
    if not before.slot:
        make = ("select pg_create_physical_replication_slot(%s, true)", [slot])
        await ctx.use(Postgres).change(p.database, p.site, [make], role="primary", permit=ctx.permit)
    proven = await prove(ctx, Proof(database=p.database, site=p.site, rows_min={}))
    seen = await anyio.to_thread.run_sync(lambda: _recovery(ctx))
    statement = {
        "schema": SCHEMA,
        "run": ctx.run,
        "drill": ctx.drill,
        "environment": ctx.environment.name,
        "from": ctx.source,
        "to": ctx.target,
        "at": utc(ctx.clock.wall()),
        "recovery": {
            "seconds": seen.seconds if seen else None,
            "reason": seen.reason if seen else "there is no prober",
            "outage_started_at": seen.outage_started_at if seen else None,
            "recovered_at": seen.recovered_at if seen else None,
        },
        "loss": {"seconds": proven.loss_s, "reason": proven.why, "lost": proven.lost, "holes": proven.holes},
        "reprotection": {"slot": slot, "following": before.following, "source": before.source},
        "failback": p.failback,
    }
    kept = canonical(signed(statement, _key(ctx)))
    await anyio.to_thread.run_sync(lambda: open_objects(ctx.environment).put(_where(ctx), kept))


def _recovery(ctx: Context) -> Recovery | None:
    prober, attached = ctx.environment.prober, attach(ctx.environment)
    if prober is None or attached.probes is None:
        return None
    records = read(Path(attached.probes.path)).records
    terms = Terms(window_s=prober.window_s, objective=prober.objective, interval_s=prober.interval_s)
    return recovery(journeys(records), terms)


@close.check
def closed(p: Handover, now: HandedOver) -> State:
    """The log is kept for whoever was left, and a signed statement stands in the state store."""
    return State.HOLDS if now.slot and now.statement is not None and now.signed else State.ABSENT


@close.undo
def stays_closed(p: Handover, before: HandedOver, after: HandedOver | None) -> Use | None:
    """A statement is not taken back, and a log that is kept harms nobody until failback."""
    return None
