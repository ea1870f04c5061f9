"""The edge of a region: only healthy targets, no second try of what was sent, maintenance, the listener's answer."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from drkit.model.permit import Permit
from drkit.providers.http import LATE, Http, permitted
from drkit.sandbox.parts._aio import Answer, Message, answer, fetch, serve
from drkit.sandbox.parts._holders import Holders
from drkit.sandbox.parts.edge import Edge, Target


class Lasts:
    """A lease with so much left."""

    def __init__(self, left_s: float) -> None:
        self.left_s = left_s

    def remaining_s(self) -> float:
        return self.left_s


class Backend:
    """A target that can be sick, or die while it works."""

    def __init__(self) -> None:
        self.healthy = True
        self.dies_at_work = False
        self.worked = 0
        self.port = 0

    async def handle(self, request: Message) -> Answer | None:
        if request.path == "/healthz":
            return answer({"release": "sha256:1"}, 200 if self.healthy else 503)
        self.worked += 1
        return None if self.dies_at_work else answer({"path": request.path, "body": request.body.decode()}, 201)


class World:
    def __init__(self, folder: Path) -> None:
        self.targets = folder / "targets.json"
        self.maintenance = folder / "maintenance"
        self.backends = [Backend(), Backend()]
        self.edge: Edge
        self.url = self.admin = ""

    def tell(self, **changes: Any) -> None:
        places = [{"host": "127.0.0.1", "port": backend.port} for backend in self.backends]
        content = {"targets": places, "listener": None, **changes}
        draft = self.targets.with_suffix(".new")
        draft.write_text(json.dumps(content))
        draft.replace(self.targets)

    async def ask(self, method: str = "GET", path: str = "/x", body: bytes = b"") -> tuple[int, Any]:
        reply = await fetch(method, f"{self.url}{path}", timeout_s=3, body=body)
        return reply.status, reply.json()

    async def healthy(self, count: int) -> None:
        async with asyncio.timeout(4):
            while self.edge.status()["healthy"] != count:
                await asyncio.sleep(0.02)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    servers = []
    for backend in world.backends:
        server, backend.port = await serve(backend.handle, "127.0.0.1")
        servers.append(server)
    world.tell()
    world.edge = Edge({"region": "here", "targets": str(world.targets), "maintenance": str(world.maintenance)})
    for handler, name in ((world.edge.handle, "url"), (world.edge.administer, "admin")):
        server, port = await serve(handler, "127.0.0.1")
        servers.append(server)
        setattr(world, name, f"http://127.0.0.1:{port}")
    tasks = [
        asyncio.ensure_future(world.edge.look_after_targets()),
        asyncio.ensure_future(world.edge.follow_listener()),
    ]
    yield world
    for task in tasks:
        task.cancel()
    for server in servers:
        server.close()


async def test_requests_are_spread_over_healthy_targets(world: World) -> None:
    await world.healthy(2)
    for _ in range(4):
        assert await world.ask("POST", "/orders?x=1", b"hello") == (201, {"path": "/orders", "body": "hello"})
    assert [backend.worked for backend in world.backends] == [2, 2]


async def test_without_a_healthy_target_users_get_503_with_the_reason(world: World) -> None:
    await world.healthy(2)
    for backend in world.backends:
        backend.healthy = False
    await world.healthy(0)
    assert await world.ask() == (503, {"error": "no healthy target", "region": "here"})
    world.backends[0].healthy = True
    await world.healthy(1)
    assert (await world.ask())[0] == 201


async def test_what_was_sent_is_not_tried_elsewhere(world: World) -> None:
    await world.healthy(2)
    for backend in world.backends:
        backend.dies_at_work = True
    assert (await world.ask("POST"))[0] == 502
    assert sum(backend.worked for backend in world.backends) == 1


async def test_a_target_that_refuses_is_passed_over(world: World) -> None:
    await world.healthy(2)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        world.edge.targets.insert(0, Target("127.0.0.1", closed.getsockname()[1], healthy=True))
        assert [(await world.ask())[0] for _ in range(3)] == [201, 201, 201]


async def test_maintenance_refuses_writes_and_serves_reads(world: World) -> None:
    await world.healthy(2)
    await fetch("PUT", f"{world.admin}/_edge/maintenance", {"on": True}, timeout_s=2)
    assert await world.ask("POST") == (503, {"error": "maintenance", "region": "here"})
    assert (await world.ask("GET"))[0] == 201
    await fetch("PUT", f"{world.admin}/_edge/maintenance", {"on": False}, timeout_s=2)
    assert (await world.ask("POST"))[0] == 201


async def test_maintenance_is_not_ordered_by_a_run_whose_lease_is_over_or_by_an_older_one(world: World) -> None:
    async def order(token: int, lasts_s: float, on: bool) -> tuple[int, str]:
        asked = await http.request("GET", f"{world.admin}/_edge/status")
        permit = permitted(Permit(token, Lasts(lasts_s)), asked)
        await asyncio.sleep(0.03)
        body = {"on": on, "permit": permit}
        said = await http.request("PUT", f"{world.admin}/_edge/maintenance", json_body=body)
        return said.status, str(said.json().get("error"))

    http = Http()
    assert await order(7, 0.02, True) == (LATE, "it came after its sender's lease of the environment was over")
    assert not world.maintenance.exists()
    assert (await order(7, 20.0, True))[0] == 200 and world.maintenance.exists()
    assert await order(6, 20.0, False) == (LATE, "fencing token 6 is older than 7")
    assert Holders(world.maintenance.with_suffix(".holder")).why_not({"token": 6, "boot": "", "until_s": None})
    assert world.maintenance.exists()
    await http.aclose()


async def test_a_broken_targets_file_keeps_the_former_targets(world: World) -> None:
    await world.healthy(2)
    world.targets.write_text("{")
    world.edge.read_file()
    assert (await world.ask())[0] == 201


_FORWARD = "<R><DefaultActions><member><Type>forward</Type></member></DefaultActions></R>"
_FIXED = _FORWARD.replace("<Type>forward</Type>", "<Type>fixed-response</Type><StatusCode>503</StatusCode>")


async def test_the_listener_decides_and_its_last_word_outlives_the_control_plane(world: World) -> None:
    await world.healthy(2)
    said = {"xml": _FIXED}

    async def describe(request: Message) -> Answer:
        assert b"Action=DescribeListeners" in request.body
        return Answer(200, said["xml"].encode())

    control, port = await serve(describe, "127.0.0.1")
    world.tell(listener={"endpoint": f"http://127.0.0.1:{port}/", "arn": "arn:x", "region": "here"})
    async with asyncio.timeout(4):
        while (await world.ask())[0] != 503:
            await asyncio.sleep(0.05)
    said["xml"] = _FORWARD
    async with asyncio.timeout(4):
        while (await world.ask())[0] != 201:
            await asyncio.sleep(0.05)
    control.close()
    await asyncio.sleep(0.6)
    assert (await world.ask())[0] == 201
