"""data.replication-lag: a standby receives what it follows, and does not replay it."""

from __future__ import annotations

import shlex
from typing import Annotated

from annotated_types import Predicate

from drkit.catalog import probe
from drkit.chaos.faults._copies import DataFault, OnCopy, copies_only
from drkit.chaos.faults._kept import said
from drkit.chaos.onhost import Recipe, host_fault
from drkit.context import Context
from drkit.model.observation import Observation, State


class Standby(OnCopy):
    """A PostgreSQL server on a host: `path` is its data folder."""

    conninfo: Annotated[str, Predicate(lambda said: "password" not in said)] = ""
    """How `psql` on the host reaches it as a superuser; no password: those belong into a password file there."""


class Replay(Observation):
    """How a server takes in what it follows."""

    standby: bool
    paused: bool
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
  pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())::bigint"""


def _with_server(p: Standby, script: str) -> str:
    return f"conninfo={shlex.quote(p.conninfo)} path={shlex.quote(p.path)}\n{_ASK}{script}"


@probe("data.replay")
async def replay(ctx: Context, p: Standby) -> Replay:
    """Whether a server follows another one, and how far behind what it received it replays."""
    standby, paused, behind = (await said(ctx, p, _with_server(p, f'meant\nask "{_LOOK}"'))).strip().split("|")
    return Replay(
        answered_by=p.host, standby=standby == "t", paused=paused == "t", behind_bytes=int(behind) if behind else None
    )


class ReplicationLag(Standby, DataFault):
    """Which standby."""


@host_fault("data.replication-lag", observe=replay, consent="original", guard=copies_only)
def hold_back(p: ReplicationLag) -> Recipe:
    """Let a standby replay nothing more: readers there see the past, and a promotion has all of it still to do."""
    pause = """meant
case $(ask 'select pg_is_in_recovery() and not pg_is_wal_replay_paused()') in
  t) ;;
  *) echo "it follows nobody, or somebody else has paused it"; exit 1 ;;
esac
echo yes >"$FAULT/paused" || exit 1
ask 'select pg_wal_replay_pause()'"""
    # A server that was promoted or restarted meanwhile is not paused any more.
    go_on = """[ -e "$FAULT/paused" ] || exit 0
meant
ask 'select pg_wal_replay_resume() where pg_is_in_recovery()' || exit 1
rm "$FAULT/paused\""""
    return Recipe(_with_server(p, pause), _with_server(p, go_on))


@hold_back.check
def held_back(p: ReplicationLag, now: Replay) -> State:
    """It is a standby, and paused."""
    return State.HOLDS if now.standby and now.paused else State.ABSENT
