"""data.replication-delay: a standby replays each commit so much later, and so is always that far behind.

Unlike one whose replay is paused it goes on replaying: whoever looks whether it is at work sees that it is, and only
who measures its lag notices. A promotion does not wait: PostgreSQL then replays all that it has received.
"""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Le

from drkit.chaos.faults._copies import DataFault, copies_only
from drkit.chaos.faults._standby import Replay, Standby, replay, with_server
from drkit.chaos.onhost import Recipe, host_fault
from drkit.model.observation import State


class ReplicationDelay(Standby, DataFault):
    """Which standby, and how far it is to be behind."""

    delay_s: Annotated[float, Ge(0.001), Le(86400)]
    """Seconds between a commit and its replay, on the clocks of both servers; thousandths count."""


@host_fault("data.replication-delay", observe=replay, consent="original", guard=copies_only)
def delay(p: ReplicationDelay) -> Recipe:
    """Let a standby wait before it replays each commit: readers there see what was so a while ago."""
    # A setting of its own is nobody's but the fault's: so its revert knows what was there before.
    slow = f"""meant
case $(ask "select pg_is_in_recovery() and not exists (
    select from pg_file_settings where name = 'recovery_min_apply_delay')") in
  t) ;;
  *) echo "it follows nobody, or somebody else has set its delay"; exit 1 ;;
esac
echo yes >"$FAULT/delayed" || exit 1
ask "alter system set recovery_min_apply_delay = '{_ms(p.delay_s)}ms'" && ask 'select pg_reload_conf()'"""
    # What somebody has set to something else meanwhile is theirs.
    go_on = f"""[ -e "$FAULT/delayed" ] || exit 0
meant
case $(ask "select coalesce((select setting::interval = '{_ms(p.delay_s)}ms' from pg_file_settings
    where name = 'recovery_min_apply_delay' order by seqno desc limit 1), false)") in
  t) ask 'alter system reset recovery_min_apply_delay' || exit 1 ;;
  f) ;;
  *) exit 1 ;;
esac
ask 'select pg_reload_conf()' || exit 1
rm "$FAULT/delayed\""""
    return Recipe(with_server(p, slow), with_server(p, go_on))


@delay.check
def delayed(p: ReplicationDelay, now: Replay) -> State:
    """It is a standby, and set to wait so long."""
    return State.HOLDS if now.standby and round(now.delay_s * 1000) == _ms(p.delay_s) else State.ABSENT


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
