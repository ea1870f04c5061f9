"""Get the writer's lease for an agent, keep it, and fence the agent's server when it cannot be kept.

Two persons may let a standby be promoted although no witness can be asked (an override). The witness is asked first all
the same, and what it says counts. Only when it has been silent for a term and a margin, in which a writer that cannot
renew has stopped itself, does the agent go on under an epoch of its own. It reports that to the first witness that
answers, also when it writes no more, so that nobody who wrote before can renew or come back. A witness that lives, and
that only we cannot reach, is what the two persons vouch against.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal

from drkit.sandbox.parts._agent import Agent
from drkit.sandbox.parts._lease import Refusal, boot_time, log


class Keeper:
    """Keeps one agent's lease. Its loop is the only one that asks for it, renews it and reports it."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self._expiry: asyncio.TimerHandle | None = None

    async def look(self) -> None:
        """Know the epoch to go on from, and since when nobody answers, should it come to an override."""
        try:
            epoch = await self.agent.lease.look()
        except (OSError, ValueError, Refusal):
            return  # the lease remembers that no answer came
        self.agent.memory.witnessed(epoch)

    async def keep(self) -> None:
        """Renew six times a term; acquire as soon as the server may write. Runs for ever."""
        agent = self.agent
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(agent.looked_for.wait(), agent.term_s / 6)
            agent.looked_for.clear()
            agent.keep(False)  # notices a promotion that no client has made us notice
            if agent.process is None or agent.memory.fenced is not None:
                await self._report_the_end()
            elif agent.standby:
                await self.look()
            elif agent.lease.held:
                await self._renew()
            elif not agent.draining:
                await self._become_writer()

    async def _renew(self) -> None:
        agent, lease = self.agent, self.agent.lease
        begun = agent.memory.begun if lease.by_override else None
        try:
            if begun is not None:
                agent.memory.hold(await lease.adopt(begun))
                log(f"the witness adopted the override as epoch {lease.epoch}")
            else:
                await lease.renew()
        except Refusal as refusal:
            agent.fence(f"the witness refused the renewal: {refusal.why}", graceful=refusal.why == "revoked")
        except (OSError, ValueError) as error:
            if begun is None:
                log(f"no renewal ({error or type(error).__name__}); {lease.remaining_s:.1f} s left")
        self._fence_at_expiry()

    def _fence_at_expiry(self) -> None:
        lease = self.agent.lease
        if not lease.held or lease.by_override:
            return
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry = asyncio.get_running_loop().call_later(lease.remaining_s, self._expired)

    def _expired(self) -> None:
        agent = self.agent
        if agent.lease.held and not agent.lease.valid:
            # Also when a graceful stop is under way: its time is over.
            agent.shut("the lease ran out")
            agent.lease.drop()
            agent.fence("the lease ran out", graceful=False)
            if agent.process is not None:
                agent.process.send_signal(signal.SIGQUIT)

    async def _become_writer(self) -> None:
        """Get the lease before the first acknowledgement. A server that cannot get it must not stay writable."""
        agent = self.agent
        promoted = agent.memory.epoch is None  # a standby never had a lease
        why = await self._get_lease()
        if not agent.lease.held:
            if agent.process is not None and not agent.draining:
                agent.fence(f"no writer's lease: {why}", graceful=False)
            return
        self._fence_at_expiry()
        if promoted:
            await self._stop_waiting_for_standbys()
        agent.may_write = True
        log(f"writer under epoch {agent.lease.epoch}{', by override' if agent.lease.by_override else ''}")
        agent.door.changed()

    async def _get_lease(self) -> str:
        """Ask until the lease is ours, on disk before use; else why it is not."""
        agent, lease, memory = self.agent, self.agent.lease, self.agent.memory
        deadline = boot_time() + agent.acquire_within_s
        why = "the witness does not answer"
        while boot_time() < deadline and agent.process is not None and not agent.draining:
            epoch: int | None = None
            try:
                # Who wrote by override before a restart goes on from there: only adoption can follow.
                epoch = await (lease.adopt(memory.begun) if memory.begun else lease.acquire(memory.epoch))
            except Refusal as refusal:
                why = refusal.why
                if why == "superseded":
                    return why
            except (OSError, ValueError) as error:
                why = f"the witness does not answer ({error or type(error).__name__})"
                await self.look()
            if epoch is not None:
                memory.hold(epoch)
                return ""
            if memory.override is not None and lease.witness_silent_s > agent.term_s + agent.margin_s:
                lease.take(memory.begin())
                return ""
            await asyncio.sleep(0.05)
        return why

    async def _report_the_end(self) -> None:
        """What was written by override and is over: the witness must know, or the old writer could come back."""
        memory = self.agent.memory
        if memory.begun is None or self.agent.lease.held:
            return
        try:
            memory.reported(await self.agent.lease.adopt(memory.begun, ended=True))
        except Refusal as refusal:
            log(f"the override's end was not adopted: {refusal.why}")
            memory.reported(memory.begun["epoch"])
        except (OSError, ValueError):
            return  # still no witness: next time

    async def _stop_waiting_for_standbys(self) -> None:
        """The setting comes with the clone; on a new writer it would make every commit wait for a dead standby."""
        try:
            async with asyncio.timeout(self.agent.term_s / 3):  # the lease runs, and is not renewed meanwhile
                await self.agent.sql.run("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
        except OSError as error:
            log(f"synchronous_standby_names not cleared: {error or type(error).__name__}")
