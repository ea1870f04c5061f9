"""host.disk-fill: a file system with (almost) no room left."""

from __future__ import annotations

import shlex
from typing import Annotated

from annotated_types import Ge

from drkit.catalog import probe
from drkit.chaos.faults._kept import LIST_KEPT, AllKept, listed, said
from drkit.chaos.onhost import STOP_ALL, HostFault, OnHost, Recipe, host_fault
from drkit.context import Context
from drkit.model.faults import fault_key
from drkit.model.observation import State


class Disk(OnHost):
    """A file system of a host."""

    path: str
    """A folder in it, as the host names it."""


class Room(AllKept):
    """What a file system has left for those who are not root, and what faults keep running."""

    available_bytes: int
    free_inodes: int


@probe("host.disk")
async def disk(ctx: Context, p: Disk) -> Room:
    """What is left in a file system of a host."""
    look = "df -P -B1 \"$1\" | tail -n 1 | awk '{print $4}'; df -P -i \"$1\" | tail -n 1 | awk '{print $4}'\n"
    output = await said(ctx, p, "set -e\n" + look + "set +e\n" + LIST_KEPT, p.path)
    available, inodes = (int(line) for line in output.splitlines()[:2])
    return Room(answered_by=p.host, available_bytes=available, free_inodes=inodes, kept=listed(output))


class DiskFill(Disk, HostFault):
    """How full it gets."""

    leave_bytes: Annotated[int, Ge(2**20)] = 512 * 2**20
    """So much stays free: drkit's own markers may live there."""


@host_fault("host.disk-fill", observe=disk, needs="mount-ns")
def fill(p: DiskFill) -> Recipe:
    """Fill a file system, as logs that nobody rotates do; whoever writes there gets "no space left on device"."""
    # The file has no name any more when it grows: its room is given back when its holder ends, or the host restarts.
    grow = f"""cd {shlex.quote(p.path)} || exit 1
available=$(df -P -B1 . | tail -n 1 | awk '{{print $4}}')
[ "$available" -gt {p.leave_bytes} ] || {{ echo "only $available bytes are available"; exit 1; }}
file=.drkit-fill-$$
exec 3>"$file" && rm -f "$file" || exit 1
fallocate -l $((available - {p.leave_bytes})) /proc/self/fd/3 || exit 1
sleep "$LEFT_S" &"""
    return Recipe(grow, STOP_ALL, starts=False)


@fill.check
def filled(p: DiskFill, now: Room) -> State:
    """Somebody of ours holds the room, and no more is left than was meant, give or take a hundredth of it."""
    if now.of(fault_key(fill.name, p)).processes == 0:
        return State.ABSENT
    return State.HOLDS if now.available_bytes <= p.leave_bytes * 1.01 else State.IN_PROGRESS
