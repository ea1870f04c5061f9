"""The prober against a real HTTP server and a real DNS server on loopback, both small and both breakable."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dns.message
import dns.rrset
import pytest

from drkit.errors import Unobservable
from drkit.measure import findings, journeys, ledgers, readings
from drkit.measure.prober import Prober, ProberConfig
from drkit.measure.users import Answer, Resolver, User
from drkit.model.environment import Address, Environment
from drkit.model.environment import Prober as ProberService
from drkit.model.measurements import Journey


@dataclass
class Shop(asyncio.DatagramProtocol):
    """The service and its DNS. `mode`: ok | 503 | hang | garbage; `answers` is the address DNS gives."""

    mode: str = "ok"
    address: str = "127.0.0.1"
    ttl_s: int = 60
    dns_mode: str = "ok"
    asked: int = 0
    orders: list[dict[str, Any]] = field(default_factory=list)
    http: Address = field(init=False)
    dns: Address = field(init=False)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(
            int(line.split(":")[1]) for line in head.splitlines() if line.lower().startswith("content-length")
        )
        body = await reader.readexactly(length)
        if self.mode == "hang":
            await reader.read()
        elif self.mode == "garbage":
            writer.write(b"hello\r\n\r\n")
        elif self.mode == "503":
            writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
        elif head.startswith("GET /catalog "):
            writer.write(b"HTTP/1.1 200 OK\r\nX-Served-By: us-east-1\r\nContent-Length: 2\r\n\r\n[]")
        elif head.startswith("POST /orders "):
            self.orders.append(json.loads(body))
            reply = json.dumps({"order_id": f"o-{len(self.orders)}"}).encode()
            writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n%s" % (len(reply), reply))
        writer.close()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.asked += 1
        query = dns.message.from_wire(data)
        reply = dns.message.make_response(query)
        if self.dns_mode == "silent":
            return
        if self.dns_mode == "servfail":
            reply.set_rcode(dns.rcode.SERVFAIL)
        else:
            reply.answer.append(dns.rrset.from_text(query.question[0].name, self.ttl_s, "IN", "A", self.address))
        self.transport.sendto(reply.to_wire(), address)


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    shop = Shop()
    server = await asyncio.start_server(shop.serve, "127.0.0.1", 0)
    shop.http = Address(host="127.0.0.1", port=server.sockets[0].getsockname()[1])
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: shop, local_addr=("127.0.0.1", 0))
    shop.dns = Address(host="127.0.0.1", port=transport.get_extra_info("sockname")[1])
    yield shop
    transport.close()
    server.close()


def config(shop: Shop, folder: Path, **changed: Any) -> ProberConfig:
    values: dict[str, Any] = {
        "folder": folder, "hostname": "shop.example", "port": shop.http.port, "resolvers": [shop.dns.model_dump()],
        "interval_s": 0.01, "timeout_s": 0.15, "window_s": 0.3,
    }  # fmt: skip
    return ProberConfig.model_validate(values | changed)


@asynccontextmanager
async def probing(config: ProberConfig) -> AsyncIterator[Prober]:
    stop, prober = asyncio.Event(), Prober(config)
    task = asyncio.create_task(prober.run(stop))
    try:
        yield prober
    finally:
        stop.set()
        await task


async def until(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.01)


def seen(prober: Prober) -> tuple[Journey, ...]:
    path = prober.path("probes")
    return journeys.journeys(readings.read(path).records) if path.exists() else ()


async def test_every_client_makes_both_journeys_in_turn_and_orders_reach_the_second_ledger(
    shop: Shop, tmp_path: Path
) -> None:
    async with probing(config(shop, tmp_path)) as prober:
        await until(lambda: len(shop.orders) >= 40)
    found = [j for j in seen(prober) if j.outcome != "pending"]
    assert {j.outcome for j in found} == {"ok"}
    assert len({(j.client, j.kind) for j in found}) == 40
    assert [j.client for j in found[:21]] == [*range(20), 0]
    told = {j.order_id for j in found if j.kind == "order"}
    kept = {w.id.removeprefix("order:") for w in ledgers.writes([readings.read(prober.path("orders"))])}
    assert told <= kept <= {f"o-{n + 1}" for n in range(len(shop.orders))}
    assert {order["customer"] for order in shop.orders} == {f"customer-{n + 1}" for n in range(20)}
    assert len({order["reference"] for order in shop.orders}) == len(shop.orders)
    assert {j.served_by for j in found if j.kind == "browse"} == {"us-east-1"}


async def test_a_service_that_hangs_delays_no_probe_and_every_one_times_out(shop: Shop, tmp_path: Path) -> None:
    async with probing(config(shop, tmp_path)) as prober:
        await until(lambda: len(shop.orders) >= 3)
        shop.mode = "hang"
        hung_t = readings.boottime()
        await asyncio.sleep(0.5)
        ended_t = readings.boottime()
    during = [j for j in seen(prober) if hung_t + 0.02 < j.sent_t < ended_t]
    assert len(during) >= 0.6 * (ended_t - hung_t) / 0.01  # open loop: 15 are pending at any time
    old = [j for j in during if j.sent_t < ended_t - 0.3]
    assert old and {(j.outcome, j.reason) for j in old} == {("timeout", "no reply")}
    assert all(0.1 < (j.latency_s or 0) < 0.6 for j in old)


@pytest.mark.parametrize(
    ("broken", "reason", "status"),
    [
        ({"mode": "503"}, "http 503", 503),
        ({"mode": "garbage"}, "http: not HTTP", None),
        ({"dns_mode": "servfail"}, "dns: SERVFAIL", None),
        ({"dns_mode": "silent"}, "dns: timeout", None),
        ({"address": "127.0.0.2"}, "connect: refused", None),
    ],
)
async def test_a_failed_journey_says_why(
    shop: Shop, tmp_path: Path, broken: dict[str, Any], reason: str, status: int | None
) -> None:
    for name, value in broken.items():
        setattr(shop, name, value)
    async with probing(config(shop, tmp_path)) as prober:
        await until(lambda: sum(j.outcome != "pending" for j in seen(prober)) > 5)
    found = [j for j in seen(prober) if j.outcome != "pending"]
    assert {(j.reason, j.status) for j in found} == {(reason, status)}
    assert not {j.outcome for j in found} & {"ok"}


async def test_each_client_asks_dns_again_only_when_its_own_answer_has_expired(shop: Shop) -> None:
    async def browse(user: User) -> str | None:
        answer = Answer()
        await user.journey("browse", "x", answer)
        return answer.address

    one, two = (User(n, Resolver([shop.dns]), "shop.example", shop.http.port) for n in range(2))
    assert [await browse(one), await browse(one), await browse(two)] == ["127.0.0.1"] * 3
    assert shop.asked == 2
    shop.ttl_s = 0
    one.resolver.expires_s = 0.0
    await browse(one)
    await browse(one)
    assert shop.asked == 4
    assert await browse(two) == "127.0.0.1"
    assert shop.asked == 4  # its own cache still holds


async def test_runs_find_the_current_readings_and_what_users_see_now(shop: Shop, tmp_path: Path) -> None:
    environment = Environment.model_validate(
        {
            "name": "sandbox", "kind": "sandbox", "account": "x", "sites": [], "state_store": "file:///x",
            "prober": ProberService(folder=str(tmp_path)).model_dump(),
        }
    )  # fmt: skip
    assert "no prober has run" in findings.attach(environment).reasons[0]
    async with probing(config(shop, tmp_path)) as prober:
        await until(lambda: len(shop.orders) >= 10)
        attached = findings.attach(environment)
        assert attached.reasons == ()
        assert [ref.kind for ref in attached.refs] == ["probes", "orders"]
        now = journeys.users_now(prober.path("probes"), over_s=1.0)
        assert (now.success_rate, now.failed, now.failing_for_s) == (1.0, 0, 0.0)
        assert now.writes_ok > 0 and now.served_by == {"us-east-1": now.journeys - now.writes_ok}
        shop.mode, broken_t = "503", readings.boottime()
        await until(lambda: journeys.users_now(prober.path("probes"), over_s=0.2).success_rate == 0)
        now = journeys.users_now(prober.path("probes"), over_s=0.2)
        assert now.failing_for_s == pytest.approx(readings.boottime() - broken_t, abs=1.1)
    ref = attached.probes
    assert ref is not None and readings.read(Path(ref.path), upto=ref).count == ref.count
    with pytest.raises(Unobservable, match="no journey in the last"):
        journeys.users_now(prober.path("probes"), over_s=0.0)


async def test_failing_for_looks_back_beyond_the_end_of_the_file_it_reads_first(tmp_path: Path) -> None:
    path = tmp_path / "probes-a.jsonl"
    with readings.ReadingsWriter(path, id="a", kind="probes", interval_s=0.1) as writer:
        for number in range(6000):
            t, ok = number / 10, number < 1000
            writer.write({"t": t, "at": "", "what": "sent", "j": number, "kind": "browse", "client": 0})
            outcome = "ok" if ok else "error"
            writer.write({"t": t, "at": "", "what": "result", "j": number, "outcome": outcome, "reason": "x" * 50})
    assert path.stat().st_size > 4 * (1 << 18)
    assert journeys.users_now(path, now_t=600.0).failing_for_s == pytest.approx(500.0, abs=1.1)


async def test_a_disk_that_is_full_ends_the_prober_instead_of_leaving_a_gap(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write

    def full(fd: int, data: bytes) -> int:
        if b'"what":"result"' in data:
            raise OSError(28, "No space left on device")
        return real(fd, data)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(Prober(config(shop, tmp_path)).run(asyncio.Event()), 5)
    assert caught.group_contains(OSError, match="No space left")


def start(folder: Path, shop: Shop, **how: Any) -> subprocess.Popen[str]:
    path = folder / "prober.json"
    path.write_text(config(shop, folder).model_dump_json())
    command = [sys.executable, "-m", "drkit.measure.prober", str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how)


async def test_as_a_process_it_says_that_it_runs_and_ends_on_sigterm(shop: Shop, tmp_path: Path) -> None:
    process = start(tmp_path, shop)
    assert process.stdout is not None
    ready = json.loads(await asyncio.to_thread(process.stdout.readline))
    assert ready["ready"] is True and ready["pid"] == process.pid
    assert json.loads((tmp_path / "current.json").read_text())["files"] == ready["files"]
    await until(lambda: len(shop.orders) >= 5)
    process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(process.wait, 5) == 0
    found = readings.read(Path(ready["files"]["probes"]))
    assert found.torn is None and found.records[-1]["what"] == "end"
    assert Counter(j.outcome for j in journeys.journeys(found.records))["ok"] >= 5


async def test_it_dies_with_its_parent(shop: Shop, tmp_path: Path) -> None:
    path = tmp_path / "prober.json"
    path.write_text(config(shop, tmp_path).model_dump_json())
    script = (
        "import subprocess, sys, time\n"
        "p = subprocess.Popen([sys.executable, '-m', 'drkit.measure.prober', sys.argv[1]], stdout=subprocess.PIPE)\n"
        "print(p.stdout.readline().decode().strip(), flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = await asyncio.to_thread(
        subprocess.Popen, [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pid = json.loads(await asyncio.to_thread(parent.stdout.readline))["pid"]
    parent.kill()
    parent.wait()

    def gone() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
        except FileNotFoundError:
            return True

    await until(gone)


def test_a_configuration_with_mistakes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "prober.json"
    path.write_text(json.dumps({"folder": str(tmp_path), "hostnam": "x"}))
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "drkit.measure.prober", path], capture_output=True, text=True)
    assert done.returncode == 2 and "hostnam" in done.stderr and "Traceback" not in done.stderr
    assert time.monotonic() - started < 20
