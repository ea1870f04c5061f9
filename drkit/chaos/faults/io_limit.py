"""host.io-limit: a service reads and writes its disk slowly."""

from __future__ import annotations

import shlex
from typing import Annotated, Final

from annotated_types import Ge

from drkit.catalog import probe
from drkit.chaos.faults._kept import said
from drkit.chaos.faults._service import Service, with_leader
from drkit.chaos.onhost import HostFault, Recipe, host_fault
from drkit.context import Context
from drkit.model.observation import Observation, State


class ServiceDisk(Service):
    """A service and a disk that it uses."""

    path: str
    """A folder on that disk."""


class Limits(Observation):
    """How fast a service may use a disk; None: as fast as it can."""

    read_bytes_per_s: int | None = None
    write_bytes_per_s: int | None = None


# A disk is limited, not one of its partitions: the kernel knows no other limits.
# cgroup v2: limits in the group that the service manager gave the service; where that is systemd it is told to set
# them, since it hands out the controller, and would set its own again. v1: a group of ours, which only sees direct and
# synchronous writes: what goes through the page cache is written by the kernel later, in nobody's name.
_GROUP: Final = r"""device() { # the disk that a folder is on
  part=$(findmnt -n -o MAJ:MIN -T "$1" | tr -d ' ')
  if [ -e "/sys/dev/block/$part/partition" ]; then cat "/sys/dev/block/$part/../dev"; else echo "$part"; fi
}
drop_ins() { # what `systemctl set-property --runtime` leaves of these two
  unit=$(systemctl show -p Id --value "$service")
  for way in Read Write; do echo "/run/systemd/system.control/$unit.d/50-IO${way}BandwidthMax.conf"; done
}
v2=$(awk '$3 == "cgroup2" {print $2; exit}' /proc/mounts)
grep -qw io "$v2/cgroup.controllers" 2>/dev/null || v2=
# Hosts of a sandbox share these groups, and may be broken alike: the folder that is a host's root tells them apart.
ours() { echo "$v1/drkit-${FAULT##*/}-$(pwd | cksum | cut -d ' ' -f 1)"; }
v1=$(awk '$3 == "cgroup" && $4 ~ /(^|,)blkio(,|$)/ {print $2; exit}' /proc/mounts)
group_of() { # pid
  if [ -n "$v2" ]; then sed -n "s|^0::|$v2|p" "/proc/$1/cgroup"
  else sed -n "s|^[0-9]*:blkio:|$v1|p" "/proc/$1/cgroup"; fi
}
"""
_LOOK = r"""leader=$(leader_of "$service"); [ -n "$leader" ] || exit 0
group=$(group_of "$leader"); of=$(device "$path"); [ -n "$group" ] && [ -n "$of" ] || exit 0
cd "$group" || exit 1
if [ -n "$v2" ]; then sed -n "s/^$of //p" io.max 2>/dev/null | tr ' ' '\n'
else
  sed -n "s/^$of /rbps=/p" blkio.throttle.read_bps_device
  sed -n "s/^$of /wbps=/p" blkio.throttle.write_bps_device
fi"""


@probe("host.io-limits")
async def limits(ctx: Context, p: ServiceDisk) -> Limits:
    """How fast the kernel lets a service use a disk."""
    output = await said(ctx, p, _with_group(p, _LOOK))
    found = dict(line.split("=") for line in output.splitlines() if line.startswith(("rbps=", "wbps=")))
    known = {key: int(value) for key, value in found.items() if value.isdigit()}
    return Limits(answered_by=p.host, read_bytes_per_s=known.get("rbps"), write_bytes_per_s=known.get("wbps"))


class IoLimit(ServiceDisk, HostFault):
    """How slow it gets."""

    bytes_per_s: Annotated[int, Ge(4096)]
    """So much can be read, and so much written."""


