"""PostgreSQL: fence the old writer, promote the new one. Who may write is what the witness says, not what we sent.

Where no witness says anything, the fence fails and says what that means. If two persons override it, the promotion is
handed to the target's agent, which asks the witness once more, lets the old writer's term pass, and writes then.

Both sides of a replicated pair carry the same system identifier, so it proves the pair and the role proves the side.
"""

from __future__ import annotations

from typing import Literal

from drkit.catalog import action, probe
from drkit.context import Context
from drkit.errors import StepFailed, Unobservable
from drkit.model.environment import Database, Witness
from drkit.model.observation import Observation, State
from drkit.model.paper import Paper, curl, lines, literal
from drkit.model.params import Params, SiteName
from drkit.providers.agents import Agents
from drkit.providers.postgres import Postgres, why_not_meant
from drkit.providers.witness import WitnessClient, WriterLease


class DatabaseSide(Params):
    """One side of a replicated database."""

    database: str
    """Name of the database in the environment."""
    site: SiteName
    """Side that is meant: a site's name, `source` or `target`."""


class Writer(Observation):
    """What a server says of itself, and what the witness says of the writer's lease."""

    reachable: bool
    """The server answered; None of its own words are known otherwise."""
    why: str | None = None
    """Why it is not reachable, or why who answered is not who was meant."""
    system_identifier: str | None = None
    in_recovery: bool | None = None
    read_only: bool | None = None
    waits_for_standby: bool | None = None
    """Commits wait for a synchronous standby, and none is connected."""
    is_other_side: bool | None = None
    """Who answered here is the server that also answers on another side. Null: no other side could be asked."""
    lease_site: str | None = None
    lease_epoch: int | None = None
    lease_expired: bool | None = None
    lease_revoked: str | None = None
    lease_released: bool | None = None
    seconds_since_renewal: float | None = None
    witness: str | None = None
    override_epoch: int | None = None
    """While no witness answers: the epoch under which the server writes by override, as its agent says."""
    overridden_by: tuple[str, ...] | None = None
    """On whose word it does."""


_WRITER = """
select (select system_identifier::text from pg_control_system()) as system_identifier,
       pg_is_in_recovery() as in_recovery,
       current_setting('transaction_read_only') = 'on' as read_only,
       current_setting('cluster_name') as cluster_name,
       current_setting('synchronous_standby_names') <> ''
         and not exists (select from pg_stat_replication where sync_state in ('sync', 'quorum')) as waits_for_standby
"""


async def _lease(ctx: Context) -> WriterLease | None:
    """What the witness says; None if there is none or it does not answer: unknown, never free."""
    try:
        return await ctx.use(WitnessClient).lease()
    except Unobservable:
        return None


async def _server(ctx: Context, p: DatabaseSide) -> dict[str, object]:
    """What the server says of itself. Silence is an answer here: it is what the lease is for."""
    try:
        rows = await ctx.use(Postgres).query(p.database, p.site, _WRITER, timeout_s=1)
    except Unobservable as error:
        return {"reachable": False, "why": error.message}
    return {"reachable": True, **rows[0]}


async def _is_other_side(ctx: Context, p: DatabaseSide, name: object) -> bool | None:
    """Whether a server of this cluster name also answers elsewhere: then the address of this side leads there."""
    found: set[object] = set()
    for side in ctx.environment.databases:
        if side.name == p.database and side.site != p.site:
            said = await _server(ctx, DatabaseSide(database=p.database, site=side.site))
            found.add(said.get("cluster_name"))
    found -= {None, ""}
    return name in found if found else None


@probe("postgres.writer")
async def writer(ctx: Context, p: DatabaseSide) -> Writer:
    """Whether a server answers, as what, and whether the witness counts it as the writer."""
    side = ctx.environment.database(p.database, p.site)
    said = await _server(ctx, p)
    name = said.pop("cluster_name", None)
    lease = await _lease(ctx)
    now = Writer.model_validate(
        {
            **said,
            "is_other_side": await _is_other_side(ctx, p, name) if name else None,
            "answered_by": f"{side.address} system {said['system_identifier']}" if said["reachable"] else None,
            **(await _by_override(ctx, p) if lease is None else _said_of(lease)),
            "witness": ctx.environment.witness.name if ctx.environment.witness and lease else None,
        }
    )
    if now.reachable and now.system_identifier != side.system_identifier:
        return now.model_copy(update={"why": f"system {now.system_identifier} is not {side.system_identifier}"})
    return now


