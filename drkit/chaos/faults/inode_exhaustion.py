"""host.inode-exhaustion: a file system that has room, and takes no more files."""

from __future__ import annotations

import shlex
from typing import Annotated

from annotated_types import Ge, Interval

from drkit.chaos.faults.disk_fill import Disk, Room, disk
from drkit.chaos.onhost import HostFault, Recipe, host_fault
from drkit.model.observation import State


class InodeExhaustion(Disk, HostFault):
    """How few files can still be made."""

    leave_inodes: Annotated[int, Ge(100)] = 1000
    """So many stay free: drkit's own markers may live there."""
    files_max: Annotated[int, Interval(ge=1, le=2_000_000)] = 200_000
    """Refused if more files than this would have to be made."""


@host_fault("host.inode-exhaustion", observe=disk, needs="mount-ns")
def exhaust(p: InodeExhaustion) -> Recipe:
    """Use up the inodes of a file system with empty files, as sessions that nobody sweeps do; no file can be made."""
    folder = f"cd {shlex.quote(p.path)} || exit 1\nours=.drkit-inodes-${{FAULT##*/}}\n"
    make = f"""free=$(df -P -i . | tail -n 1 | awk '{{print $4}}')
count=$((free - {p.leave_inodes}))
[ "$count" -le {p.files_max} ] || {{ echo "$count files would be needed, and {p.files_max} are allowed"; exit 1; }}
mkdir -p "$ours" && cd "$ours" || exit 1
[ "$count" -le 1 ] || seq "$((count - 1))" | sed "s/^/$$-/" | xargs -n 2000 touch"""
    return Recipe(folder + make, folder + 'rm -rf "$ours"', starts=False)


@exhaust.check
def exhausted(p: InodeExhaustion, now: Room) -> State:
    """No more can be made than was meant, give or take a tenth of them."""
    return State.HOLDS if now.free_inodes <= p.leave_inodes * 1.1 else State.ABSENT
