"""What others notice of the virtual machine: who calls it from here, qemu, its own kernel. Nobody here asks drkit."""

from __future__ import annotations

import socket
import subprocess
import time
from contextlib import suppress
from typing import Final

from vm.machine import Vm

#: Longer than any answer takes on a busy machine; whoever is cut off does not answer at all.
PATIENCE_S: Final = 4.0
WATCH_S: Final = 4.0


def round_trip_s(vm: Vm, port: int) -> float:
    """The shortest of three over one connection; infinite if there is no answer."""
    found = float("inf")
    with suppress(OSError), socket.create_connection(("127.0.0.1", vm.ports["tcp", port]), PATIENCE_S) as caller:
        for _ in range(3):
            began = time.monotonic()
            caller.sendall(b"x")
            if not caller.recv(1):
                break
            found = min(found, time.monotonic() - began)
    return found


def answering(vm: Vm, *ports: int) -> int:
    """At how many of them somebody answers."""
    return sum(round_trip_s(vm, port) < float("inf") for port in ports)


def cut_off(vm: Vm, port: int) -> str:
    """How a call at a port ends: `answered`, `refused` (at once) or `silent`."""
    with socket.create_connection(("127.0.0.1", vm.ports["tcp", port]), PATIENCE_S) as caller:
        try:
            caller.sendall(b"x")
            return "answered" if caller.recv(1) else "refused"
        except TimeoutError:
            return "silent"
        except OSError:
            return "refused"


def lost_percent(vm: Vm, port: int, sent: int = 100) -> float:
    """Share of datagrams that do not come back, sent as fast as they can be, in handfuls."""
    back = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller:
        caller.connect(("127.0.0.1", vm.ports["udp", port]))
        for start in range(0, sent, 10):
            for number in range(start, start + 10):
                caller.send(b"%d" % number)
            caller.settimeout(PATIENCE_S / 4)
            with suppress(TimeoutError):
                for _ in range(10):
                    caller.recv(16)
                    back += 1
    return 100 * (sent - back) / sent


def transfer_s(vm: Vm, port: int, size: int) -> float:
    """To send so many bytes and get them back; infinite if that does not end."""
    began, back = time.monotonic(), 0
    with suppress(OSError), socket.create_connection(("127.0.0.1", vm.ports["tcp", port]), 10 * PATIENCE_S) as caller:
        caller.sendall(bytes(size))
        while back < size and (data := caller.recv(65536)):
            back += len(data)
    return time.monotonic() - began if back == size else float("inf")


def ahead_s(vm: Vm) -> float:
    """How far its clock is ahead of ours. TimeoutError if it does not say."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller:
        caller.connect(("127.0.0.1", vm.ports["udp", 9003]))
        caller.settimeout(PATIENCE_S)
        caller.send(b"?")
        return float(caller.recv(64)) - time.time()


def written_per_s(vm: Vm) -> float:
    """Bytes a second that reach its disk, as qemu counts them."""
    before, began = _written(vm), time.monotonic()
    time.sleep(WATCH_S)
    return (_written(vm) - before) / (time.monotonic() - began)


def _written(vm: Vm) -> int:
    return sum(disk["stats"]["wr_bytes"] for disk in vm.monitor.ask("query-blockstats"))


def nice_percent(vm: Vm) -> float:
    """Share of its processors that goes to who steps back for others, as its kernel counts."""
    before, after = vm.ask(f"head -n 1 /proc/stat; sleep {WATCH_S}; head -n 1 /proc/stat").splitlines()
    spent = [int(b) - int(a) for a, b in zip(before.split()[1:], after.split()[1:], strict=True)]
    return 100 * spent[1] / sum(spent)


def free_mib(vm: Vm) -> float:
    """Memory that its kernel calls available."""
    return int(vm.ask("sed -n 's/^MemAvailable: *\\([0-9]*\\).*/\\1/p' /proc/meminfo")) / 1024


def takes_bytes(vm: Vm, folder: str) -> bool:
    """Whether two megabytes can be written in a folder."""
    return "yes" in vm.ask(f"cd {folder}; head -c 2000000 /dev/zero 2>/dev/null >x && echo yes; rm -f x")


def takes_files(vm: Vm, folder: str) -> bool:
    """Whether two hundred files can be made in a folder."""
    return "yes" in vm.ask(f"cd {folder}; seq 200 | sed s/^/x/ | xargs touch 2>/dev/null && echo yes; rm -f x*")


def shows_expired(vm: Vm) -> bool:
    """As a TLS client sees it; a server that is not up yet shows none, and is asked again."""
    deadline = time.monotonic() + 5 * PATIENCE_S
    while time.monotonic() < deadline:
        told = subprocess.run(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{vm.ports['tcp', 9443]}"], stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=10 * PATIENCE_S,
        )  # fmt: skip
        if "BEGIN CERTIFICATE" in told.stdout:
            end = ["openssl", "x509", "-noout", "-checkend", "0"]
            return subprocess.run(end, input=told.stdout, text=True, capture_output=True).returncode != 0
    raise AssertionError(f"no TLS: {told.stderr}")
