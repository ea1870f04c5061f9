"""What may be asked of an agent: HTTP on loopback, behind the region's admin link.

GET  /status
POST /fence       {mode: graceful|immediate, reason}   graceful: clients out, standbys get everything, stop
POST /promote     {}                                   as `SELECT pg_promote()` over the door would
                  {override: {by, run, token, loss_s}} also without a witness, on the word of two persons
POST /replication {mode: sync|async, standby}
POST /start       {}                                   start a server that ended by itself
POST /rejoin      {as: writer} | {as: standby, upstream: {host, port}}

Whatever is changed may carry a `permit` (see `_holders`); 412: who sent it holds the environment no longer.
"""

from __future__ import annotations

import asyncio
from typing import Any

from drkit.errors import DrkitError
from drkit.sandbox import postgres
from drkit.sandbox.links import Endpoint
from drkit.sandbox.parts._agent import Agent
from drkit.sandbox.parts._aio import Answer, Message, answer
from drkit.sandbox.parts._holders import Holders, clock
from drkit.sandbox.parts._lease import boot_time, log


class AgentApi:
    """The control API of one agent."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.holders = Holders(agent.memory.path.with_suffix(".holder"))

    async def handle(self, request: Message) -> Answer:
        """The control API."""
        agent = self.agent
        body = request.json()
        if request.method != "GET" and (why := self.holders.why_not(body.get("permit"))) is not None:
            return answer({"error": why}, 412)
        try:
            match request.method, request.path:
                case "GET", "/status":
                    pass
                case "POST", "/fence":
                    mode = body.get("mode", "graceful")
                    reason = str(body.get("reason") or "asked to")
                    await asyncio.shield(agent.fence(reason, graceful=mode == "graceful"))
                case "POST", "/promote":
                    await self._promote(body.get("override"))
                case "POST", "/replication":
                    await self._replicate(str(body["mode"]), str(body.get("standby", "*")))
                case "POST", "/start":
                    if agent.process is None and agent.memory.fenced is None:
                        await agent.start_server()
                case "POST", "/rejoin":
                    await self._rejoin(body)
                case _:
                    return answer({"error": f"no {request.method} {request.path}"}, 404)
        except (DrkitError, OSError) as error:
            return answer({"error": str(error), **await self.status()}, 409)
        return answer(await self.status())

    async def _promote(self, override: Any) -> None:
        agent = self.agent
        if override is not None:
            self._permit(override)
        try:
            await agent.sql.ask("SELECT pg_promote(true, 60)")
        except OSError:
            if agent.server.standby_signal.exists():
                agent.memory.lapse()
            raise
        agent.looked_for.set()
        deadline = boot_time() + agent.acquire_within_s + 1
        while not agent.may_write:
            if agent.process is None or boot_time() > deadline:
                raise DrkitError(f"promoted, but not a writer: {agent.why_shut()}")
            await asyncio.sleep(0.02)

    def _permit(self, override: Any) -> None:
        """Durable before anything is promoted: an agent that dies in between still knows it."""
        try:
            by = sorted({str(name) for name in override["by"]})
            run, token, loss_s = str(override["run"]), int(override["token"]), float(override["loss_s"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"an override says by, run, token and loss_s ({error})") from error
        if len(by) < 2 or token < 1:
            raise ValueError("an override takes two persons and the fencing token of a run")
        if self.agent.process is None or not self.agent.server.standby_signal.exists():
            raise DrkitError("an override promotes a standby, and this server is none")
        self.agent.memory.permit({"by": by, "run": run, "token": token, "loss_s": loss_s})
        log(f"override by {' and '.join(by)} in run {run}, stated loss {loss_s:g} s")

    async def _replicate(self, mode: str, standby: str) -> None:
        agent = self.agent
        if mode not in ("sync", "async"):
            raise ValueError(f"mode is sync or async, not {mode!r}")
        quoted = standby if standby == "*" else '"' + standby.replace('"', '""') + '"'
        names = quoted.replace("'", "''") if mode == "sync" else ""
        await agent.sql.run(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'", "SELECT pg_reload_conf()")

    async def _rejoin(self, body: dict[str, Any]) -> None:
        agent = self.agent
        if agent.process is not None:
            raise DrkitError("the server is running; fence it first")
        match body.get("as"):
            case "writer":  # refused by the witness if anybody else was the writer meanwhile
                agent.memory.unfence()
                await agent.start_server()
            case "standby":
                upstream = Endpoint(str(body["upstream"]["host"]), int(body["upstream"]["port"]))
                password = agent.replicator_password.read_text().strip()
                await asyncio.to_thread(postgres.replace_with_clone, agent.server, upstream, password)
                agent.memory.forget()
                await agent.start_server()
            case other:
                raise ValueError(f"as is writer or standby, not {other!r}")

    async def status(self) -> dict[str, Any]:
        """What is so now. What the server itself says is null while it does not answer."""
        agent = self.agent
        running = agent.process is not None
        # A server that has ended, and whose fence is not written down yet, is not called stopped: it could start again.
        role = "stopping" if agent.draining and agent.memory.fenced is None else "stopped"
        if running:
            role = "standby" if agent.standby else "primary" if agent.may_write and agent.lease.valid else "promoting"
        return {
            "site": agent.site,
            "role": role,
            "postgres_pid": agent.process.pid if agent.process is not None else None,
            "fenced": agent.memory.fenced,
            "lease": {
                "held": agent.lease.held,
                "epoch": agent.lease.epoch,
                "remaining_s": None if agent.lease.by_override else round(agent.lease.remaining_s, 3),
                "by_override": agent.lease.by_override,
            },
            "override": agent.memory.override,
            "sessions": len(agent.door.sessions),
            "clock": clock(),
            **await agent.sql.describe(answering=running),
        }