@writer.by_hand
def look_at_writer(p: DatabaseSide, paper: Paper) -> str:
    """The witness first: its word counts; then the server, which can only say what it is, not what it may do."""
    side, known = paper.database(p.database, p.site), paper.environment.witness
    return lines(
        [curl(f"{known.url}/lease")] if known else ["# there is no witness: only what the server says counts"],
        f"# the server must say system {side.system_identifier}; a standby has in_recovery t, a writer f",
        paper.psql(p.database, p.site, _WRITER.strip()) + " || echo UNREACHABLE, which proves nothing",
    )


async def _by_override(ctx: Context, p: DatabaseSide) -> dict[str, object]:
    """No witness says who writes: what the server's agent says, if it has one that answers."""
    try:
        found = await ctx.use(Agents).overridden(p.database, p.site)
    except Unobservable:
        found = None
    return {"override_epoch": found.epoch, "overridden_by": found.by} if found is not None else {}


def _said_of(lease: WriterLease) -> dict[str, object]:
    return {
        "lease_site": lease.site,
        "lease_epoch": lease.epoch,
        "lease_expired": lease.expired,
        "lease_revoked": lease.revoked,
        "lease_released": lease.released,
        "seconds_since_renewal": round(lease.seconds_since_renewal, 3),
    }


class Fence(DatabaseSide):
    """Make the old writer unable to write, and see it: revoke its lease first, so that it cannot come back."""

    reason: str = "failover"
    """Written down at the witness and told to clients that are turned away."""


@action(
    "postgres.fence", observe=writer, repeat="safe", fences=True, unfenced=False, timeout_s=60, poll_s=0.1,
    irreversible="from here on only failback may make this side a writer again",
)  # fmt: skip
async def fence(ctx: Context, p: Fence, before: Writer) -> None:
    """Revoke the writer's lease at the witness; a writer that still hears stops by itself and hands everything over."""
    client = ctx.use(WitnessClient)
    known = ctx.environment.witness
    patience_s = known.term_s + known.margin_s if known is not None else 0.0
    until = ctx.clock.monotonic() + patience_s
    while True:
        try:
            lease = await client.lease()
            # Never another side's lease: once the target is the writer, revoking would take the recovered service down.
            if lease.site in (None, p.site) and lease.revoked is None:
                await client.revoke(f"{p.reason} ({ctx.token})", permit=ctx.permit)
            return
        except Unobservable as error:
            if before.in_recovery:
                return  # there is no lease of its own to revoke; the check looks whether it still is so
            if ctx.clock.monotonic() > until:
                raise StepFailed(_unwitnessed(p.site, known, error), world="untouched") from error
        await ctx.clock.sleep(0.2)


@fence.by_hand
def fence_by_hand(p: Fence, paper: Paper) -> str:
    """Revoke the lease, but only that of this side; then wait until it has run out on the witness's own clock."""
    known, site = paper.environment.witness, paper.site(p.site).name
    if known is None:
        return lines(
            f"# There is no witness, so no command here fences {site}. Stop its server where it runs (its host,",
            "# its console, its power) and see it stopped, or see it answer as a standby. Silence is not a fence.",
        )
    ours = f'"site": ?("{site}"|null)'
    return lines(
        f"# 1 revoke, if the lease is {site}'s or nobody's. Any other site is the writer already: do not revoke it.",
        f"{curl(f'{known.url}/lease')} | grep -Eq '{ours}' &&"
        f" {curl(f'{known.url}/revoke', method='POST', body={'reason': p.reason})} || echo NOT REVOKED",
        f"# 2 wait: whoever held it stops itself within {known.term_s:g} s; the witness adds {known.margin_s:g} s",
        f"sleep {int(known.term_s + known.margin_s) + 1}",
        "# 3 the fence holds when, and only when, this prints FENCED",
        f'{curl(f"{known.url}/lease")} | grep -E \'"expired": ?true\' | grep -Eq \'"revoked": ?"\''
        " && echo FENCED || echo NOT FENCED",
        f"# If the witness does not answer, nothing is fenced; {site} may still be writing. Stop its server where it",
        "# runs and see it stopped, or let two persons decide, who state the loss they accept. Do not promote before.",
    )


