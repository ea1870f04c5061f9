"""A promoted database made fit to serve, and its content proven against what was acknowledged outside it."""

from __future__ import annotations

from pathlib import Path

import anyio.to_thread

from drkit.catalog import action, probe
from drkit.context import Context
from drkit.errors import JournalError, Refused, Unobservable
from drkit.measure import ledgers
from drkit.measure.findings import attach
from drkit.measure.loss import Coverage, loss
from drkit.measure.readings import Readings, read
from drkit.model.measurements import Loss, Write
from drkit.model.observation import Observation, State
from drkit.model.params import Params, SiteName, Use
from drkit.providers.postgres import Postgres, why_not_meant


class Fitness(Params):
    """What a database needs to serve."""

    database: str
    """Name of the database in the environment."""
    site: SiteName = "target"
    """Its side."""
    roles: list[str]
    """Roles that must exist and may log in."""
    extensions: list[str] = ["plpgsql"]
    """Extensions that must be there."""
    settings: dict[str, str] = {"fsync": "on", "full_page_writes": "on"}
    """Settings and the values they must have."""
    skip: int = 1000
    """Numbers that each sequence skips: those that the old primary gave out and nobody copied are never given again."""


class FitnessState(Observation):
    """What is so now. `missing` and `wrong` are empty where all is well."""

    primary: bool
    sequences: dict[str, int]
    """How far each sequence is ahead of the highest number in its table."""
    missing: list[str]
    """Roles that are not there or may not log in, extensions that are not there."""
    wrong: dict[str, str]
    """Settings with another value."""
    fencing_token: int
    """Highest holder that has changed this database."""
    ours: bool
    """No newer holder has."""
    standbys: int
    """Standbys that follow it."""


_SEQUENCES = """
select n.nspname || '.' || c.relname as name, d.refobjid::regclass::text as "table", a.attname as "column"
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  join pg_depend d on d.objid = c.oid and d.deptype in ('a', 'i') and d.classid = 'pg_class'::regclass
  join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
 where c.relkind = 'S' and n.nspname not in ('pg_catalog', 'information_schema')
 order by 1
"""
_FACTS = """
select array(select r from unnest(%(roles)s::text[]) r
              where not exists (select from pg_roles where rolname = r and rolcanlogin)) as roles,
       array(select e from unnest(%(extensions)s::text[]) e
              where not exists (select from pg_extension where extname = e)) as extensions,
       (select json_object_agg(name, setting) from pg_settings where name = any(%(settings)s)) as settings,
       (select token from fence_token where environment = %(environment)s) as token,
       (select count(*) from pg_stat_replication) as standbys
"""


@probe("database.fitness")
async def fitness(ctx: Context, p: Fitness) -> FitnessState:
    """Read sequences, roles, extensions, settings and the fencing token of a database."""
    postgres = ctx.use(Postgres)
    who = await postgres.identity(p.database, p.site)
    if (why := why_not_meant(who, ctx.environment.database(p.database, p.site), "any")) is not None:
        raise Unobservable(f"{p.database} in {p.site} does not answer as itself: {why}.")
    asked = {
        "roles": p.roles,
        "extensions": p.extensions,
        "settings": sorted(p.settings),
        "environment": ctx.environment.name,
    }
    facts = (await postgres.query(p.database, p.site, _FACTS, asked))[0]
    settings = facts["settings"] or {}
    token = facts["token"]
    return FitnessState(
        primary=not who.in_recovery,
        sequences=await _sequences(ctx, p),
        missing=[*facts["roles"], *facts["extensions"], *([] if token is not None else ["fence_token"])],
        wrong={name: str(settings.get(name)) for name, value in p.settings.items() if settings.get(name) != value},
        fencing_token=token or 0,
        ours=(token or 0) <= ctx.fencing_token,
        standbys=facts["standbys"],
        answered_by=str(who),
    )


async def _sequences(ctx: Context, p: Fitness) -> dict[str, int]:
    postgres = ctx.use(Postgres)
    ahead: dict[str, int] = {}
    for found in await postgres.query(p.database, p.site, _SEQUENCES):
        # Names come from the catalog, quoted by it.
        highest = f'(select max("{found["column"]}") from {found["table"]})'
        sql = f"select s.last_value - coalesce({highest}, 0) as n from {found['name']} s"
        ahead[found["name"]] = int((await postgres.query(p.database, p.site, sql))[0]["n"])
    return ahead


@action(
    "database.settle", observe=fitness, repeat="safe", unfenced=False, timeout_s=60, skippable=False,
)  # fmt: skip
async def settle(ctx: Context, p: Fitness, before: FitnessState) -> None:
    """Let sequences skip what the old primary may have given out, and write down who holds the database now."""
    mark = "update fence_token set token = %s where environment = %s and token <= %s returning token"
    statements: list[tuple[str, list[object]]] = [(mark, [ctx.fencing_token, ctx.environment.name, ctx.fencing_token])]
    for name, ahead in before.sequences.items():
        if ahead < p.skip:
            move = f"select setval('{name}', (select last_value from {name}) + %s)"
            statements.append((move, [p.skip - ahead]))
    rows = await ctx.use(Postgres).change(p.database, p.site, statements, role="primary", permit=ctx.permit)
    if not rows[0]:
        raise Refused(f"A newer holder than {ctx.fencing_token} has changed {p.database} already.")


@settle.check
def settled(p: Fitness, now: FitnessState) -> State:
    """A primary with everything it needs, whose sequences are ahead, and which nobody newer has touched."""
    if not now.primary or now.missing or now.wrong or not now.ours:
        return State.UNKNOWN
    return State.HOLDS if all(ahead >= p.skip for ahead in now.sequences.values()) else State.ABSENT


