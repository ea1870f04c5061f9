"""Sites that answer nobody, and servers that let nobody log in, through the supervisor's API; it ends by itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from cloud_parts import WEST, part
from database_world import until_async

from drkit import testing
from drkit.actions.host import Admit, admit, nodes
from drkit.errors import Unreachable
from drkit.model.environment import Address, Environment, Host, SecretRef, Site
from drkit.model.observation import State
from drkit.sandbox.control import serve_control
from drkit.sandbox.layout import Folders, address, hosts
from drkit.sandbox.links import Endpoint, Link
from drkit.sandbox.parts._aio import Answer, answer, fetch, serve
from drkit.sandbox.processes import Process, identify
from drkit.sandbox.strikes import Drilled
from drkit.sandbox.strikes.shut import Shut
from drkit.sandbox.supervisor import Part, Supervisor

META = {"key": "k", "fault": "matrix", "run": "r", "step": "s"}


@dataclass
class Lab:
    """A region's two servers and its edge behind their link, as the supervisor has them."""

    control: str
    environment: Environment
    secrets: dict[str, str]
    ssh: Endpoint
    edge: Endpoint
    key: asyncssh.SSHKey

    async def login(self) -> asyncssh.SSHClientConnection:
        """As drkit comes in."""
        async with asyncio.timeout(5):
            return await asyncssh.connect(
                self.ssh.host, self.ssh.port, username="ops", client_keys=[self.key], known_hosts=None, config=None,
                agent_path=None,
            )  # fmt: skip

    async def told(self, path: str, body: dict[str, Any] | None = None) -> Any:
        reply = await fetch("GET" if body is None else "POST", f"{self.control}/{path}", body, timeout_s=5)
        return reply.json()

    async def met(self, what: str) -> list[int]:
        return [one["met"] for one in (await self.told(what))["sites"]]


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    key = asyncssh.generate_private_key("ssh-ed25519")
    supervisor = Supervisor(Folders(tmp_path))
    supervisor.folders.make()
    link = supervisor.links[f"admin-{WEST}"] = Link(f"admin-{WEST}")

    async def here(_: Any) -> Answer:
        return answer({"edge": True})

    with ExitStack() as stack:
        routes, servers = [], []
        secrets = {"secret://lab/login": key.export_private_key().decode()}
        for name in hosts(WEST):
            config = {
                "name": name, "address": address(WEST, "host"), "port": 0, "user": "ops",
                "folder": str(supervisor.folders.host(name)), "authorized_keys": [key.export_public_key().decode()],
                "files": {"etc/services/app.json": json.dumps({"argv": ["sleep", "1"], "release": "x"})},
            }  # fmt: skip
            process, ready = stack.enter_context(part("host", config, tmp_path))
            seen = identify(process.pid)
            assert seen is not None
            supervisor.parts[name] = Part(name, WEST, "", {}, seen, process, ready)
            routes.append(await link.open_route(Endpoint(ready["address"], ready["port"]), address(WEST, "admin-link")))
            servers.append(
                Host(
                    name=name, site=WEST, address=Address(host=routes[-1].host, port=routes[-1].port), user="ops",
                    key=SecretRef(ref="secret://lab/login"), known_host=ready["public_key"],
                    machine_id=ready["machine_id"], roles=("app",),
                )
            )  # fmt: skip
        server, port = await serve(here, address(WEST, "edge"))
        edge = await link.open_route(Endpoint(address(WEST, "edge"), port), address(WEST, "admin-link"))
        environment = Environment(
            name="lab", kind="sandbox", account="0", sites=(Site(name=WEST, kind="region"),), hosts=tuple(servers),
            state_store="file:///nowhere",
        )  # fmt: skip
        yield Lab(await serve_control(supervisor), environment, secrets, routes[0], edge, key)
        server.close()
        link.close()


async def cut_off(connection: asyncssh.SSHClientConnection) -> None:
    async with asyncio.timeout(5):
        await connection.wait_closed()


async def served(lab: Lab) -> bool:
    try:
        (await lab.login()).abort()
    except (OSError, asyncssh.Error):
        return False
    return True


async def test_who_is_connected_or_connects_is_reset_until_the_lease_is_over(lab: Lab) -> None:
    inside = await lab.login()
    await lab.told(f"silence/{WEST}", {"lease_s": 1.0, "meta": META})
    await cut_off(inside)
    assert await lab.met("silence") == [0], "what was open does not count: nobody may have used it"
    with pytest.raises((ConnectionError, asyncssh.ConnectionLost)):
        await lab.login()
    assert await lab.met("silence") == [1]
    assert (await fetch("GET", f"{lab.edge.url}/x", timeout_s=5)).json() == {"edge": True}, "users are served"
    await until_async(lambda: served(lab), bool, 10)
    assert await lab.met("silence") == []


async def test_it_is_over_at_once_for_whoever_says_so(lab: Lab) -> None:
    await lab.told(f"silence/{WEST}", {"lease_s": 600.0, "meta": META})
    assert not await served(lab)
    await lab.told(f"silence/{WEST}/over", {})
    assert await served(lab)


async def test_nobody_may_log_in_until_the_lease_is_over(lab: Lab) -> None:
    inside = await lab.login()
    await lab.told(f"logins/{WEST}", {"lease_s": 1.0, "meta": META})
    await cut_off(inside)
    with pytest.raises(asyncssh.PermissionDenied):
        await lab.login()
    assert await lab.met("logins") == [1]
    await until_async(lambda: served(lab), bool, 10)
    assert await lab.met("logins") == []


async def test_who_grants_it_again_lets_them_in(lab: Lab) -> None:
    for _ in range(2):  # asked twice it takes nothing more away
        await lab.told(f"logins/{WEST}", {"lease_s": 600.0, "meta": META})
    assert not await served(lab)
    await lab.told(f"logins/{WEST}/over", {})
    assert await served(lab)


async def test_what_strikes_a_drill_knows_whom_it_has_met_and_when_it_is_over(lab: Lab) -> None:
    drilled = Drilled(lab.control, WEST, "run", "nodes", Process(1, 1), ())
    strike = Shut(drilled, "silence", (WEST,), 600.0)
    assert not await asyncio.to_thread(strike.lasts)
    await asyncio.to_thread(strike.begin)
    assert await asyncio.to_thread(strike.lasts) and await asyncio.to_thread(strike.met) == 0
    assert not await served(lab) and await asyncio.to_thread(strike.met) == 1
    await asyncio.to_thread(strike.end)
    assert await served(lab) and not await asyncio.to_thread(strike.lasts)


async def test_servers_that_were_silent_are_admitted_once_they_answer(lab: Lab) -> None:
    ctx = testing.context(lab.environment, secrets=lab.secrets, source=WEST, target=WEST, step="nodes")
    p = Admit(role="app", service="app", disk_free_mb_min=0, memory_free_mb_min=0)
    await lab.told(f"silence/{WEST}", {"lease_s": 600.0, "meta": META})
    before = await nodes(ctx, p)
    with pytest.raises(Unreachable, match="nothing was written"):
        await admit(ctx, p, before)
    assert admit.state(p, await nodes(ctx, p)) is State.UNKNOWN
    await lab.told(f"silence/{WEST}/over", {})
    await admit(ctx, p, before)
    assert admit.state(p, await nodes(ctx, p)) is State.HOLDS
    await ctx.providers.aclose()


@pytest.mark.parametrize("what", ["silence", "logins"])
async def test_a_site_that_is_not_there_is_refused(lab: Lab, what: str) -> None:
    assert "there is no site mars" in (await lab.told(f"{what}/mars", {"lease_s": 1.0, "meta": META}))["error"]
