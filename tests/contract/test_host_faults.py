"""Every fault on a host, for real: seen from outside, healed by drkit, and by its lease alone.

Two hosts with namespaces of their own, joined by a cable of their own. What is broken is observed by who would notice:
another process, the other end of the cable, the kernel. The machine below them is the same before and after each test.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from fault_hosts import Lab, Machine, lab, why_no_rooms

from drkit.catalog import Action
from drkit.chaos.onhost import IN_KERNEL, faults
from drkit.model.faults import Nothing, fault_key
from drkit.model.observation import State

NO_ROOMS = why_no_rooms("nft", "tc", "openssl")
pytestmark = pytest.mark.skipif(NO_ROOMS is not None, reason=str(NO_ROOMS))

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


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    services = {"killed": SLEEPER, "paused": SLEEPER, "stopped": SLEEPER, "writer": WRITER, "tls": python(TLS)}
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
    with lab(tmp_path_factory.mktemp("rooms"), configs) as found:
        assert [done for host in found.ready.values() for done in host["boot"] if done["exit"] != 0] == []
        found.wire("app-1", "app-2")
        yield found


@pytest.fixture(autouse=True)
async def machine_unchanged(hosts: Lab) -> AsyncIterator[None]:
    """Its rules, queues, mounts, groups and clock. What a test that failed left is healed, and the next one begins."""
    before = Machine.now(hosts)
    yield
    if any("healed" not in state.read_text() for state in hosts.root("app-1").glob("var/lib/drkit/faults/*/state")):
        ctx = hosts.context()
        for left in (await faults(ctx, Nothing())).markers:
            (case,) = [case for case in CASES if case.fault.name == left.fault]
            assert case.fault.heal is not None
            p = case.given(1)
            await case.fault.heal(ctx, p, await case.fault.observe(ctx, p))
        await ctx.providers.aclose()
    assert Machine.now(hosts).same_as(before)


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


@dataclass(frozen=True)
class Case:
    """A fault with its parameters, and what shows it."""

    module: str
    entry: str
    params: dict[str, Any]
    broken: Callable[[Lab], bool]

    def __str__(self) -> str:
        return self.module.replace("_", "-")

    @property
    def fault(self) -> Action[Any, Any]:
        found: Action[Any, Any] = getattr(importlib.import_module(f"drkit.chaos.faults.{self.module}"), self.entry)
        return found

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
BY_KERNEL = [case for case in CASES if case.fault.lease == IN_KERNEL]
#: While a lease lasts everything has to be injected and seen: a busy machine gets a second, longer one.
LEASES_S = (7.0, 40.0)
#: How long after its lease a fault may still be there, and how long asking all hosts may take.
LATE_S, LOOK_S = 1.0, 2.0


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_a_fault_is_seen_from_outside_and_gone_after_its_heal(hosts: Lab, case: Case) -> None:
    ctx, p = hosts.context(run=f"heal-{case}"), case.given(60)
    assert not case.broken(hosts)
    before = await case.fault.observe(ctx, p)
    assert case.fault.state(p, before) is State.ABSENT
    await case.fault(ctx, p, before)
    await seen(ctx, case, p, State.HOLDS)
    assert case.broken(hosts)
    (left,) = (await faults(ctx, Nothing())).markers
    assert (left.fault, left.where, left.state) == (case.fault.name, "host app-1", "injected")
    assert case.fault.heal is not None
    await case.fault.heal(replace(ctx, step="heal"), p, before)
    await seen(ctx, case, p, State.ABSENT)
    assert not case.broken(hosts)
    assert (await faults(ctx, Nothing())).markers == ()
    await ctx.providers.aclose()


async def test_all_of_them_at_once_heal_themselves_when_drkit_is_gone(hosts: Lab) -> None:
    for lease_s in LEASES_S:
        ends = await injected(hosts, CASES, f"lease-{lease_s}", lease_s)
        there = await still(hosts, CASES)
        missed = [case for case in CASES if case not in there]
        if not missed or lease_s == LEASES_S[-1]:
            break
        await forgotten(hosts, lease_s)
    assert missed == []
    await healed_by(hosts, CASES, ends)
    await forgotten(hosts, LOOK_S)


@pytest.mark.soak
async def test_the_kernel_ends_faults_when_every_process_of_their_leases_was_killed(hosts: Lab) -> None:
    for lease_s in LEASES_S:
        ends = await injected(hosts, BY_KERNEL, f"kernel-{lease_s}", lease_s)
        for case in BY_KERNEL:
            with suppress(ProcessLookupError):  # it was over too soon, and is tried again
                # Not by a program called kill: some of those take -12345 for -1, which is everybody.
                os.killpg(int((marker(hosts, case) / "lease").read_text().split()[0]), signal.SIGKILL)
        there = await still(hosts, BY_KERNEL)
        missed = [case for case in BY_KERNEL if case not in there]
        if not missed or lease_s == LEASES_S[-1]:
            break
        await heal_all(hosts)
    assert missed == []
    await healed_by(hosts, BY_KERNEL, ends)
    ctx = hosts.context()
    left = (await faults(ctx, Nothing())).markers
    assert {(one.fault, one.state, one.expires_in_s) for one in left} == {
        (case.fault.name, "overdue", None) for case in BY_KERNEL
    }
    await heal_all(hosts)
    assert (await faults(ctx, Nothing())).markers == ()
    await ctx.providers.aclose()


async def heal_all(hosts: Lab) -> None:
    """As `drkit chaos stop --all` does, of what the kernel holds."""
    ctx = hosts.context()
    async with anyio.create_task_group() as group:
        for case in BY_KERNEL:
            assert case.fault.heal is not None
            group.start_soon(case.fault.heal, ctx, case.given(1), await case.fault.observe(ctx, case.given(1)))
    await ctx.providers.aclose()


async def forgotten(hosts: Lab, within_s: float) -> None:
    """No host remembers any fault; that one is healed is written down last."""
    ctx = hosts.context()
    with anyio.fail_after(within_s + LOOK_S):
        while (await faults(ctx, Nothing())).markers:
            await anyio.sleep(0.1)
    await ctx.providers.aclose()


async def injected(hosts: Lab, cases: list[Case], run: str, lease_s: float) -> float:
    """All of them at once; when the last lease ends, by the hosts' clock."""
    ctx = hosts.context(run=run)

    async def one(case: Case) -> None:
        p = case.given(lease_s)
        await case.fault(replace(ctx, step=str(case)), p, await case.fault.observe(ctx, p))

    # A device has one queue at its root, and this one tries whether the kernel could delay: not beside another.
    (late,) = [case for case in cases if case.module == "latency"]
    await one(late)
    async with anyio.create_task_group() as group:
        for case in cases:
            if case is not late:
                group.start_soon(one, case)
    await ctx.providers.aclose()
    return max(int((marker(hosts, case) / "until").read_text()) / 100 for case in cases)


