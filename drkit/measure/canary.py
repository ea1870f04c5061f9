"""The canary: number each write to the database and log the number outside it once, and only once, acknowledged.

One write at a time, so that the order of acknowledgements is the order of the writes. A write without an answer is
logged as *unanswered*: it may be in the database or not, and its number is never used again. A sign of life every
second tells a stretch without writers from one in which nobody kept the ledger.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Gt, MinLen
from pydantic import BaseModel, ConfigDict

from drkit.errors import JournalError
from drkit.measure.readings import ReadingsWriter, tail
from drkit.model.environment import Address

if TYPE_CHECKING:
    import psycopg

log = logging.getLogger("drkit.canary")

#: Classes of SQLSTATE after which nobody knows whether the write was committed: connection lost, operator
#: intervention (a backend ended while it waits for its synchronous standby *has* committed), internal error.
_AMBIGUOUS = ("08", "57", "58", "XX", "40003")
_PAUSE_S = 0.1


class CanaryServer(BaseModel):
    """One side of the replicated pair."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    site: str
    address: Address


class CanaryConfig(BaseModel):
    """Where the canary writes: whichever server accepts writes. The password is read from `password_file`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    servers: Annotated[tuple[CanaryServer, ...], MinLen(1)]
    dbname: str
    user: str
    password_file: Path
    rate_per_s: Annotated[float, Gt(0)] = 40.0
    answer_within_s: Annotated[float, Gt(0)] = 2.0
    connect_within_s: Annotated[float, Gt(0)] = 2.0


class Canary:
    """Writes numbered rows until `stop` is set."""

    def __init__(self, config: CanaryConfig, ledger: ReadingsWriter, first: int) -> None:
        self.config = config
        self.ledger = ledger
        self.number = first - 1
        self._servers = list(config.servers)
        self._complained_s = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Connect to the writer, write, and look for the writer again whenever a write was not acknowledged."""
        while not stop.is_set():
            connection = await self._connect()
            if connection is None:
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), _PAUSE_S)
                continue
            try:
                if await self._start_above(connection):
                    await self._write_on(connection, stop)
                else:
                    await asyncio.sleep(_PAUSE_S)
            finally:
                _cut(connection)

    async def _connect(self) -> psycopg.AsyncConnection[Any] | None:
        import psycopg

        config = self.config
        try:
            async with asyncio.timeout(config.connect_within_s * len(self._servers) + 1):
                return await psycopg.AsyncConnection.connect(
                    host=",".join(server.address.host for server in self._servers),
                    port=",".join(str(server.address.port) for server in self._servers),
                    dbname=config.dbname,
                    user=config.user,
                    password=config.password_file.read_text(encoding="utf-8").rstrip("\n"),
                    target_session_attrs="read-write",
                    connect_timeout=str(max(2, round(config.connect_within_s))),
                    application_name="drkit-canary",
                    autocommit=True,
                )
        except (psycopg.Error, OSError, TimeoutError) as error:
            self._servers.append(self._servers.pop(0))  # one that hangs must not be asked first each time
            self._complain(error)
            return None

    async def _start_above(self, connection: psycopg.AsyncConnection[Any]) -> bool:
        """Numbers go on above the database's, and never below one that this ledger has used."""
        call = asyncio.ensure_future(connection.execute("SELECT coalesce(max(n), 0) FROM canary"))
        error = await self._answered(connection, call)
        row = None if error else await call.result().fetchone()
        if row is None:
            self._complain(error or RuntimeError("no row"))
            return False
        self.number = max(self.number, int(row[0]))
        return True

    async def _write_on(self, connection: psycopg.AsyncConnection[Any], stop: asyncio.Event) -> None:
        site = next(s.site for s in self._servers if _is(s.address, connection))
        pace_s = 1 / self.config.rate_per_s
        while not stop.is_set() and not connection.closed:
            due = time.monotonic() + pace_s
            if not await self._write(connection, site):
                await asyncio.sleep(_PAUSE_S)
                return
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _write(self, connection: psycopg.AsyncConnection[Any], site: str) -> bool:
        """One numbered write, logged as it came out. False: look for the writer again."""
        self.number += 1
        sent_s = time.monotonic()
        call = asyncio.ensure_future(
            connection.execute(
                "INSERT INTO canary (n, site, written_at) VALUES (%s, %s, %s)", (self.number, site, datetime.now(UTC))
            )
        )
        try:
            error = await self._answered(connection, call)
        except asyncio.CancelledError:
            self._log("unanswered", site, sent_s, "stopped while waiting")
            raise
        if error is None:
            self._log("acknowledged", site, sent_s, None)
            return True
        sqlstate = getattr(error, "sqlstate", None)
        refused = sqlstate is not None and not sqlstate.startswith(_AMBIGUOUS)
        self._log("refused" if refused else "unanswered", site, sent_s, _first_line(error))
        return False

    async def _answered(
        self, connection: psycopg.AsyncConnection[Any], call: asyncio.Future[Any]
    ) -> BaseException | None:
        """Wait for a call as long as an answer may take; what went wrong, or None. Leaves the call finished."""
        import psycopg

        try:
            done, _ = await asyncio.wait({call}, timeout=self.config.answer_within_s)
        except asyncio.CancelledError:
            await _abandon(connection, call)
            raise
        if not done:
            await _abandon(connection, call)
            return TimeoutError("no answer in time")
        error = call.exception()
        if error is not None and not isinstance(error, psycopg.Error | OSError):
            raise error
        return error

    def _log(self, outcome: str, site: str, sent_s: float, reason: str | None) -> None:
        self.ledger.write(
            {
                "what": "write", "outcome": outcome, "n": self.number, "site": site,
                "latency_s": round(time.monotonic() - sent_s, 6), "reason": reason,
            }
        )  # fmt: skip

    def _complain(self, error: BaseException) -> None:
        """Once a second, and never with a connection string, which holds the password."""
        if time.monotonic() - self._complained_s >= 1.0:
            self._complained_s = time.monotonic()
            reason = _first_line(error)
            self.ledger.write({"what": "no-writer", "reason": reason})
            log.info("no writer: %s", reason)


