"""A whole world: it comes up and serves users, a region dies and comes back, and nothing is left after `down`.

One world for all tests of this file, in this order; the last one kills everything with -9 before it cleans up.
"""

from __future__ import annotations

import json
import shutil
import signal
import socket
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncssh
import dns.message
import dns.query
import psycopg
import pytest

from drkit import testing
from drkit.catalog import Action
from drkit.context import Context
from drkit.errors import DrkitError, Refused, StepFailed
from drkit.model.environment import Environment, SecretRef
from drkit.model.faults import Nothing
from drkit.model.observation import State
from drkit.sandbox import world
from drkit.sandbox.faults import left as faults_left
from drkit.sandbox.layout import SOURCE, TARGET, hosts
from drkit.sandbox.partial_faults import dependency_down, zone_outage
from drkit.sandbox.processes import Process, of_world


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """As root the servers run as nobody, who may not enter pytest's own folders."""
    base = Path(tempfile.mkdtemp(prefix="drkit-test-"))
    base.chmod(0o711)
    yield base / "world"
    world.down(base / "world")
    shutil.rmtree(base)


@pytest.fixture(scope="module")
def environment(folder: Path) -> Environment:
    told: list[str] = []
    made = world.up(folder, tell=told.append)
    assert {"witness", "standby", "seed", "service", "prober"} <= set(told)
    return made


def ask(method: str, url: str, body: Any = None, *, timeout_s: float = 20) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method)
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"null")


