"""How far everything that is replicated has got: the database, the table, the bucket, and the last good backup."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio.to_thread

from drkit.actions.aws_dynamodb import Table
from drkit.actions.aws_dynamodb import state as table_state
from drkit.actions.aws_ec2 import Volume
from drkit.actions.aws_ec2 import volume_state as snapshot_state
from drkit.actions.aws_s3 import Bucket
from drkit.actions.aws_s3 import state as bucket_state
from drkit.actions.postgres import Pair, Replication
from drkit.actions.postgres import replication as database_state
from drkit.actions.together import together
from drkit.catalog import probe
from drkit.context import Context
from drkit.errors import Unobservable
from drkit.measure.readings import announced, tail
from drkit.model.observation import Observation
from drkit.model.params import Params
from drkit.providers.postgres import Postgres


class Replicated(Params):
    """What is replicated."""

    database: str
    """Name of the database in the environment."""
    table: str
    """DynamoDB table."""
    bucket: str
    """Bucket in the region entered."""
    source_bucket: str
    """Bucket that it is replicated from."""
    snapshot: str
    """`Name` tag of the snapshots that are the last good backup of files."""


class Positions(Observation):
    """How far each has got. What only the source can say is null while it is unreachable."""

    source: str
    database_lsn: str | None
    database_replayed_lsn: str | None
    source_lsn: str | None
    standby: bool
    """The target's database still follows."""
    canary_n: int | None
    """Newest canary on the target."""
    acknowledged_n: int | None
    """Newest canary that the ledger outside has as acknowledged."""
    loss_s: float | None
    """Age of the newest canary on the target when the newest acknowledged one was written: what would be lost."""
    table_items: int
    source_table_items: int | None
    bucket_objects: int
    bucket_backlog: int | None
    snapshot: str | None
    snapshot_age_h: float | None


@probe("replication.positions", side="neither")
async def positions(ctx: Context, p: Replicated) -> Positions:
    """Read every position at the target, and at the source for as long as that answers."""
    where = Bucket(site=ctx.target, bucket=p.bucket, source_bucket=p.source_bucket, parameter="/drkit/none")
    asked: list[Awaitable[Any]] = [
        database_state(ctx, Pair(database=p.database)),
        table_state(ctx, Table(site=ctx.target, table=p.table)),
        bucket_state(ctx, where),
        snapshot_state(ctx, Volume(site=ctx.target, name=p.snapshot)),
    ]
    database, table, bucket, snapshot = await together(asked)
    acknowledged_n, loss_s = await expected_loss(ctx, p.database, database)
    return Positions(
        source=database.source,
        database_lsn=database.target_lsn,
        database_replayed_lsn=database.target_replayed_lsn,
        source_lsn=database.source_lsn,
        standby=database.target_is_standby,
        canary_n=database.last_canary_n,
        acknowledged_n=acknowledged_n,
        loss_s=loss_s,
        table_items=table.items,
        source_table_items=table.source_items,
        bucket_objects=bucket.objects,
        bucket_backlog=bucket.backlog,
        snapshot=snapshot.snapshot,
        snapshot_age_h=snapshot.snapshot_age_h,
        answered_by=database.answered_by,
    )


async def expected_loss(ctx: Context, database: str, seen: Replication) -> tuple[int | None, float | None]:
    """Newest acknowledged canary and how much older the newest one on the target is, in seconds.

    Null without a ledger or without a canary on the target: unknown is not zero.
    """
    newest = await anyio.to_thread.run_sync(lambda: _last_acknowledged(ctx))
    if newest is None or seen.last_canary_n is None:
        return (newest[0] if newest else None), None
    number, at = newest
    if number <= seen.last_canary_n:
        return number, 0.0
    sql = "select written_at from canary where n = %s"
    written = (await ctx.use(Postgres).query(database, ctx.target, sql, [seen.last_canary_n]))[0]["written_at"]
    return number, round(max(0.0, (at - written.astimezone(UTC)).total_seconds()), 3)


def _last_acknowledged(ctx: Context) -> tuple[int, datetime] | None:
    prober = ctx.environment.prober
    if prober is None:
        return None
    try:
        ledger = announced(Path(prober.folder))["canary"]
        writes = [record for record in tail(ledger, bytes_max=1 << 22) if record.get("outcome") == "acknowledged"]
    except (OSError, ValueError, KeyError) as error:
        raise Unobservable(f"The canary ledger cannot be read: {error}.") from error
    if not writes:
        return None
    return int(writes[-1]["n"]), datetime.fromisoformat(writes[-1]["at"])
