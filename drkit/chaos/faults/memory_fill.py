"""host.memory-fill: a process that holds memory and does nothing with it."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Gt

from drkit.chaos.faults._kept import AllKept, kept
from drkit.chaos.onhost import STOP_ALL, HostFault, Recipe, host_fault
from drkit.model.faults import fault_key
from drkit.model.observation import State


class MemoryFill(HostFault):
    """How much memory is held."""

    hold_mib: Annotated[int, Gt(0)]
    """So much is held."""
    leave_mib: Annotated[int, Gt(0)] = 512
    """Refused if less than this would be left available on the host."""


@host_fault("host.memory-fill", observe=kept)
def fill(p: MemoryFill) -> Recipe:
    """Hold memory, as a leak does; what the host has left for caches and for others shrinks."""
    # `tail` keeps all of its input, since it has not seen the end. Should memory run out all the same, the kernel ends
    # it before anybody else.
    hold = f"""available=$(sed -n 's/^MemAvailable: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo)
[ $((available / 1024 - {p.hold_mib})) -ge {p.leave_mib} ] || {{
  echo "$((available / 1024)) MiB are available: holding {p.hold_mib} would leave less than {p.leave_mib}"; exit 1; }}
echo 1000 >/proc/self/oom_score_adj
timeout -s KILL "$LEFT_S" sh -c '
  (head -c {p.hold_mib}M /dev/zero; exec sleep "$1") | tail -c {p.hold_mib}M >/dev/null' hold "$LEFT_S" &"""
    return Recipe(hold, STOP_ALL, starts=False)


@fill.check
def filled(p: MemoryFill, now: AllKept) -> State:
    """They hold at least that much."""
    ours = now.of(fault_key(fill.name, p))
    if ours.processes == 0:
        return State.ABSENT
    return State.HOLDS if ours.held_bytes >= p.hold_mib * 2**20 else State.IN_PROGRESS
