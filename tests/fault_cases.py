"""Every fault that a host with namespaces of its own can have, and who would notice it: another process, the other end
of the cable, the kernel. Nobody here asks drkit.
"""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fault_hosts import Lab, lab, why_no_rooms

from drkit.catalog import Action

NO_ROOMS = why_no_rooms("nft", "tc", "openssl")
#: Services of which one process is broken at a time.
SIMPLE = ("killed", "paused", "stopped")
SLEEPER = {"argv": ["sh", "-c", "while :; do sleep 0.05; done"]}
WRITER = {"argv": ["sh", "-c", """while :; do
  dd if=/dev/zero of=written bs=64k count=4 oflag=direct conv=notrunc 2>>var/log/dd && echo . >>rounds
done"""]}  # fmt: skip
ECHO = """
import socket, threading
def answer(server):
    while True:
        caller, _ = server.accept()
        threading.Thread(target=echo, args=(caller,), daemon=True).start()
def echo(caller):
    try:
        while data := caller.recv(65536):
            caller.sendall(data)
    except OSError:
        pass
    caller.close()
def answer_datagrams(server):
    while True:
        data, who = server.recvfrom(2048)
        try:
            server.sendto(data, who)
        except OSError:
            pass
for port in (53, 9000, 9001, 9002):
    threading.Thread(target=answer, args=(socket.create_server(("0.0.0.0", port)),)).start()
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); server.bind(("0.0.0.0", port))
    threading.Thread(target=answer_datagrams, args=(server,)).start()
"""
TLS = """
import socket, ssl, threading
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("etc/cert.pem", "etc/key.pem")
server = socket.create_server(("0.0.0.0", 9443))
def greet(caller):
    try:
        context.wrap_socket(caller, server_side=True).close()
    except OSError:
        pass
while True:
    threading.Thread(target=greet, args=(server.accept()[0],), daemon=True).start()
"""
MADE = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=app-1"


def python(text: str) -> dict[str, Any]:
    """A service that is a Python script."""
    return {"argv": ["python3", "-c", text]}


@contextmanager
def simple(folder: Path) -> Iterator[Lab]:
    """app-1 without namespaces of its own, and the services of its cases: where there is no root."""
    files = {f"etc/services/{name}.json": json.dumps(SLEEPER) for name in SIMPLE}
    with lab(folder, {"app-1": {"files": files, "boot": [f"svc start {name}" for name in SIMPLE]}}) as found:
        yield found


@contextmanager
def rooms(folder: Path) -> Iterator[Lab]:
    """app-1, which is to be broken, and app-2 at the other end of its cable, each in namespaces of its own."""
    services = {**dict.fromkeys(SIMPLE, SLEEPER), "writer": WRITER, "tls": python(TLS)}
    files = {f"etc/services/{name}.json": json.dumps(spec) for name, spec in services.items()}
    boot = [
        "mkdir small few && mount -t tmpfs -o size=8m small small && mount -t tmpfs -o nr_inodes=600 few few",
        f"{MADE} -keyout etc/key.pem -out etc/cert.pem", *(f"svc start {name}" for name in services),
    ]  # fmt: skip
    echo = {"etc/services/echo.json": json.dumps(python(ECHO))}
    configs = {
        "app-1": {"files": files, "boot": boot, "isolation": "netns"},
        "app-2": {"files": echo, "boot": ["svc start echo"], "isolation": "netns"},
    }
    with lab(folder, configs) as found:
        assert [done for host in found.ready.values() for done in host["boot"] if done["exit"] != 0] == []
        found.wire("app-1", "app-2")
        yield found


# What is seen of app-1 from outside of drkit.


def leader(hosts: Lab, service: str) -> int | None:
    """Its process, as the service manager knows it."""
    found: int | None = json.loads(hosts.inside("app-1", "bin/svc", "status", service))["pid"]
    return found


def is_stopped(hosts: Lab, service: str) -> bool:
    return "State:\tT" in Path(f"/proc/{leader(hosts, service)}/status").read_text()


def ours(hosts: Lab, words: str) -> list[Path]:
    """Processes of app-1 whose command line holds these words."""
    mark, found = f"DRKIT_HOST_ROOT={hosts.root('app-1')}".encode(), []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if words in line and mark in (process / "environ").read_bytes().split(b"\0"):
                found.append(process)
        except OSError:  # it ended meanwhile
            continue
    return found


def ticks(process: Path) -> int:
    """Processor time it has had."""
    with suppress(OSError):  # it ended meanwhile
        return int((process / "stat").read_text().rpartition(") ")[2].split()[11])
    return 0


def computing(hosts: Lab) -> bool:
    busy = [one for one in ours(hosts, "while :; do :; done") if named(one) == "sh"]
    before, deadline = {one: ticks(one) for one in busy}, time.monotonic() + 3
    while busy and time.monotonic() < deadline:  # on a busy machine it takes a while until they have their turn
        time.sleep(0.1)
        if sum(ticks(one) > had for one, had in before.items()) == 2:
            return True
    return False


def named(process: Path) -> str:
    with suppress(OSError):
        return (process / "comm").read_text().strip()
    return ""


def holding_memory(hosts: Lab) -> bool:
    held_kib = 0
    for one in ours(hosts, "tail -c 64M"):
        with suppress(OSError):  # it ended meanwhile
            found = re.search(r"VmRSS:\s+(\d+)", (one / "status").read_text())
            held_kib += int(found[1]) if found else 0
    return held_kib > 60 * 1024


def no_room(hosts: Lab) -> bool:
    said = hosts.inside("app-1", "sh", "-c", "head -c 2000000 /dev/zero >small/x; rm -f small/x")
    return "No space left" in said


