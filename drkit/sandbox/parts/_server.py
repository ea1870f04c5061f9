"""An agent's own way to its PostgreSQL server: SQL as superuser over the Unix socket, past the door.

Whatever psycopg raises becomes OSError here, so that callers have one thing to expect from a server that is starting,
stopping or gone.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from drkit.sandbox.postgres import SOCKET_PORT, Server

if TYPE_CHECKING:
    from psycopg import AsyncConnection

_DESCRIBE = """
SELECT pg_is_in_recovery(),
       s.system_identifier::text,
       c.timeline_id,
       CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END::text,
       pg_last_wal_replay_lsn()::text,
       (SELECT status = 'streaming' FROM pg_stat_wal_receiver),
       (SELECT coalesce(json_agg(json_build_object('name', application_name, 'state', state, 'sync', sync_state,
                                                   'flush_lsn', flush_lsn::text, 'replay_lsn', replay_lsn::text)),
                        '[]'::json) FROM pg_stat_replication),
       current_setting('default_transaction_read_only') = 'on',
       current_setting('synchronous_standby_names')
  FROM pg_control_system() s, pg_control_checkpoint() c
"""
_NAMES = (
    "in_recovery",
    "system_identifier",
    "timeline",
    "receive_lsn",
    "replay_lsn",
    "upstream_connected",
    "standbys",
    "read_only",
    "synchronous_standby_names",
)


class ServerSession:
    """Opens a connection for each question: they are rare, and a kept one would go stale with the server."""

    def __init__(self, server: Server, password_file: Path) -> None:
        self.server = server
        self._password_file = password_file

    async def ask(self, query: str) -> tuple[Any, ...] | None:
        """The first row. Raises OSError."""
        import psycopg

        try:
            async with await self._connect() as connection:
                cursor = await connection.execute(query.encode())
                return await cursor.fetchone()
        except psycopg.Error as error:
            raise OSError(str(error).strip()) from error

    async def run(self, *statements: str) -> None:
        """Each statement by itself, in order. Raises OSError."""
        import psycopg

        try:
            async with await self._connect() as connection:
                for statement in statements:
                    await connection.execute(statement.encode())
        except psycopg.Error as error:
            raise OSError(str(error).strip()) from error

    async def describe(self, *, answering: bool) -> dict[str, Any]:
        """Recovery state, identity, timeline, positions, upstream and standbys; all null if it does not answer."""
        row: tuple[Any, ...] | None = None
        if answering:
            try:
                row = await self.ask(_DESCRIBE)
            except OSError:
                row = None  # stopping or starting: null says that it did not answer
        return dict(zip(_NAMES, row or (None,) * len(_NAMES), strict=True))

    async def _connect(self) -> AsyncConnection[tuple[Any, ...]]:
        import psycopg

        return await psycopg.AsyncConnection.connect(
            host=str(self.server.sockets),
            port=SOCKET_PORT,
            user="postgres",
            dbname="postgres",
            password=self._password_file.read_text().strip(),
            connect_timeout=3,
            autocommit=True,
            options="-c default_transaction_read_only=off -c synchronous_commit=local",
        )
