"""PostgreSQL over its own protocol: one connection per database and site, and no change before who answers is proven.

Reads share a connection and are repeated once if it turns out to be a dead one. A change gets a connection of its own,
on which the server's system identifier and role are compared with what the caller meant immediately before it is sent.
The statements of a change travel in one message, as one transaction, behind a guard that ends it if our lease is over
by then (an instant of the server's own clock, which it was asked for in the same session), or if the database has
written down a newer holder in its table `fence_token`. asyncio only (psycopg).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

import anyio

from drkit.errors import OutcomeUnknown, Refused, ShutOut, StepFailed, Unobservable, Unreachable
from drkit.model import written
from drkit.model.environment import Address, Database, Environment, SecretRef
from drkit.model.permit import Permit

if TYPE_CHECKING:
    from psycopg import AsyncConnection

CONNECT_TIMEOUT_S = 2.0
Role = Literal["primary", "standby", "any"]
Row = dict[str, Any]

_WHO = """select (select system_identifier::text from pg_control_system()) as system_identifier,
                 pg_is_in_recovery() as in_recovery,
                 extract(epoch from clock_timestamp())::float8 as there_s"""

#: What the guard ends a change with.
_REFUSED = "DRKIT"
#: A table that is not there is never looked into: PL/pgSQL plans a statement when it comes to it.
_GUARD = f"""do $guard$ begin
  if extract(epoch from clock_timestamp())::float8 >= %(until_s)s::float8 then
    raise exception 'it came after its sender''s lease of the environment was over' using errcode = '{_REFUSED}';
  end if;
  if to_regclass('fence_token') is not null then
    if exists (select from fence_token where environment = %(environment)s and token > %(token)s) then
      raise exception 'fencing token %% is older than the database''s', %(token)s using errcode = '{_REFUSED}';
    end if;
  end if;
end $guard$"""


class Secrets(Protocol):
    """What is needed of the run's secrets."""

    def get(self, ref: SecretRef | str) -> str:
        """The secret."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who answered."""

    system_identifier: str
    in_recovery: bool

    @property
    def role(self) -> Role:
        """`standby` while the server replays another's log."""
        return "standby" if self.in_recovery else "primary"

    def __str__(self) -> str:
        return f"system {self.system_identifier} ({self.role})"


def why_not_meant(found: Identity, meant: Database, role: Role) -> str | None:
    """Why who answered is not whom a change was meant for; None if it is."""
    if found.system_identifier != meant.system_identifier:
        return f"it is system {found.system_identifier}, not {meant.system_identifier}"
    if role not in ("any", found.role):
        return f"it is a {found.role}, not a {role}"
    return None


