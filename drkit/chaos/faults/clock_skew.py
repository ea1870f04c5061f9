"""host.clock-skew: a host's clock shows another time."""

from __future__ import annotations

from typing import Annotated, Final

from annotated_types import Interval, Predicate
from pydantic import Field

from drkit.catalog import probe
from drkit.chaos.faults._kept import said
from drkit.chaos.onhost import HostFault, OnHost, Recipe, host_fault
from drkit.context import Context
from drkit.model.observation import Observation, State

#: Clocks that differ by less agree: an answer takes its time, and hosts are never quite together.
AGREE_S: Final = 5.0


class HostClock(Observation):
    """What a host's clock shows."""

    ahead_s: float
    """So much more than drkit's own."""


@probe("host.clock")
async def clock(ctx: Context, p: OnHost) -> HostClock:
    """How far a host's clock is ahead of drkit's."""
    shown = float(await said(ctx, p, "date +%s.%N"))
    return HostClock(answered_by=p.host, ahead_s=shown - ctx.clock.wall())


class ClockSkew(HostFault):
    """How wrong."""

    offset_s: Annotated[
        float,
        Interval(ge=-3.2e8, le=3.2e8),
        Predicate(lambda offset: abs(offset) >= 4 * AGREE_S),
        Field(examples=[3600]),
    ]  # fmt: skip
    """So much ahead; negative: behind. At least 20 seconds."""


@host_fault("host.clock-skew", observe=clock, needs="machine")
def skew(p: ClockSkew) -> Recipe:
    """Set a host's clock to another time, and keep time synchronisation off meanwhile.

    No lease of a fault on a host reads this clock: each counts from the host's start, as do the kernel's own timeouts.
    """
    set_off = f"""if timedatectl show -p NTP --value 2>/dev/null | grep -q yes; then
  echo yes >"$FAULT/ntp" && timedatectl set-ntp false || exit 1
fi
read -r up rest </proc/uptime
read -r boot </proc/sys/kernel/random/boot_id
shows=$(date +%s.%N)
echo "$shows $up $boot" >"$FAULT/showed" || exit 1
date -s "@$(awk -v s="$shows" 'BEGIN {{printf "%.3f", s + {p.offset_s}}}')"
"""
    # What it would show now, had nobody touched it. Who restarts has the time of the hardware's clock, which was not.
    set_back = """if read -r showed then of 2>/dev/null <"$FAULT/showed"; then
  read -r up rest </proc/uptime
  read -r boot </proc/sys/kernel/random/boot_id
  right=$(awk -v s="$showed" -v t="$then" -v u="$up" 'BEGIN {printf "%.3f", s + u - t}')
  [ "$boot" != "$of" ] || date -s "@$right" || exit 1
  rm "$FAULT/showed"
fi
[ ! -e "$FAULT/ntp" ] || timedatectl set-ntp true"""
    return Recipe(set_off, set_back)


@skew.check
def skewed(p: ClockSkew, now: HostClock) -> State:
    """It is wrong by that much."""
    if abs(now.ahead_s - p.offset_s) < AGREE_S:
        return State.HOLDS
    return State.ABSENT if abs(now.ahead_s) < AGREE_S else State.IN_PROGRESS
