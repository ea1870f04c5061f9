"""host.service-stop: a service is stopped by its own service manager."""

from __future__ import annotations

from drkit.chaos.faults._service import RUN_AGAIN, RUNS, Processes, Service, with_leader
from drkit.chaos.faults.process_pause import processes
from drkit.chaos.onhost import HostFault, Recipe, host_fault
from drkit.model.observation import State


class Stop(Service, HostFault):
    """Which service is to be stopped."""


@host_fault("host.service-stop", observe=processes)
def stop(p: Stop) -> Recipe:
    """Stop a service in the orderly way (TERM first), as a wrong deployment does; its manager leaves it stopped."""
    return Recipe(
        with_leader(p.service, RUNS + 'manage stop "$service"'), with_leader(p.service, RUN_AGAIN),
    )  # fmt: skip


@stop.check
def stopped(p: Stop, now: Processes) -> State:
    """Nothing of it runs."""
    return State.HOLDS if now.processes == 0 else State.ABSENT
