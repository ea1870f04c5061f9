"""PostgreSQL: which refused connections are knocked at again. The words are those of a real server and of libpq."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from drkit.errors import ShutOut, Unreachable
from drkit.model.environment import Address, Database, Environment, SecretRef, Site
from drkit.model.permit import Permit
from drkit.providers.postgres import Postgres

_FAILED = 'connection failed: connection to server at "127.0.0.1", port 5432 failed: '


class Passwords:
    """Any password."""

    def get(self, ref: SecretRef | str) -> str:
        return "wrong"


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ('FATAL:  password authentication failed for user "app"', ShutOut),
        ("fe_sendauth: no password supplied", ShutOut),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "app", database "orders"', ShutOut),
        ("FATAL:  the database system is starting up", Unreachable),
        ("FATAL:  sorry, too many clients already", Unreachable),
        ("Connection refused", Unreachable),
    ],
)
async def test_a_refused_login_is_not_knocked_at_again_and_a_server_that_starts_is(
    monkeypatch: pytest.MonkeyPatch, said: str, meant: type[Exception]
) -> None:
    async def refuse(**given: Any) -> None:
        raise psycopg.OperationalError(_FAILED + said)

    monkeypatch.setattr(psycopg.AsyncConnection, "connect", refuse)
    side = Database(
        name="orders", site="west", address=Address(host="127.0.0.1", port=5432), dbname="orders", user="app",
        password=SecretRef(ref="secret://env/X"), system_identifier="1",
    )  # fmt: skip
    known = Environment(
        name="t", kind="sandbox", account="0", sites=(Site(name="west", kind="region"),), databases=(side,),
        state_store="file:///x",
    )  # fmt: skip
    postgres = Postgres(known, Passwords())
    for _ in range(2):
        with pytest.raises(meant) as failed:
            await postgres.query("orders", "west", "select 1")
        assert type(failed.value) is meant
        with pytest.raises(meant):
            await postgres.change("orders", "west", [("select 1", ())], role="any", permit=Permit(1))
    await postgres.aclose()
