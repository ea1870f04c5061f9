"""host.process-kill: the processes of a service are killed, and killed again if somebody starts them."""

from __future__ import annotations

from drkit.chaos.faults._service import RUN_AGAIN, RUNS, Processes, Service, with_leader
from drkit.chaos.faults.process_pause import processes
from drkit.chaos.onhost import STOP_ALL, HostFault, Recipe, host_fault
from drkit.model.observation import State


class Kill(Service, HostFault):
    """Which service is to be killed."""


@host_fault("host.process-kill", observe=processes)
def kill(p: Kill) -> Recipe:
    """Kill (SIGKILL) every process of a service, as a crash does, and again whenever it is started; it stays dead."""
    # A service manager may restart it at once: without the loop nobody could say whether the fault holds.
    again = """slay() {
  members "$(leader_of "$service")" "$(keeper_of "$service")" |
    while read -r pid rest; do kill -KILL "$pid" 2>/dev/null; done
}
slay
while [ -e "$FAULT/go" ]; do slay; sleep 0.3; done &"""
    return Recipe(
        with_leader(p.service, RUNS + again), STOP_ALL + with_leader(p.service, RUN_AGAIN),
    )  # fmt: skip


@kill.check
def killed(p: Kill, now: Processes) -> State:
    """Nothing of it is left."""
    return State.HOLDS if now.processes == 0 else State.ABSENT
