"""The dead-man agent: parent of one PostgreSQL server, its only TCP door, and holder of the writer's lease.

What it promises is in `_agent`; `_keeper` gets and keeps the lease, also on the word of two persons; `_agent_api` is
the control API.
"""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Any

from drkit.errors import DrkitError
from drkit.sandbox import postgres
from drkit.sandbox.parts import announce, die_with_parent, load_config
from drkit.sandbox.parts._agent import Agent
from drkit.sandbox.parts._agent_api import AgentApi
from drkit.sandbox.parts._aio import serve
from drkit.sandbox.parts._keeper import Keeper
from drkit.sandbox.parts._lease import Refusal, boot_time, log


async def run(config: dict[str, Any]) -> None:
    """Serve until SIGTERM.

    Config: site, host, port, admin_port, binaries, data, sockets, log, state, witness, term_s, margin_s,
    superuser_password_file, replicator_password_file, `make` ({} for a new database, {upstream: {host, port}} for a
    clone; only if there is no data yet), and `fenced` (a reason) if the server must not be started.
    """
    agent = Agent(config)
    keeper = Keeper(agent)
    await agent.make_server(config["make"])
    if config.get("fenced") and not agent.server.standby_signal.exists():
        agent.memory.fence(str(config["fenced"]))
    port = await agent.door.listen(config["host"], int(config.get("port", 0)))
    _, admin_port = await serve(AgentApi(agent).handle, config["host"], int(config.get("admin_port", 0)))
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    leases = asyncio.ensure_future(keeper.keep())
    if agent.memory.fenced is None:
        await agent.start_server()
        await (keeper.look() if agent.standby else _until_it_serves(agent))
    identity = postgres.control_data(agent.server)["Database system identifier"]
    announce(host=config["host"], port=port, admin_port=admin_port, system_identifier=identity)
    await asyncio.wait([leases, asyncio.ensure_future(stop.wait())], return_when=asyncio.FIRST_COMPLETED)
    if leases.done():
        leases.result()
    await _leave(agent, leases)


async def _until_it_serves(agent: Agent) -> None:
    deadline = boot_time() + agent.acquire_within_s + 1
    while agent.keep(False) == "held" and boot_time() < deadline:
        await asyncio.sleep(0.01)
    if agent.keep(False) == "held":
        raise DrkitError(f"postgres of {agent.site} got no writer's lease")


async def _leave(agent: Agent, leases: asyncio.Task[None]) -> None:
    """SIGTERM: stop the server quickly (it is not fenced by that), give the lease back."""
    leases.cancel()
    agent.draining = True
    agent.door.close_sessions(replication=True)
    process, agent.process = agent.process, None
    if process is not None:
        await agent.end(process, "immediate", 0.7)
    if agent.lease.held:
        try:
            await asyncio.wait_for(agent.lease.release(), 0.2)
        except (OSError, ValueError, Refusal) as error:
            log(f"the lease could not be given back: {error or type(error).__name__}")


def main() -> None:
    """Run until SIGTERM."""
    die_with_parent()
    try:
        asyncio.run(run(load_config()))
    except DrkitError as error:
        raise SystemExit(json.dumps({"error": error.message})) from error


if __name__ == "__main__":
    main()