def _unwitnessed(site: str, known: Witness | None, error: Unobservable) -> str:
    """What is known without a witness, and what whoever goes on all the same vouches for."""
    if known is None:
        return f"{error.message} {site} may still be writing: what it acknowledges after a promotion is lost."
    return (
        f"The witness ({known.name}) does not say who may write: {error.message.rstrip('.')}. If it is dead, the "
        f"writer in {site} has stopped itself within {known.term_s:g} s. If it lives and only we cannot reach it, "
        f"{site} may still be writing: what it acknowledges after a promotion is lost."
    )


@fence.check
def fenced(p: Fence, now: Writer) -> State:
    """Observed read-only, or witnessed: released or run out, and never to be renewed. Silence alone is unknown."""
    if now.lease_expired is not None:
        if now.lease_site not in (None, p.site):
            return State.HOLDS  # the witness grants a lease only when the one before cannot be used any more
        if now.lease_expired and now.lease_revoked is not None:
            return State.HOLDS
        return State.IN_PROGRESS if now.lease_revoked is not None else State.ABSENT
    if not now.reachable or now.why is not None or now.is_other_side is not False:
        return State.UNKNOWN
    return State.HOLDS if now.in_recovery else State.ABSENT


class Promote(DatabaseSide):
    """Make a standby the writer, once the other side cannot write any more."""

    wait_s: float = 30.0
    """How long the server may take to replay what it has, in seconds."""


@action(
    "postgres.promote", observe=writer, repeat="safe", promotes=True, unfenced=False, timeout_s=90, poll_s=0.1,
    irreversible="what the old primary alone has is left behind, and it cannot be followed any more",
)  # fmt: skip
async def promote(ctx: Context, p: Promote, before: Writer) -> None:
    """Ask a standby, having compared who answers, to finish recovery and begin a timeline of its own."""
    override = next((given for given in ctx.overrides if given.params.get("database") == p.database), None)
    if override is not None:
        known = ctx.environment.witness
        waits_s = 2 * (known.term_s + known.margin_s) if known is not None else 0.0
        await ctx.use(Agents).promote(
            p.database, p.site, by=override.by, run=ctx.run, permit=ctx.permit, loss_s=override.loss_s,
            timeout_s=p.wait_s + waits_s + 5,
        )  # fmt: skip
        return
    statement = ("select pg_promote(true, %s)", (int(p.wait_s),))
    await ctx.use(Postgres).change(
        p.database, p.site, [statement], role="standby", permit=ctx.permit, timeout_s=p.wait_s + 5
    )


@promote.by_hand
def promote_by_hand(p: Promote, paper: Paper) -> str:
    """See the fence, then promote in one statement that does nothing on any server but the standby that was meant."""
    side, known = paper.database(p.database, p.site), paper.environment.witness
    others = [each.site for each in paper.environment.databases if each.name == p.database and each.site != side.site]
    there = " or ".join(others) or "the other side"
    meant = f"system_identifier::text = {literal(side.system_identifier)} and pg_is_in_recovery()"
    statement = f"select pg_promote(true, {int(p.wait_s)}) as promoted from pg_control_system() where {meant}"
    seen = [
        f"# 1 the fence must be seen NOW: \"site\" {there} (or null), \"expired\": true and \"revoked\" with a reason.",
        f"#   If \"site\" is {side.site}, somebody has promoted it: go to the check. Anything else: stop here.",
        curl(f"{known.url}/lease"),
    ] if known else [
        f"# 1 without a witness: the server in {there} must have been seen stopped, or as a standby. Else stop.",
    ]  # fmt: skip
    return lines(
        seen,
        "# 2 what it has received; what it has not is lost. Write both down.",
        paper.psql(p.database, p.site, _POSITIONS.strip()),
        "# 3 promote: it must print one row, t. No row: this server is not the standby that was meant.",
        paper.psql(p.database, p.site, statement),
        _override_by_hand(side, known),
    )  # fmt: skip


