"""A PostgreSQL standby on a host: how it is asked there, and how it replays what it follows."""

from __future__ import annotations

import shlex
from typing import Annotated

from annotated_types import Predicate

from drkit.catalog import probe
from drkit.chaos.faults._copies import OnCopy
from drkit.chaos.faults._kept import said
from drkit.context import Context
from drkit.model.observation import Observation


class Standby(OnCopy):
    """A PostgreSQL server on a host: `path` is its data folder."""

    conninfo: Annotated[str, Predicate(lambda said: "password" not in said)] = ""
    """How `psql` on the host reaches it as a superuser; no password: those belong into a password file there."""


class Replay(Observation):
    """How a server takes in what it follows."""

    standby: bool
    paused: bool
    delay_s: float = 0.0
    """So long it lets each commit wait before it replays it, as it is set."""
    behind_bytes: int | None = None
    """Received and not yet replayed; None: it follows nobody."""


#: Shell: `ask SQL` asks the server at `$conninfo`; `meant` whether it is the one whose data are in `$path`.
_ASK = r"""export PGCONNECT_TIMEOUT=5 PGOPTIONS='-c statement_timeout=5s'
ask() { psql -XAtwq -v ON_ERROR_STOP=1 -d "$conninfo" -c "$1" </dev/null; }
meant() {
  data=$(ask 'show data_directory') || exit 1
  [ "$(readlink -f -- "$data")" = "$(readlink -f -- "$path")" ] || { echo "it keeps its data in $data" >&2; exit 1; }
}
"""
_LOOK = """select pg_is_in_recovery(), case when pg_is_in_recovery() then pg_is_wal_replay_paused() end,
  extract(epoch from current_setting('recovery_min_apply_delay')::interval),
  pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())::bigint"""


def with_server(p: Standby, script: str) -> str:
    """Shell that can ask the standby."""
    return f"conninfo={shlex.quote(p.conninfo)} path={shlex.quote(p.path)}\n{_ASK}{script}"


@probe("data.replay")
async def replay(ctx: Context, p: Standby) -> Replay:
    """Whether a server follows another one, and how far behind what it received it replays."""
    answer = await said(ctx, p, with_server(p, f'meant\nask "{_LOOK}"'))
    standby, paused, delay, behind = answer.strip().split("|")
    return Replay(
        answered_by=p.host, standby=standby == "t", paused=paused == "t", delay_s=float(delay),
        behind_bytes=int(behind) if behind else None,
    )  # fmt: skip