def until(holds: Callable[[], Any], within_s: float) -> Any:
    deadline = time.monotonic() + within_s
    while not (found := holds()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return found


def entrance(environment: Environment, region: str) -> str:
    edge = environment.site(region).edge
    assert edge is not None
    return f"http://{edge}"


def test_users_are_served_by_name_and_everything_listens_on_loopback_only(
    environment: Environment, folder: Path
) -> None:
    assert environment.dns is not None and environment.service is not None
    resolver = environment.dns.resolvers[0]
    question = dns.message.make_query(environment.service.hostname, "A")
    found = [str(r) for a in dns.query.udp(question, resolver.host, port=resolver.port, timeout=3).answer for r in a]
    assert found == [entrance(environment, SOURCE).removeprefix("http://").split(":")[0]]
    base = f"http://{found[0]}:{environment.service.port}"
    assert ask("GET", f"{base}/catalog")[1]["region"] == SOURCE
    status, order = ask("POST", f"{base}/orders", {"customer": "dana", "sku": "sku-1", "quantity": 2})
    assert (status, order["amount"]) == (201, "11.80")
    assert ask("POST", f"{base}/pay", {"order_id": order["order_id"]})[0] == 201
    assert ask("POST", f"{base}/pay", {"order_id": order["order_id"]})[0] == 200, "paid once"
    assert ask("POST", f"{base}/login", {"login": "dana"})[0] == 200
    assert ask("POST", f"{base}/upload", {"file": "x"})[1]["bytes"] == len(json.dumps({"file": "x"}))
    assert ask("POST", f"{base}/orders", {"customer": "dana", "sku": "none"})[0] == 422
    addresses = listening_addresses(folder)
    assert len(addresses) > 20
    assert {address for address in addresses if not address.endswith("7F")} == set(), "127/8, little-endian"


def listening_addresses(folder: Path) -> list[str]:
    """Local addresses (as the kernel writes them) of every TCP socket that the world's processes listen on."""
    inodes = set()
    for process in of_world(folder):
        for handle in Path(f"/proc/{process.pid}/fd").iterdir():
            try:
                inodes.add(str(handle.readlink()))
            except OSError:
                continue  # closed meanwhile
    lines = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    return [fields[1].split(":")[0] for fields in lines if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes]


def test_a_second_world_in_the_same_folder_is_refused(environment: Environment, folder: Path) -> None:
    with pytest.raises(Refused, match="already up"):
        world.up(folder)
    assert world.load(folder) == environment
    assert world.status(folder)["up"]


def test_maintenance_blocks_writes_at_the_edge_and_reads_go_on(environment: Environment) -> None:
    admin = environment.site(SOURCE).edge_admin
    users = entrance(environment, SOURCE)
    assert ask("PUT", f"{admin}/_edge/maintenance", {"on": True})[0] == 200
    try:
        assert ask("POST", f"{users}/orders", {"customer": "dana", "sku": "sku-1"}) == (
            503,
            {"error": "maintenance", "region": SOURCE},
        )
        assert ask("GET", f"{users}/catalog")[0] == 200
    finally:
        ask("PUT", f"{admin}/_edge/maintenance", {"on": False})
    assert ask("POST", f"{users}/orders", {"customer": "dana", "sku": "sku-1"})[0] == 201


async def injected(ctx: Context, fault: Action[Any, Any], **given: Any) -> Any:
    p = fault.params.model_validate({"lease_s": 600.0, **given})
    await fault(ctx, p, await fault.observe(ctx, p))
    assert fault.state(p, await fault.observe(ctx, p)) is State.HOLDS
    return p


def commands(processes: list[Process]) -> list[str]:
    return [Path(f"/proc/{process.pid}/cmdline").read_text() for process in processes]


async def test_a_zone_dies_whole_and_boots_again(environment: Environment, folder: Path) -> None:
    ctx, users = testing.context(environment, source=SOURCE, target=TARGET), entrance(environment, SOURCE)
    first, second = hosts(SOURCE)
    family, other = of_world(folder, SOURCE, host=first), of_world(folder, SOURCE, host=second)
    assert family and other and not {*family} & {*other}
    p = await injected(ctx, zone_outage, site=SOURCE, zone=f"{SOURCE}a")
    assert not [process for process in family if process.alive] and all(process.alive for process in other)
    (left,) = (await faults_left(ctx, Nothing())).markers
    assert (left.fault, left.where, left.params) == ("zone.outage", f"zone {SOURCE}a", p.model_dump())
    until(lambda: ask("GET", f"{users}/catalog")[0] == 200, 15)  # by the other zone
    assert zone_outage.heal is not None
    await zone_outage.heal(ctx, p, await zone_outage.observe(ctx, p))
    assert zone_outage.state(p, await zone_outage.observe(ctx, p)) is State.ABSENT
    services = commands(of_world(folder, SOURCE, host=first))
    assert any("order" in line for line in services), services
    assert (await faults_left(ctx, Nothing())).markers == ()
    await ctx.providers.aclose()


async def test_a_dependency_is_down_until_its_lease_is_over(environment: Environment) -> None:
    ctx, link = testing.context(environment, source=SOURCE, target=TARGET), f"onprem-{SOURCE}"
    reached = environment.database("orders", SOURCE).reached_from["onprem"]

    def connects() -> bool:
        try:
            with socket.create_connection((reached.host, reached.port), timeout=3):
                return True
        except OSError:
            return False

    assert connects()
    began = time.monotonic()
    p = dependency_down.params.model_validate({"dependency": link, "lease_s": 1.5})
    await dependency_down(ctx, p, await dependency_down.observe(ctx, p))
    until(connects, 15)
    assert time.monotonic() - began >= 1.5, "nobody was let through before"
    assert dependency_down.state(p, await dependency_down.observe(ctx, p)) is State.ABSENT
    with pytest.raises(StepFailed, match="the way by which drkit reaches the region"):
        await injected(ctx, dependency_down, dependency=f"admin-{SOURCE}")
    assert (await faults_left(ctx, Nothing())).markers == ()
    await ctx.providers.aclose()


def test_an_outage_leaves_nothing_of_the_region_and_nothing_else_dies(environment: Environment, folder: Path) -> None:
    before = {part["name"]: part for part in world.status(folder)["parts"]}
    family = of_world(folder, SOURCE, [part["pid"] for part in before.values() if part["site"] == SOURCE])
    names = {Path(f"/proc/{process.pid}/comm").read_text().strip() for process in family}
    assert "postgres" in names
    assert ask("POST", f"{environment.control}/outage", {"region": SOURCE})[0] == 200
    assert not [process for process in family if process.alive]
    after = world.status(folder)
    assert after["outages"] == [SOURCE]
    assert {p["name"] for p in after["parts"] if not p["running"]} == {
        n for n, p in before.items() if p["site"] == SOURCE
    }
    assert {link["name"] for link in after["links"] if link["cut"]} == {
        "replication",
        *(f"{kind}-{SOURCE}" for kind in ("users", "admin", "witness", "onprem")),
    }
    for url in (entrance(environment, SOURCE), environment.site(SOURCE).aws_endpoint):
        with pytest.raises((OSError, urllib.error.URLError)):
            ask("GET", f"{url}/", timeout_s=3)
    with urllib.request.urlopen(f"{environment.witness and environment.witness.url}/lease") as reply:
        assert json.load(reply)["site"] == SOURCE, "nobody has taken over yet"
    assert ask("GET", f"{entrance(environment, TARGET)}/catalog")[0] == 503, "the target's shop does not run"


async def test_the_region_that_is_left_can_take_over(environment: Environment) -> None:
    witness, database = environment.witness, environment.database("orders", TARGET)
    assert witness is not None
    within_s = witness.term_s + witness.margin_s + 2
    until(lambda: ask("GET", f"{witness.url}/lease")[1]["expired"], within_s)
    with psycopg.connect(
        host=database.address.host,
        port=database.address.port,
        dbname=database.dbname,
        user=database.user,
        password=secret(database.password).strip(),
        autocommit=True,
    ) as connection:
        assert connection.execute("SELECT pg_promote(true, 60)").fetchone() == (True,)
    for host in environment.hosts:
        if host.site != TARGET:
            continue
        async with asyncssh.connect(
            host.address.host,
            host.address.port,
            username=host.user,
            client_keys=[asyncssh.import_private_key(secret(host.key))],
            known_hosts=asyncssh.import_known_hosts(f"[{host.address.host}]:{host.address.port} {host.known_host}"),
        ) as ssh:
            assert (await ssh.run("cat etc/machine-id", check=True)).stdout == f"{host.machine_id}\n"
            await ssh.run("bin/svc start order-app", check=True)
    body = {"customer": "dana", "sku": "sku-1"}
    users = entrance(environment, TARGET)
    until(lambda: ask("POST", f"{users}/orders", body)[0] == 201, within_s=10)
    assert ask("POST", f"{users}/orders", body)[1]["region"] == TARGET
    assert ask("POST", f"{users}/upload", body)[1]["bucket"] == f"reliabletech-uploads-{TARGET}"
    lease = ask("GET", f"{witness.url}/lease")[1]
    assert (lease["site"], lease["epoch"], lease["expired"]) == (TARGET, 2, False)


def secret(reference: SecretRef) -> str:
    return Path(reference.ref.removeprefix("secret://file")).read_text()


def test_a_restored_region_runs_again_with_its_database_fenced(environment: Environment, folder: Path) -> None:
    status, done = ask("POST", f"{environment.control}/restore", {"region": SOURCE})
    assert status == 200, done
    found = world.status(folder)
    assert (found["outages"], [part for part in found["parts"] if not part["running"]]) == ([], [])
    assert not [link for link in found["links"] if link["cut"]]
    ready = next(part["ready"] for part in found["parts"] if part["name"] == f"agent-{SOURCE}")
    agent = ask("GET", f"http://{ready['host']}:{ready['admin_port']}/status")[1]
    assert agent["role"] == "stopped"
    assert agent["fenced"]["reason"] == f"{SOURCE} came back after an outage"


def test_unknown_regions_and_links_are_refused_with_what_is_known(environment: Environment) -> None:
    assert ask("POST", f"{environment.control}/outage", {"region": "mars"})[0] == 400
    status, said = ask("POST", f"{environment.control}/links/nowhere", {"cut": True})
    assert status == 409
    assert "replication" in said["error"]


def test_nothing_is_left_after_a_kill_of_everything(environment: Environment, folder: Path) -> None:
    found = json.loads((folder / "supervisor.json").read_text())
    family = of_world(folder)
    assert Process(found["pid"], found["start"]).send(signal.SIGKILL)
    until(lambda: not [process for process in family if process.alive], within_s=5)
    with pytest.raises(DrkitError, match="not running"):
        world.load(folder)
    assert world.down(folder)
    assert not folder.exists()
    assert of_world(folder) == []
    creators = {int(line.split()[4]) for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]}
    assert not creators & {process.pid for process in family}, "System V segments are gone"
    assert world.down(folder) is False
