"""One run per environment at a time, also from two machines: a lease with a fencing token, in the state store.

The object `locks/<environment>.json` names the holder. Every change is a conditional write on what was read, so of
two who want it one gets it. The protocol, and why two never hold it at once:

- A holder counts its term from the moment it *sent* the last renewal that was acknowledged, on CLOCK_BOOTTIME.
- A rival does not compare clocks: it watches the renewal counter and counts, on its own clock, from when it first saw
  the value that has not moved since. That is after the renewal was sent; so when a whole term has passed for the
  rival, it has passed for the holder.
- On top of the term it waits for the longest call of the holder's plan, which may have been sent in the term's last
  moment. (A drill is not waited for that long: what it does, the real run heals.)
- A holder whose process is dead for certain (same boot, same pid namespace, pid and start time gone) is not waited
  for by the run's own resume, nor, if it is a drill, by a real run.
- A real run takes a drill's lease: it writes a *claim* on the drill's token, which the drill sees when it renews, and
  gives up. If it does not, its term runs out. Whoever heals what a drill broke is as urgent.

The token grows by one with every acquisition and is kept when the lease is released. `unlock` is for people.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, TypeVar

import anyio.to_thread

from drkit.engine.identity import ProcessId, hostname, login, this_process
from drkit.errors import JournalError, Locked, Refused
from drkit.model.ports import Clock, Holder, Objects
from drkit.model.values import canonical, utc

SCHEMA: Final = "drkit.lease/1"
TERM_S: Final = 20.0
DRILL_TERM_S: Final = 8.0
"""Short, so that a real run that finds a frozen drill has the lease within 10 s."""
LONGEST_CALL_S: Final = 15.0
POLL_S: Final = 0.25

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Record:
    """What the lock object says. `holder` None: free; the token stays. `longest_s`: the holder's longest call."""

    token: int
    holder: Holder | None = None
    process: ProcessId | None = None
    longest_s: float = 0.0
    renewed_at: str = ""
    """By the holder's wall clock: for people to read, never subtracted."""

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical({"schema": SCHEMA} | asdict(self))

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Record:
        """The record that `to_bytes` gave. JournalError if it is not one that this version knows."""
        try:
            fields: dict[str, Any] = json.loads(data)
            if fields.pop("schema") != SCHEMA:
                raise ValueError("another schema")
            holder, process = fields.pop("holder"), fields.pop("process")
            return cls(
                holder=None if holder is None else Holder(**holder),
                process=None if process is None else ProcessId(**process),
                **fields,
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise JournalError(
                f"the lock {where} cannot be read ({error}): written by a newer drkit?",
                state="Nothing was changed.",
                hint="drkit --version",
            ) from error


def lock_key(environment: str) -> str:
    """Name of the lock object."""
    return f"locks/{environment}.json"


def claim_key(environment: str) -> str:
    """Name of the object in which a real run says that it wants a drill's lease."""
    return f"locks/{environment}.claim.json"


class LeaseProtocol:
    """The protocol, one step a call, synchronous: no thread, no waiting. `EnvironmentLease` puts it to use.

    Every method may raise JournalError: the state store does not answer.
    """

    def __init__(
        self,
        objects: Objects,
        environment: str,
        clock: Clock,
        *,
        who: str,
        host: str,
        process: ProcessId,
        term_s: float,
        drill_term_s: float,
        longest_call_s: float,
        is_dead: Callable[[ProcessId], bool] = lambda process: process.dead,
        new_lock_id: Callable[[], str] = lambda: secrets.token_hex(4),
    ) -> None:
        """`is_dead`: whether a holder's process is gone for certain, as seen from here."""
        self._objects, self._environment, self._clock = objects, environment, clock
        self._who, self._host, self._process = who, host, process
        self._is_dead, self._new_lock_id = is_dead, new_lock_id
        self._term_s, self._drill_term_s, self._longest_s = term_s, drill_term_s, longest_call_s
        self._key, self._claim_key = lock_key(environment), claim_key(environment)
        self._record: Record | None = None  # ours, as last acknowledged; None: we hold nothing
        self._tag = ""
        self._sent = 0.0
        self._watched: tuple[str, int] | None = None  # lock id and counter that we saw, and since when
        self._since = 0.0
        self._claimed: int | None = None

    @property
    def holder(self) -> Holder | None:
        """Us, if we hold it as far as we know."""
        return self._record.holder if self._record else None

    def attempt(self, run: str, *, drill: bool, take_over: bool = False, urgent: bool = False) -> Holder | None:
        """Try once. Us as holder; None: not yet, try again soon; Locked: no, and it would not help to wait.

        `urgent`: a drill has to go, though we are no real run ourselves.
        """
        found = self._objects.get(self._key)
        if found is None:
            return self._write(Record(1, self._as_holder(run, 1, drill)), None)
        record, tag = Record.from_bytes(found[0], self._key), found[1]
        if record.holder is not None and not self._may_take(
            record, record.holder, run, record.holder.drill and (urgent or not drill), take_over
        ):
            return None
        self._claimed = self._watched = None
        return self._write(Record(record.token + 1, self._as_holder(run, record.token + 1, drill)), tag)

    def renew(self) -> None:
        """Extend by one term. Locked if somebody else holds it now, or a real run claims it: then it is given up."""
        mine = self._mine()
        assert mine.holder is not None
        if mine.holder.drill and self._claim_on(mine.token):
            self.release()
            raise self._lost("somebody took this drill's lease: a real run, or whoever heals what it broke")
        ahead = replace(mine, holder=replace(mine.holder, counter=mine.holder.counter + 1))
        if self._write(ahead, self._tag) is None:
            self._record = None
            raise self._lost("another run holds this environment now")

    def remaining_s(self) -> float:
        """Seconds for which effects may still be started, counted from the sending of the last acknowledged renewal."""
        if self._record is None or self._record.holder is None:
            return 0.0
        return self._sent + self._record.holder.term_s - self._clock.monotonic()

    def release(self) -> None:
        """Give it up; the token stays. No matter if somebody else holds it already."""
        mine, self._record = self._record, None
        if mine is not None:
            self._objects.put(self._key, Record(mine.token).to_bytes(), if_tag=self._tag)

    def _mine(self) -> Record:
        if self._record is None:
            raise self._lost("this process does not hold the lease")
        return self._record

    def _as_holder(self, run: str, token: int, drill: bool) -> Holder:
        return Holder(
            run=run, who=self._who, host=self._host, since=utc(self._clock.wall()), token=token,
            lock_id=self._new_lock_id(), counter=0, drill=drill,
            term_s=self._drill_term_s if drill else self._term_s,
        )  # fmt: skip

    def _write(self, record: Record, tag: str | None) -> Holder | None:
        """Write on the condition that nothing changed since `tag`; us as holder, or None if somebody was faster."""
        record = replace(record, process=self._process, longest_s=self._longest_s, renewed_at=utc(self._clock.wall()))
        sent = self._clock.monotonic()
        data = record.to_bytes()
        got = self._objects.put(self._key, data, if_absent=tag is None, if_tag=tag)
        if got is None:
            # The condition also fails when our own write got through and its answer did not (it was sent twice).
            found = self._objects.get(self._key)
            if found is None or not self._ours(Record.from_bytes(found[0], self._key), record):
                return None
            got = found[1]
            if found[0] != data:  # an earlier renewal of ours got through, this one did not
                sent = self._sent
        self._record, self._tag, self._sent = record, got, sent
        return record.holder

    @staticmethod
    def _ours(found: Record, wanted: Record) -> bool:
        return found.holder is not None and wanted.holder is not None and found.holder.lock_id == wanted.holder.lock_id

    def _may_take(self, record: Record, holder: Holder, run: str, yields: bool, take_over: bool) -> bool:
        """True: take it now. False: not yet. Locked: never, as asked."""
        now = self._clock.monotonic()
        if self._watched != (holder.lock_id, holder.counter):
            moved = self._watched is not None and self._watched[0] == holder.lock_id
            self._watched, self._since = (holder.lock_id, holder.counter), now
            if moved and take_over and not yields:
                raise self._locked(record, holder, "it is alive: its heartbeat moved while we watched")
        dead = record.process is not None and self._is_dead(record.process)
        silent_s = now - self._since
        if yields:
            if self._claimed != record.token:
                self._claim(record.token, run)
            return dead or silent_s > holder.term_s
        if dead and (run == holder.run or take_over):
            return True
        if take_over:
            return silent_s > holder.term_s + record.longest_s
        raise self._locked(record, holder, "its process is gone" if dead else None)

    def _claim(self, token: int, run: str) -> None:
        claim = {"schema": SCHEMA, "token": token, "run": run, "who": self._who, "host": self._host}
        self._objects.put(self._claim_key, canonical(claim))
        self._claimed = token

    def _claim_on(self, token: int) -> bool:
        """Claims bind to a token, which never comes again: an old one does no harm."""
        found = self._objects.get(self._claim_key)
        try:
            return found is not None and json.loads(found[0])["token"] == token
        except (ValueError, KeyError, TypeError) as error:
            raise JournalError(f"the claim {self._claim_key} cannot be read: {error}") from error

    def _locked(self, record: Record, holder: Holder, more: str | None) -> Locked:
        return Locked(
            f"{self._environment} is locked. {describe(record, holder)}" + (f"; {more}" if more else ""),
            hint=_way_out(record, holder, self._environment),
        )

    def _lost(self, why: str) -> Locked:
        return Locked(
            f"the lease of {self._environment} is lost: {why}",
            state="No effect is started from here on; what was sent before is in the journal.",
            code="E0702",
        )


class EnvironmentLease:
    """The lease of one environment as the driver uses it; implements the port `Lease`.

    The state store is asked in threads (`in_thread`; a driver without threads gives one that calls directly).
    JournalError: the state store does not answer; the lease then runs out by itself.
    """

    def __init__(
        self,
        objects: Objects,
        environment: str,
        clock: Clock,
        *,
        longest_call_s: float = LONGEST_CALL_S,
        term_s: float = TERM_S,
        drill_term_s: float = DRILL_TERM_S,
        who: str | None = None,
        host: str | None = None,
        process: ProcessId | None = None,
        in_thread: Callable[[Callable[[], T]], Awaitable[T]] | None = None,
        is_dead: Callable[[ProcessId], bool] = lambda process: process.dead,
        new_lock_id: Callable[[], str] = lambda: secrets.token_hex(4),
    ) -> None:
        """`is_dead` and `new_lock_id` are what a simulation has instead of processes and of randomness."""
        self._clock = clock
        self._protocol = LeaseProtocol(
            objects, environment, clock,
            who=who or login(), host=host or hostname(), process=process or this_process(),
            term_s=term_s, drill_term_s=drill_term_s, longest_call_s=longest_call_s,
            is_dead=is_dead, new_lock_id=new_lock_id,
        )  # fmt: skip
        self._in_thread: Callable[[Callable[[], Any]], Awaitable[Any]] = in_thread or anyio.to_thread.run_sync

    @property
    def holder(self) -> Holder | None:
        """Us, if we hold it as far as we know."""
        return self._protocol.holder

    @property
    def token(self) -> int:
        """Our fencing token; 0 when we hold nothing."""
        return self.holder.token if self.holder else 0

    async def acquire(self, run: str, *, drill: bool, take_over: bool = False, urgent: bool = False) -> Holder:
        """Hold the lease, or raise Locked naming the holder. Waits only for a drill that has to go, or to take over.

        A drill has to go for a real run, and for who is `urgent`.
        """
        while True:
            holder: Holder | None = await self._in_thread(
                lambda: self._protocol.attempt(run, drill=drill, take_over=take_over, urgent=urgent)
            )
            if holder is not None:
                return holder
            await self._clock.sleep(POLL_S)

    async def renew(self) -> None:
        """Extend by one term. Locked if somebody else holds it now."""
        await self._in_thread(self._protocol.renew)

    def remaining_s(self) -> float:
        """Seconds for which this process may still start effects; 0 or less: none."""
        return self._protocol.remaining_s()

    async def release(self) -> None:
        """Give it up. The token stays remembered."""
        await self._in_thread(self._protocol.release)


def look(objects: Objects, environment: str) -> tuple[Record, Holder] | None:
    """Who holds the environment, for screens; None if nobody does."""
    found = objects.get(lock_key(environment))
    record = None if found is None else Record.from_bytes(found[0], lock_key(environment))
    return None if record is None or record.holder is None else (record, record.holder)


def unlock(objects: Objects, environment: str, lock_id: str) -> Holder:
    """Free the environment from the holder whose lock id is given; who held it.

    For people who know that the holder is gone: nothing is waited for. Refused if the id is another one's.
    """
    key = lock_key(environment)
    found = objects.get(key)
    record = None if found is None else Record.from_bytes(found[0], key)
    if found is None or record is None or record.holder is None:
        raise Refused(f"{environment} is not locked: there is nothing to unlock", hint="drkit runs")
    if record.holder.lock_id != lock_id:
        raise Refused(
            f"{lock_id} is not the lock of {environment}. {describe(record, record.holder)}",
            hint=f"drkit status {record.holder.run}",
        )
    if objects.put(key, Record(record.token).to_bytes(), if_tag=found[1]) is None:
        raise Refused(f"{environment}'s holder renewed its lease in this very moment: it is alive", hint="drkit runs")
    return record.holder


def describe(record: Record, holder: Holder) -> str:
    """`Run h2mx by lee@bastion-2 since 03:05:40 UTC, heartbeat 03:08:41 UTC by its clock, lock 1f2e3d4c`."""
    what = "Drill" if holder.drill else "Run"
    return (
        f"{what} {holder.run} by {holder.who}@{holder.host} since {_time(holder.since)}, "
        f"heartbeat {_age(record)}, lock {holder.lock_id}"
    )


def _age(record: Record) -> str:
    """Wall clocks of two machines are never compared; on one machine they are one clock."""
    from datetime import UTC, datetime

    if record.process is not None and record.process.here:
        age = datetime.now(UTC) - datetime.fromisoformat(record.renewed_at)
        return f"{max(0.0, age.total_seconds()):.0f} s ago"
    return f"{_time(record.renewed_at)} by its clock"


def _time(at: str) -> str:
    return f"{at[11:19]} UTC"


def _way_out(record: Record, holder: Holder, environment: str) -> str:
    """A drill that nobody sees to is ended; what else was cut off is continued."""
    here = record.process is not None and record.process.here
    if here and record.process is not None and not record.process.dead:
        return f"drkit status {holder.run} --watch"
    if holder.drill:
        return f"drkit chaos stop --run {holder.run} --env {environment}"
    return f"drkit resume {holder.run}" if here else f"drkit status {holder.run} --watch"
