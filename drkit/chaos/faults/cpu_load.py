"""host.cpu-load: processes that do nothing but compute."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Interval

from drkit.chaos.faults._kept import AllKept, kept
from drkit.chaos.onhost import STOP_ALL, HostFault, Recipe, host_fault
from drkit.model.faults import fault_key
from drkit.model.observation import State


class CpuLoad(HostFault):
    """How much is computed."""

    cores: Annotated[int, Interval(ge=1, le=256)] = 1
    """So many processes compute; each takes one core if nobody else wants it."""
    nice: Annotated[int, Interval(ge=0, le=19)] = 10
    """How far they step back for others; 0: they compete as an equal."""


@host_fault("host.cpu-load", observe=kept)
def load(p: CpuLoad) -> Recipe:
    """Compute on some cores for nothing, as a runaway process does; everything else on the host gets slower."""
    # Each ends by itself with the lease, even if whoever would end it is killed.
    burn = f"""core=0
while [ "$core" -lt {p.cores} ]; do
  nice -n {p.nice} timeout -s KILL "$LEFT_S" sh -c 'while :; do :; done' &
  core=$((core + 1))
done"""
    return Recipe(burn, STOP_ALL, starts=False)


@load.check
def loaded(p: CpuLoad, now: AllKept) -> State:
    """All of them compute: each is a process and the timer that ends it."""
    ours = now.of(fault_key(load.name, p))
    if ours.processes == 0:
        return State.ABSENT
    return State.HOLDS if ours.processes >= 2 * p.cores and ours.stopped == 0 else State.IN_PROGRESS
