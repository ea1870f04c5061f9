"""A queue that only packets to some peers go through: for what delays or limits, not drops.

The packet filter sorts them in; whom it has forgotten, since the lease is over, passes beside the queue at full speed.
"""

from __future__ import annotations

from drkit.chaos.faults._traffic import PeerFault, Traffic, holds, to_peers
from drkit.chaos.onhost import Recipe
from drkit.model.faults import fault_key
from drkit.model.observation import State


def handle(name: str, p: PeerFault) -> str:
    """Major number of a fault's queue, of which a device has at most one at its root."""
    return "d" + fault_key(name, p)[-3:]


def queue(p: PeerFault, major: str, rate: str, inner: str = "") -> Recipe:
    """A queue with this rate on every device that leads to a peer; `inner` is set up below it (`$device`, `$class`).

    A device whose root is occupied by somebody else's queue is left alone, and the fault refused.
    """
    sorted_in = to_peers(p, f"meta priority set 0x{major}0002", ways=("out",))
    peers = " ".join(peer.split("/")[0] for peer in p.peers)
    add = f"""for peer in {peers}; do ip -o route get "$peer" | sed -n 's/.* dev \\([^ ]*\\).*/\\1/p'; done | sort -u |
while read -r device; do
  class={major}:2
  tc qdisc add dev "$device" root handle {major}: htb &&
    tc class add dev "$device" parent {major}: classid "$class" htb rate {rate} burst 4k || exit 1
  {inner or ":"}
done || exit 1
tc qdisc show | grep -q '^qdisc htb {major}: ' || {{ echo "no device leads to {peers}"; exit 1; }}
"""
    remove = f"""tc qdisc show | sed -n 's/^qdisc htb {major}: dev \\([^ ]*\\) root.*/\\1/p' | while read -r device; do
  tc qdisc del dev "$device" root || exit 1
done || exit 1
"""
    return Recipe(add + sorted_in.inject, sorted_in.revert + remove, starts=False)


def shaped(name: str, p: PeerFault, now: Traffic) -> State:
    """Whether the queue is there and all peers are sorted into it."""
    there, sorted_in = f"{handle(name, p)}:" in now.shapers, holds(name, p, now)
    if not there and sorted_in is State.ABSENT:
        return State.ABSENT
    return State.HOLDS if there and sorted_in is State.HOLDS else State.IN_PROGRESS