def _override_by_hand(side: Database, known: Witness | None) -> list[str]:
    """How two persons let the agent go on where no witness will ever answer."""
    if side.agent is None or known is None:
        return []
    given = {"override": {"by": ["<FIRST PERSON>", "<SECOND PERSON>"], "run": "by-hand", "token": 1, "loss_s": 0.0}}
    return [
        "# Only if no witness answers and two persons vouch that the other side has stopped: instead of 3, with their",
        "# names, loss_s (the loss they accept) and token (above that of every run before). It waits out the term.",
        "#   " + curl(f"{side.agent}/promote", method="POST", body=given).replace("-m 5", "-m 120"),
    ]


@promote.check
def promoted(p: Promote, now: Writer) -> State:
    """Out of recovery, accepting writes, and holder of the writer's lease: one without the others is no writer.

    Without a witness only an agent that says it writes by override stands for the lease.
    """
    if not now.reachable or now.why is not None or now.is_other_side:
        return State.UNKNOWN
    if now.in_recovery:
        return State.ABSENT
    if now.lease_site is None and now.override_epoch is None:
        return State.UNKNOWN
    witnessed = now.lease_site == p.site and not now.lease_expired and now.lease_revoked is None
    may_write = witnessed or now.override_epoch is not None
    return State.HOLDS if may_write and not now.read_only and not now.waits_for_standby else State.IN_PROGRESS


class Replication(Observation):
    """Positions of a database. What the source would have to answer is null with `source` unreachable."""

    source: Literal["answered", "unreachable"]
    source_lsn: str | None = None
    target_lsn: str | None = None
    target_replayed_lsn: str | None = None
    target_is_standby: bool
    last_canary_n: int | None = None
    canary_age_s: float | None = None
    """Age of the newest canary on the target: as much as would be lost if it were promoted now and writes had gone on
    until now. Null: there is none."""


class Pair(Params):
    """A replicated database, both sides."""

    database: str
    """Name of the database in the environment."""


_POSITIONS = """
select pg_is_in_recovery() as target_is_standby,
       (case when pg_is_in_recovery() then pg_last_wal_receive_lsn() else pg_current_wal_lsn() end)::text as target_lsn,
       pg_last_wal_replay_lsn()::text as target_replayed_lsn,
       (select max(n) from canary) as last_canary_n,
       extract(epoch from clock_timestamp() - (select max(written_at) from canary))::float8 as canary_age_s
"""


_SOURCE_LSN = "select (case when pg_is_in_recovery() then null else pg_current_wal_lsn() end)::text as lsn"


@probe("postgres.replication", side="neither")
async def replication(ctx: Context, p: Pair) -> Replication:
    """How far the target has got, and the source if it still answers within a second."""
    postgres = ctx.use(Postgres)
    target = (await postgres.query(p.database, ctx.target, _POSITIONS))[0]
    meant = ctx.environment.database(p.database, ctx.target)
    who = await postgres.identity(p.database, ctx.target)
    if (why := why_not_meant(who, meant, "any")) is not None:
        raise Unobservable(f"The target does not answer as itself: {why}.")
    try:
        source_lsn = (await postgres.query(p.database, ctx.source, _SOURCE_LSN, timeout_s=1))[0]["lsn"]
    except Unobservable:
        return Replication.model_validate({"source": "unreachable", **target, "answered_by": str(meant.address)})
    return Replication.model_validate(
        {"source": "answered", "source_lsn": source_lsn, **target, "answered_by": str(meant.address)}
    )


@replication.by_hand
def look_at_replication(p: Pair, paper: Paper) -> str:
    """The target's positions, and the source's as long as it answers."""
    meant = paper.database(p.database, paper.target)
    return lines(
        "# target: target_is_standby must be t; canary_age_s is the age of the newest canary that has arrived",
        paper.psql(p.database, paper.target, _POSITIONS.strip()),
        f"# who answered must be system {meant.system_identifier}",
        paper.psql(p.database, paper.target, "select system_identifier from pg_control_system()", bare=True),
        "# source: how far it has got, if it answers",
        paper.psql(p.database, paper.source, _SOURCE_LSN) + " || echo UNREACHABLE",
    )