def marker(hosts: Lab, case: Case) -> Path:
    return hosts.root("app-1") / "var/lib/drkit/faults" / fault_key(case.fault.name, case.given(1))


def uptime_s() -> float:
    return float(Path("/proc/uptime").read_text().split()[0])


async def still(hosts: Lab, cases: list[Case]) -> list[Case]:
    """Which of them are seen; everybody looks at the same time."""
    found: list[Case] = []

    async def look(case: Case) -> None:
        if await anyio.to_thread.run_sync(case.broken, hosts):
            found.append(case)

    async with anyio.create_task_group() as group:
        for case in cases:
            group.start_soon(look, case)
    return sorted(found, key=cases.index)


async def healed_by(hosts: Lab, cases: list[Case], ends: float) -> None:
    """None is seen any more a second after its time is over."""
    await anyio.sleep(max(ends + LATE_S - uptime_s(), 0))
    # Where everybody looks at once a slow machine seems to be a slow line: who seems broken is looked at alone.
    left = [case for case in await still(hosts, cases) if case.broken(hosts)]
    assert [str(case) for case in left] == []


async def seen(ctx: Any, case: Case, p: Any, state: State) -> None:
    """The fault's own observation comes to say so."""
    with anyio.fail_after(5):
        while case.fault.state(p, now := await case.fault.observe(ctx, p)) is not state:
            assert now is not None
            await anyio.sleep(0.1)