@host_fault("host.io-limit", observe=limits)
def slow(p: IoLimit) -> Recipe:
    """Limit what a service may read and write a second, as a worn disk or a noisy neighbour does."""
    rate = p.bytes_per_s
    limit = f"""leader=$(leader_of "$service"); [ -n "$leader" ] || {{ echo "$service does not run"; exit 1; }}
of=$(device "$path")
[ -d "/sys/dev/block/$of" ] || {{ echo "$path is on no disk whose use can be limited"; exit 1; }}
was=$(group_of "$leader")
if [ -n "$v2" ] && [ -n "$(keeper_of "$service")" ]; then
  for file in $(drop_ins); do
    [ ! -e "$file" ] || {{ echo "$service is limited already, by $file"; exit 1; }}
  done
  sed -n "s/^$of //p" "$was/io.max" 2>/dev/null >"$FAULT/before"
  echo "$of" >"$FAULT/device" && echo "$was" >"$FAULT/group" && drop_ins >"$FAULT/drop-ins" || exit 1
  systemctl set-property --runtime "$service" "IOReadBandwidthMax=/dev/block/$of {rate}" \
    "IOWriteBandwidthMax=/dev/block/$of {rate}" || exit 1
  grep -q "^$of rbps={rate} wbps={rate} " "$was/io.max" || {{ echo "$service cannot be limited"; exit 1; }}
elif [ -n "$v2" ]; then
  [ -f "$was/io.max" ] || {{ echo "$service is in no group whose disk use can be limited"; exit 1; }}
  sed -n "s/^$of //p" "$was/io.max" >"$FAULT/before" && echo "$of" >"$FAULT/device" &&
    echo "$was" >"$FAULT/group" || exit 1
  echo "$of rbps={rate} wbps={rate}" >"$was/io.max"
elif [ -n "$v1" ]; then
  ours=$(ours)
  echo "$was" >"$FAULT/group" && mkdir -p "$ours" || exit 1
  echo "$of {rate}" >"$ours/blkio.throttle.read_bps_device" || exit 1
  echo "$of {rate}" >"$ours/blkio.throttle.write_bps_device" || exit 1
  for round in 1 2; do # what was started while others were moved is found in the second
    session "$leader" | while read -r pid rest; do echo "$pid" >"$ours/cgroup.procs"; done 2>/dev/null
  done
  [ "$(group_of "$leader")" = "$ours" ] || {{ echo "$service cannot be moved to $ours"; exit 1; }}
else echo "this kernel has no cgroup that limits disk use"; exit 1; fi"""
    free = """read -r was 2>/dev/null <"$FAULT/group" || exit 0
if [ -e "$FAULT/drop-ins" ]; then
  systemctl set-property --runtime "$service" IOReadBandwidthMax= IOWriteBandwidthMax= || exit 1
  while read -r file; do rm -f "$file"; rmdir "${file%/*}" 2>/dev/null; done <"$FAULT/drop-ins"
  systemctl daemon-reload && rm "$FAULT/drop-ins" || exit 1
fi
if [ -n "$v2" ]; then
  [ -f "$was/io.max" ] || exit 0
  read -r of <"$FAULT/device"; read -r before <"$FAULT/before"
  echo "$of ${before:-rbps=max wbps=max}" >"$was/io.max"
else
  ours=$(ours)
  while [ -d "$ours" ] && ! rmdir "$ours" 2>/dev/null; do
    while read -r pid; do echo "$pid" >"$was/cgroup.procs"; done <"$ours/cgroup.procs" 2>/dev/null
  done
fi"""
    return Recipe(_with_group(p, limit), _with_group(p, free))


@slow.check
def slowed(p: IoLimit, now: Limits) -> State:
    """Both ways are limited to that."""
    found = (now.read_bytes_per_s, now.write_bytes_per_s)
    if p.bytes_per_s not in found:
        return State.ABSENT
    return State.HOLDS if found == (p.bytes_per_s, p.bytes_per_s) else State.IN_PROGRESS


def _with_group(p: ServiceDisk, script: str) -> str:
    return with_leader(p.service, f"path={shlex.quote(p.path)}\n{_GROUP}{script}")
