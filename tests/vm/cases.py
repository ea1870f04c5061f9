"""Every fault that a virtual machine can have, and the figure by which others notice it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fault_cases import Named

from vm.machine import OUTSIDE, Vm
from vm.outside import (
    ahead_s,
    answering,
    cut_off,
    free_mib,
    lost_percent,
    nice_percent,
    round_trip_s,
    shows_expired,
    takes_bytes,
    takes_files,
    transfer_s,
    written_per_s,
)

Figure = float | str


@dataclass(frozen=True)
class Case(Named):
    """A fault with its parameters; what is measured from outside, and what of it says broken or whole."""

    params: dict[str, Any]
    measure: Callable[[Vm], Figure]
    broken: Callable[[Any], bool]
    whole: Callable[[Any], bool]

    def given(self, lease_s: float) -> Any:
        """Its parameters with such a lease."""
        return self.fault.params.model_validate({"host": "app-1", "lease_s": lease_s, **self.params}, strict=False)


def outside(**more: Any) -> dict[str, Any]:
    """Between the machine and whoever calls it."""
    return {"peers": [OUTSIDE], **more}


def is_broken(found: Any) -> bool:
    return bool(found)


def is_whole(found: Any) -> bool:
    return not found


CASES = [
    Case("process_kill", "kill", {"service": "app@9100"}, lambda vm: answering(vm, 9100, 9101), is_whole, (2).__eq__),
    Case("process_pause", "pause", {"service": "app@9110"}, lambda vm: answering(vm, 9110, 9111), is_whole, (2).__eq__),
    Case("service_stop", "stop", {"service": "app@9120"}, lambda vm: answering(vm, 9120, 9121), is_whole, (2).__eq__),
    Case("cpu_load", "load", {"cores": 2}, nice_percent, lambda percent: percent > 30, lambda percent: percent < 5),
    Case(
        "memory_fill", "fill", {"hold_mib": 256, "leave_mib": 64}, free_mib, lambda mib: mib < 400,
        lambda mib: mib > 430,
    ),
    Case("disk_fill", "fill", {"path": "srv/small", "leave_bytes": 2**20}, lambda vm: takes_bytes(vm, "/srv/small"),
         is_whole, is_broken),
    Case("inode_exhaustion", "exhaust", {"path": "srv/few", "leave_inodes": 100},
         lambda vm: takes_files(vm, "/srv/few"), is_whole, is_broken),
    Case("io_limit", "slow", {"service": "writer", "path": "/srv", "bytes_per_s": 16384}, written_per_s,
         lambda rate: rate < 80_000, lambda rate: rate > 100_000),
    Case("partition", "partition", outside(), lambda vm: cut_off(vm, 9000), "silent".__eq__, "answered".__eq__),
    Case("port_blackhole", "blackhole", {"ports": [9001]}, lambda vm: cut_off(vm, 9001), "silent".__eq__,
         "answered".__eq__),
    Case("connection_reset", "reset", {"ports": [9002]}, lambda vm: cut_off(vm, 9002), "refused".__eq__,
         "answered".__eq__),
    Case("packet_loss", "lose", outside(percent=30), lambda vm: lost_percent(vm, 9000),
         lambda percent: 30 < percent < 72, lambda percent: percent < 5),
    Case("packet_rate", "limit", outside(per_s=5), lambda vm: lost_percent(vm, 9000), lambda percent: percent > 20,
         lambda percent: percent < 5),
    Case("dns_failure", "mute", {}, lambda vm: lost_percent(vm, 53, 10), (100.0).__eq__, (0.0).__eq__),
    Case("bandwidth", "narrow", outside(kbit_per_s=200), lambda vm: transfer_s(vm, 9000, 100_000),
         lambda took_s: took_s > 3, lambda took_s: took_s < 2.5),
    Case("latency", "delay", outside(delay_ms=400, jitter_ms=50), lambda vm: round_trip_s(vm, 9000),
         lambda took_s: took_s >= 0.35, lambda took_s: took_s < 0.3),
    Case(
        "certificate_expiry", "expire",
        {"service": "tls", "port": 9443, "certificate": "/srv/tls/cert.pem", "key": "/srv/tls/key.pem"},
        shows_expired, is_broken, is_whole,
    ),
    Case("clock_skew", "skew", {"offset_s": 86400.0}, ahead_s, lambda ahead: abs(ahead - 86400) < 5,
         lambda ahead: abs(ahead) < 5),
]  # fmt: skip
