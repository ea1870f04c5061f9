"""data.replication-lag: a standby receives what it follows, and does not replay it."""

from __future__ import annotations

from drkit.chaos.faults._copies import DataFault, copies_only
from drkit.chaos.faults._standby import Replay, Standby, replay, with_server
from drkit.chaos.onhost import Recipe, host_fault
from drkit.model.observation import State


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
    return Recipe(with_server(p, pause), with_server(p, go_on))


@hold_back.check
def held_back(p: ReplicationLag, now: Replay) -> State:
    """It is a standby, and paused."""
    return State.HOLDS if now.standby and now.paused else State.ABSENT