class Postgres:
    """The databases of one environment."""

    def __init__(self, environment: Environment, secrets: Secrets) -> None:
        self._environment = environment
        self._secrets = secrets
        self._open: dict[tuple[str, str], AsyncConnection[Row]] = {}
        self._locks: dict[tuple[str, str], anyio.Lock] = {}

    @classmethod
    def connect(cls, environment: Environment, secrets: Secrets) -> Self:
        """A provider; opens nothing yet."""
        return cls(environment, secrets)

    async def aclose(self) -> None:
        """Close every connection."""
        for connection in self._open.values():
            await _discard(connection)
        self._open.clear()

    async def query(
        self, name: str, site: str, sql: str, params: Sequence[Any] | Mapping[str, Any] = (), *, timeout_s: float = 2.0
    ) -> list[Row]:
        """Rows of a read, as dicts. Unreachable or ShutOut, or Unobservable if the server gave no answer."""
        async with self._locks.setdefault((name, site), anyio.Lock()):
            reused = (name, site) in self._open
            try:
                return await self._read(name, site, sql, params, timeout_s)
            except Unobservable:
                if not reused:
                    raise
                return await self._read(name, site, sql, params, timeout_s)

    async def identity(self, name: str, site: str) -> Identity:
        """Who answers for database `name` in `site`."""
        return _identity(await self.query(name, site, _WHO))

    async def change(
        self,
        name: str,
        site: str,
        statements: Sequence[tuple[str, Sequence[Any]]],
        *,
        role: Role,
        permit: Permit,
        timeout_s: float = 5.0,
    ) -> list[list[Row]]:
        """Send statements, one transaction, after comparing who answers; the rows of each.

        Refused if somebody else answers or the guard ends it, Unreachable if nobody does, ShutOut if we may not log in,
        StepFailed if the server refuses a statement, OutcomeUnknown if its answer never came.
        """
        database = self._environment.database(name, site)
        with written.writing(f"a change of {_label(database)}"):
            return await self._change(database, statements, role, permit, timeout_s)

    async def _change(
        self, database: Database, statements: Sequence[tuple[str, Sequence[Any]]], role: Role, permit: Permit,
        timeout_s: float,
    ) -> list[list[Row]]:  # fmt: skip
        connection = await self._connect(database)
        sent = False
        try:
            with anyio.fail_after(timeout_s):
                said = await (await connection.execute(_WHO)).fetchall()
                who = _identity(said)
                if (why := why_not_meant(who, database, role)) is not None:
                    raise Refused(f"{_label(database)} is not whom this was meant for: {why}.")
                await connection.execute(_limit(timeout_s))
                until_s = permit.until(float(said[0]["there_s"]))
                held = {
                    "until_s": "infinity" if until_s is None else until_s, "token": permit.token,
                    "environment": self._environment.name,
                }  # fmt: skip
                sent = True
                return (await _send(connection, [(_GUARD, held), *statements]))[1:]
        except TimeoutError as slow:
            raise _lost(database, f"no answer within {timeout_s:g} s", sent) from slow
        except _psycopg_error() as error:
            # A statement the server refused left nothing behind: statements of one change commit together.
            if error.sqlstate == _REFUSED:
                raise Refused(f"{_label(database)} refused: {_first_line(error)}.") from error
            if sent and error.sqlstate is not None and not connection.closed:
                why = f"{_label(database)} refused: {_first_line(error)}"
                raise StepFailed(why, world=written.so_far().world) from error
            raise _lost(database, _first_line(error), sent) from error
        finally:
            await _discard(connection)

    async def _read(self, name: str, site: str, sql: str, params: Any, timeout_s: float) -> list[Row]:
        connection = self._open.get((name, site))
        database = self._environment.database(name, site)
        if connection is None or connection.closed:
            connection = self._open[name, site] = await self._connect(database)
        good = False
        try:
            with anyio.fail_after(timeout_s):
                await connection.execute(_limit(timeout_s))
                rows = await (await connection.execute(sql.encode(), params or None)).fetchall()
            good = True
            return rows
        except TimeoutError as slow:
            raise Unobservable(f"{_label(database)} gave no answer within {timeout_s:g} s.") from slow
        except _psycopg_error() as error:
            raise Unobservable(f"{_label(database)}: {_first_line(error)}.") from error
        finally:
            if not good:  # also when cancelled: an answer still under way would be taken for the next question's
                self._open.pop((name, site), None)
                await _discard(connection)

    async def _connect(self, database: Database) -> AsyncConnection[Row]:
        import psycopg
        from psycopg.rows import dict_row

        try:
            with anyio.fail_after(CONNECT_TIMEOUT_S):
                return await psycopg.AsyncConnection.connect(
                    host=database.address.host,
                    port=database.address.port,
                    dbname=database.dbname,
                    user=database.user,
                    password=self._secrets.get(database.password),
                    connect_timeout=10,
                    sslmode="prefer",
                    application_name="drkit",
                    autocommit=True,
                    row_factory=dict_row,
                    prepare_threshold=None,
                )
        except TimeoutError as slow:
            raise Unreachable(f"{_label(database)} did not answer within {CONNECT_TIMEOUT_S:g} s.") from slow
        except psycopg.Error as error:
            said = f"{_label(database)} cannot be connected to: {_first_line(error)}."
            if _refuses_login(error):
                raise ShutOut(said, hint=f"psql -h {database.address.host} -p {database.address.port}") from error
            raise Unreachable(said) from error


async def _send(
    connection: AsyncConnection[Row], statements: Sequence[tuple[str, Sequence[Any] | Mapping[str, Any]]]
) -> list[list[Row]]:
    """Send statements as one message, which the server carries out as one transaction; the rows of each."""
    from psycopg import AsyncClientCursor

    cursor = AsyncClientCursor(connection)
    message = ";\n".join(cursor.mogrify(sql, params or None) for sql, params in statements)
    await cursor.execute(message)
    return [await found.fetchall() if found.description else [] async for found in cursor.results()]


async def _discard(connection: AsyncConnection[Any]) -> None:
    """Close without a farewell that could hang: the server sees the socket go."""
    with anyio.move_on_after(1, shield=True):
        await connection.close()


def _identity(rows: Sequence[Row]) -> Identity:
    return Identity(str(rows[0]["system_identifier"]), bool(rows[0]["in_recovery"]))


def _limit(timeout_s: float) -> bytes:
    return f"set statement_timeout = {int(timeout_s * 1000)}".encode()


def _label(database: Database) -> str:
    return f"database {database.name} in {database.site} ({database.address})"


def _lost(database: Database, why: str, sent: bool) -> Exception:
    if sent:
        return OutcomeUnknown(f"{_label(database)}: {why}; the change was sent.")
    return Unreachable(f"{_label(database)}: {why}; nothing was sent.")


#: All that libpq tells of a refused login is the server's words, in the server's language. Of others it is not certain
#: that they last, so they are knocked at again.
_NO_LOGIN = ("authentication failed", "no password supplied", "pg_hba.conf")


def _refuses_login(error: Any) -> bool:
    return any(words in str(error) for words in _NO_LOGIN)


def _psycopg_error() -> type[Any]:
    import psycopg

    return psycopg.Error


def _first_line(error: Any) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


async def try_login(address: Address, dbname: str, user: str, password: str) -> bool:
    """Whether a server accepts a login. Unobservable if it does not answer."""
    import psycopg

    try:
        with anyio.fail_after(CONNECT_TIMEOUT_S):
            connection = await psycopg.AsyncConnection.connect(
                host=address.host, port=address.port, dbname=dbname, user=user, password=password, connect_timeout=10
            )
    except TimeoutError as slow:
        raise Unobservable(f"{address} did not answer within {CONNECT_TIMEOUT_S:g} s.") from slow
    except psycopg.OperationalError as error:
        if _refuses_login(error):
            return False
        raise Unobservable(f"{address}: {_first_line(error)}.") from error
    await _discard(connection)
    return True