@settle.undo
def stays_settled(p: Fitness, before: FitnessState, after: FitnessState | None) -> Use | None:
    """Numbers that were skipped stay skipped: giving them out again is what this prevents."""
    return None


class Proof(Params):
    """What the content must be like."""

    database: str
    """Name of the database in the environment."""
    site: SiteName = "target"
    """Its side."""
    rows_min: dict[str, int]
    """Tables and how many rows each must at least have."""


class Proven(Observation):
    """Counts, constraints, and the ledgers compared. `ok`: nothing is broken; what was lost is stated, not judged."""

    ok: bool
    rows: dict[str, int]
    short: list[str]
    """Tables with fewer rows than they must have."""
    orphans: int
    """Rows that refer to something that is not there, over all foreign keys."""
    unchecked: list[str]
    """Constraints that are not validated."""
    acknowledged: int
    survived: int
    lost: int
    holes: int
    """Lost writes with a survivor behind them: not a cut tail but something missing in the middle."""
    loss_s: float | None
    """Data-loss window; null with the reason in `why`."""
    why: str | None = None
    stated: str
    """The loss in words."""


@probe("database.prove")
async def prove(ctx: Context, p: Proof) -> Proven:
    """Count rows, look for orphans behind every foreign key, and compare both ledgers with what is there."""
    postgres = ctx.use(Postgres)
    # The ledgers first: what is acknowledged while we read the database must not look lost.
    kept, why = await anyio.to_thread.run_sync(lambda: _ledgers(ctx))
    rows = {
        table: int((await postgres.query(p.database, p.site, f'select count(*) as n from "{table}"'))[0]["n"])
        for table in sorted(p.rows_min)
    }
    orphans, unchecked = await _constraints(ctx, p)
    short = [table for table, least in p.rows_min.items() if rows[table] < least]
    found = await _compare(ctx, p, kept) if kept else None
    return Proven(
        ok=not short and not orphans and not unchecked and found is not None and found.window_seconds is not None
        and not found.holes,
        rows=rows,
        short=sorted(short),
        orphans=orphans,
        unchecked=unchecked,
        acknowledged=found.acknowledged if found else 0,
        survived=found.survived if found else 0,
        lost=found.lost if found else 0,
        holes=found.holes if found else 0,
        loss_s=found.window_seconds if found else None,
        why=found.reason if found else why,
        stated=_stated(found) if found else f"the loss is not known: {why}",
    )  # fmt: skip


def _stated(found: Loss) -> str:
    if found.window_seconds is None:
        return f"{found.lost} confirmed writes are lost, over a time that is not known: {found.reason}"
    if not found.lost:
        return f"none of {found.acknowledged} confirmed writes is lost"
    return f"{found.lost} of {found.acknowledged} confirmed writes are lost, a stretch of {found.window_seconds:.3f} s"


_FOREIGN_KEYS = """
select conname as name, convalidated as valid, conrelid::regclass::text as child, confrelid::regclass::text as parent,
       (select attname from pg_attribute where attrelid = conrelid and attnum = conkey[1]) as child_column,
       (select attname from pg_attribute where attrelid = confrelid and attnum = confkey[1]) as parent_column
  from pg_constraint where contype = 'f' and cardinality(conkey) = 1 order by 1
"""


async def _constraints(ctx: Context, p: Proof) -> tuple[int, list[str]]:
    postgres = ctx.use(Postgres)
    orphans, unchecked = 0, []
    for key in await postgres.query(p.database, p.site, _FOREIGN_KEYS):
        child, parent = f'c."{key["child_column"]}"', f'p."{key["parent_column"]}"'
        sql = (
            f"select count(*) as n from {key['child']} c where {child} is not null"
            f" and not exists (select from {key['parent']} p where {parent} = {child})"
        )
        orphans += int((await postgres.query(p.database, p.site, sql, timeout_s=10))[0]["n"])
        if not key["valid"]:
            unchecked.append(key["name"])
    return orphans, unchecked


def _ledgers(ctx: Context) -> tuple[list[Readings], str | None]:
    attached = attach(ctx.environment)
    kept: list[Readings] = []
    for ref in (attached.canary, attached.orders):
        if ref is None:
            return [], "; ".join(attached.reasons) or "a ledger is missing"
        try:
            kept.append(read(Path(ref.path)))
        except JournalError as error:
            return [], str(error)
    return kept, None


async def _compare(ctx: Context, p: Proof, kept: list[Readings]) -> Loss:
    entries = ledgers.writes(kept)
    postgres = ctx.use(Postgres)
    first = ledgers.first_canary(kept)
    numbers = await postgres.query(p.database, p.site, "select n from canary where n >= %s", [first or 0], timeout_s=10)
    orders = [write.id.removeprefix("order:") for write in entries if write.id.startswith("order:")]
    sql = "select order_uuid::text as id from orders where order_uuid = any(%s::uuid[])"
    placed = await postgres.query(p.database, p.site, sql, [orders], timeout_s=10)
    there = {ledgers.canary_id(row["n"]) for row in numbers} | {ledgers.order_id(row["id"]) for row in placed}
    return weigh(entries, there, Coverage(sorted(t for each in kept for t in ledgers.coverage(each).instants_t)))


def weigh(entries: tuple[Write, ...], there: set[str], coverage: Coverage) -> Loss:
    """The loss as far as it is known before the run is over: judged from the first lost write to the last."""
    gone = [write.t for write in entries if write.acknowledged and write.id not in there]
    last = max((write.t for write in entries if write.acknowledged), default=None)
    from_t, to_t = (min(gone), max(gone)) if gone else (last, last)
    return loss(entries, there, coverage=coverage, outage_started_t=from_t, fenced_t=to_t)