def first_number(folder: Path) -> int:
    """One above the highest number that any ledger in the folder has used: no number is ever used twice."""
    highest = 0
    for path in folder.glob("canary-*.jsonl"):
        try:
            numbers = _numbers(path, 1 << 18) or _numbers(path, 1 << 40)
        except (OSError, ValueError) as error:
            raise JournalError(
                f"earlier ledger {path} cannot be read, so its numbers are not known: {error}"
            ) from error
        highest = max(highest, *numbers, 0)
    return highest + 1


def _numbers(path: Path, bytes_max: int) -> list[int]:
    return [record["n"] for record in tail(path, bytes_max=bytes_max) if record.get("what") == "write"]


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _is(address: Address, connection: psycopg.AsyncConnection[Any]) -> bool:
    return (address.host, address.port) == (connection.info.host, connection.info.port)


async def _abandon(connection: psycopg.AsyncConnection[Any], call: asyncio.Future[Any]) -> None:
    """End a call without its answer. Asking the server to cancel it would be to wait for the server again."""
    _cut(connection)
    await asyncio.wait({call})
    call.exception()  # looked at, so that nobody warns of it; what it says about the socket is our own doing


def _cut(connection: psycopg.AsyncConnection[Any]) -> None:
    """Shut the socket down, so that whoever waits for it sees its end; then nothing is left to close politely."""
    if connection.pgconn.status != 0:  # CONNECTION_OK is 0: already finished or never up
        return
    with suppress(OSError), socket.socket(fileno=os.dup(connection.pgconn.socket)) as handle:
        handle.shutdown(socket.SHUT_RDWR)
