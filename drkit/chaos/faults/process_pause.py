"""host.process-pause: the processes of a service stop being scheduled, as when a host hangs."""

from __future__ import annotations

from drkit.catalog import probe
from drkit.chaos.faults._service import Processes, Service, look, with_leader
from drkit.chaos.onhost import HostFault, Recipe, host_fault
from drkit.context import Context
from drkit.model.observation import State


class Pause(Service, HostFault):
    """Which service is to hang."""


@probe("host.processes")
async def processes(ctx: Context, p: Service) -> Processes:
    """How many processes a service has, and how many of them are stopped."""
    return await look(ctx, p)


@host_fault("host.process-pause", observe=processes)
def pause(p: Pause) -> Recipe:
    """Stop (SIGSTOP) every process of a service; it hangs, and whoever waits for it waits."""
    # Whom to wake is known before anybody is stopped; what is forked meanwhile is found in the next round. Who waits
    # for a disk or for its turn stops only when it gets it.
    stop = """leader=$(leader_of "$service")
[ -n "$leader" ] || { echo "$service does not run"; exit 1; }
keeper=$(keeper_of "$service")
echo "$keeper" >"$FAULT/keeper" && echo "$leader" >"$FAULT/leader" || exit 1
for pause in 0 0 0 0 0 .1 .1 .1 .2 .2 .2 .5 .5 .5 .5; do
  members "$leader" "$keeper" | while read -r pid born state rest; do
    [ "$state" = T ] || kill -STOP "$pid" 2>/dev/null
  done
  members "$leader" "$keeper" | grep -qv ' T ' || exit 0
  sleep "$pause"
done
echo "$service does not stop"; exit 1"""
    go_on = """[ -f "$FAULT/leader" ] || exit 0
leader=$(cat "$FAULT/leader") keeper=$(cat "$FAULT/keeper")
members "$leader" "$keeper" | while read -r pid born state rest; do kill -CONT "$pid" 2>/dev/null; done
! members "$leader" "$keeper" | grep -q ' T '"""
    return Recipe(with_leader(p.service, stop), with_leader(p.service, go_on), starts=False)


@pause.check
def paused(p: Pause, now: Processes) -> State:
    """Every process is stopped."""
    if now.stopped == 0:
        return State.ABSENT
    return State.HOLDS if now.stopped == now.processes else State.IN_PROGRESS