def no_files(hosts: Lab) -> bool:
    said = hosts.inside("app-1", "sh", "-c", "for n in $(seq 200); do touch few/f$n || break; done; rm -f few/f*")
    return "No space left" in said or "cannot create" in said


def writing_slowly(hosts: Lab) -> bool:
    rounds = hosts.root("app-1") / "rounds"
    before = rounds.stat().st_size
    time.sleep(0.6)
    return rounds.stat().st_size - before < 2


def call(hosts: Lab, text: str) -> str:
    """What a client on app-1 finds out."""
    return hosts.inside("app-1", "bin/python3", "-c", "import socket, time\n" + text).strip().splitlines()[-1]


def connects(hosts: Lab, peer: int, port: int = 9000) -> str:
    return call(hosts, f"""
try:
    socket.create_connection(("10.77.0.{peer}", {port}), 0.4).close(); print("connected")
except OSError as error:
    print(type(error).__name__)""")  # fmt: skip


def echoed(hosts: Lab, sent: int, peer: int, port: int = 9000) -> int:
    """How many of so many datagrams come back."""
    return int(call(hosts, f"""
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(0.4); n = 0
for k in range({sent}):
    try:
        s.sendto(b"x", ("10.77.0.{peer}", {port}))
    except OSError:
        pass
try:
    while n < {sent}:
        s.recv(10); n += 1
except OSError:
    pass
print(n)"""))  # fmt: skip


def took_s(hosts: Lab, size: int, peer: int) -> float:
    """To send so many bytes and get them back; infinite if the connection is cut before."""
    return float(call(hosts, f"""
t = time.monotonic(); n = 0
try:
    s = socket.create_connection(("10.77.0.{peer}", 9000), 5)
    s.sendall(b"x" * {size})
    while n < {size} and (data := s.recv(65536)):
        n += len(data)
except OSError:
    pass
print(time.monotonic() - t if n == {size} else "inf")"""))  # fmt: skip


def shows_expired(hosts: Lab) -> bool:
    """As a TLS client of the host sees it; a server that is not up yet shows none."""
    text = "import ssl\nprint(repr(ssl.get_server_certificate(('127.0.0.1', 9443))))"
    for _ in range(100):
        said = call(hosts, text)
        if "BEGIN" in said:
            shown = subprocess.run(
                ["openssl", "x509", "-noout", "-checkend", "0"], input=said.strip("'").replace("\\n", "\n"), text=True,
                capture_output=True,
            )  # fmt: skip
            return shown.returncode != 0
        time.sleep(0.05)
    raise AssertionError(said)


BUSY_S = 20.0


@dataclass(frozen=True)
class Named:
    """A fault, by its module and its name in there."""

    module: str
    entry: str

    def __str__(self) -> str:
        return self.module.replace("_", "-")

    @property
    def fault(self) -> Action[Any, Any]:
        found: Action[Any, Any] = getattr(importlib.import_module(f"drkit.chaos.faults.{self.module}"), self.entry)
        return found


@dataclass(frozen=True)
class Case(Named):
    """A fault with its parameters, and what shows it."""

    params: dict[str, Any]
    broken: Callable[[Lab], bool]

    def unseen(self, hosts: Lab) -> None:
        """Nobody sees it; what is not there may look so for a while on a busy machine: a slow line, a full queue."""
        deadline = time.monotonic() + BUSY_S
        while self.broken(hosts):
            assert time.monotonic() < deadline, f"{self} is still seen"

    def given(self, lease_s: float) -> Any:
        return self.fault.params.model_validate({"host": "app-1", "lease_s": lease_s, **self.params}, strict=False)


def peer(number: int, **more: Any) -> dict[str, Any]:
    return {"peers": [f"10.77.0.{number}"], **more}


CASES = [
    Case("process_kill", "kill", {"service": "killed"}, lambda hosts: leader(hosts, "killed") is None),
    Case("process_pause", "pause", {"service": "paused"}, lambda hosts: is_stopped(hosts, "paused")),
    Case("service_stop", "stop", {"service": "stopped"}, lambda hosts: leader(hosts, "stopped") is None),
    Case("cpu_load", "load", {"cores": 2}, computing),
    Case("memory_fill", "fill", {"hold_mib": 64, "leave_mib": 64}, holding_memory),
    Case("disk_fill", "fill", {"path": "small", "leave_bytes": 2**20}, no_room),
    Case("inode_exhaustion", "exhaust", {"path": "few", "leave_inodes": 100}, no_files),
    Case("io_limit", "slow", {"service": "writer", "path": ".", "bytes_per_s": 131072}, writing_slowly),
    Case("partition", "partition", peer(2), lambda hosts: connects(hosts, 2) == "TimeoutError"),
    Case("port_blackhole", "blackhole", {"ports": [9001]}, lambda hosts: connects(hosts, 7, 9001) == "TimeoutError"),
    Case("connection_reset", "reset", {"ports": [9002]}, lambda hosts: "Refused" in connects(hosts, 7, 9002)),
    Case("packet_loss", "lose", peer(3, percent=40), lambda hosts: echoed(hosts, 100, 3) < 80),
    Case("packet_rate", "limit", peer(4, per_s=20), lambda hosts: echoed(hosts, 100, 4) < 80),
    Case("dns_failure", "mute", {}, lambda hosts: echoed(hosts, 1, 7, port=53) == 0),
    Case("bandwidth", "narrow", peer(5, kbit_per_s=200), lambda hosts: took_s(hosts, 60_000, 5) > 1),
    Case("latency", "delay", peer(6, delay_ms=300), lambda hosts: took_s(hosts, 10, 6) > 0.3),
    Case(
        "certificate_expiry", "expire",
        {"service": "tls", "port": 9443, "certificate": "etc/cert.pem", "key": "etc/key.pem"}, shows_expired,
    ),
]  # fmt: skip
