"""host.latency: what a host sends to some others arrives late."""

from __future__ import annotations

import shlex
from functools import cache
from importlib.resources import files
from ipaddress import ip_network
from typing import Annotated, Final

from annotated_types import Ge, Interval

from drkit.chaos.faults._queue import handle, queue, shaped
from drkit.chaos.faults._traffic import PeerFault, Traffic, holds, set_of, table_of, traffic
from drkit.chaos.onhost import IN_KERNEL, STOP_ALL, Recipe, host_fault
from drkit.model.faults import fault_key
from drkit.model.observation import State

#: Packets that wait at most: 2 s of a full gigabit line.
QUEUED_MAX: Final = 200_000


class Latency(PeerFault):
    """How late."""

    delay_ms: Annotated[int, Interval(ge=1, le=60_000)]
    """Added to everything on its way to the peers."""
    jitter_ms: Annotated[int, Ge(0)] = 0
    """The delay is at random up to this much longer or shorter."""


@host_fault("host.latency", observe=traffic, needs="netns", lease=IN_KERNEL)
def delay(p: Latency) -> Recipe:
    """Delay what a host sends to its peers, as a long way or a full line does.

    In the kernel where it can (netem). Where it cannot, a relay on the host (it needs python3) delays TCP over IPv4
    that begins meanwhile, and everything else is as fast as ever.
    """
    # As many packets as a fast line carries meanwhile: the queue's own limit (1000) would lose what is above it.
    netem = f"netem delay {p.delay_ms}ms {p.jitter_ms}ms limit {QUEUED_MAX}"
    by_queue = queue(
        p, handle(delay.name, p), "100gbit", f'tc qdisc add dev "$device" parent "$class" {netem} || exit 1'
    )
    inject = f"""if ! ({by_queue.inject}); then
  FAULT=$FAULT sh -c {shlex.quote(by_queue.revert)} || exit 1
  {_relayed(p)}
fi"""
    return Recipe(inject, by_queue.revert + STOP_ALL, starts=False)


def _relayed(p: Latency) -> str:
    """Inject: TCP to the peers goes through the relay. Its own connections bear a mark, and go straight."""
    if any(ip_network(peer).version == 6 for peer in p.peers):
        return 'echo "this kernel has no netem, and the relay that would replace it knows IPv4 only"; exit 1'
    chain = """chain redirected { type nat hook output priority -100
meta mark 0xd41 return
ip daddr @peers4 meta l4proto tcp redirect to :$port
}
"""
    run = f"""timeout -s KILL "$LEFT_S" python3 -c {shlex.quote(_relay())} {p.delay_ms} {p.jitter_ms} >"$FAULT/port" &
tries=100
until [ -s "$FAULT/port" ]; do
  tries=$((tries - 1)); [ "$tries" -gt 0 ] || {{ echo "the relay does not start"; exit 1; }}
  sleep 0.05
done
read -r port <"$FAULT/port"
"""
    return run + table_of(set_of("peers4", "ipv4_addr", p.peers, interval=True), "", "", chain)


@cache
def _relay() -> str:
    return files("drkit.chaos.faults").joinpath("late_relay.py").read_text()


@delay.check
def delayed(p: Latency, now: Traffic) -> State:
    """The queue or the relay is there, and all of them go through it."""
    if now.of(fault_key(delay.name, p)).processes:
        return State.HOLDS if holds(delay.name, p, now) is State.HOLDS else State.IN_PROGRESS
    return shaped(delay.name, p, now)
