"""A process that changes something under a lease of its own, and freezes (SIGSTOP) at a point that it was told.

    python frozen_fakes.py POINT ENVIRONMENT.json CHANGE...

POINT is `check` (the lease has just been looked at, nothing is sent yet), `awaits` (one round for every time the
process would wait for something, until a round ends without having come to the point) or `never`. A line before each
freeze, `frozen`, says when the lease ends (CLOCK_BOOTTIME); a line after each round what became of the change.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import selectors
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from drkit.context import Providers
from drkit.errors import DrkitError
from drkit.model.environment import Environment
from drkit.model.permit import Permit
from drkit.providers.agents import Agents
from drkit.providers.postgres import Postgres
from drkit.providers.secrets import Secrets
from drkit.providers.ssh import Ssh
from drkit.providers.witness import WitnessClient
from drkit.sandbox.remote import World

TERM_S = 0.5
TOKEN = 7


def boot_time() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Freezer:
    """The lease, and the one moment at which everything stands still."""

    def __init__(self, point: int | None) -> None:
        """`point`: at which wait (0: never); None: when the lease is looked at."""
        self.point, self.waits, self.frozen = point, 0, False
        self.ends: float | None = None

    def remaining_s(self) -> float:
        """The term begins with the first look; what is said is what was true before the freeze."""
        self.ends = self.ends or boot_time() + TERM_S
        left_s = self.ends - boot_time()
        if self.point is None:
            self.freeze()
        return left_s

    def waited(self) -> None:
        self.waits += 1
        if self.waits == self.point:
            self.freeze()

    def freeze(self) -> None:
        if not self.frozen:
            self.frozen = True
            self.ends = self.ends or boot_time() + TERM_S
            print(json.dumps({"frozen": self.waits, "ends": self.ends}), flush=True)
            os.kill(os.getpid(), signal.SIGSTOP)


class Waiting(selectors.DefaultSelector):
    """Tells the freezer whenever the event loop would wait."""

    freezer: Freezer | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self.freezer is not None:
            self.freezer.waited()
        return super().select(timeout)


Change = Callable[[Providers, Permit, int], Awaitable[object]]
"""The last argument is the round: what runs at a target writes it down with the time."""


def _promote(providers: Providers, permit: Permit, round: int) -> Awaitable[object]:
    target = providers.environment.databases[1]
    return providers.use(Agents).promote(
        target.name, target.site, by=["dana", "lee"], run="k7qd", permit=permit, loss_s=1.0, timeout_s=10
    )


def _sql(side: int, role: Any, statement: str) -> Change:
    def send(providers: Providers, permit: Permit, round: int) -> Awaitable[object]:
        database = providers.environment.databases[side]
        return providers.use(Postgres).change(
            database.name, database.site, [(statement, [round])], role=role, permit=permit, timeout_s=10
        )

    return send


CHANGES: dict[str, Change] = {
    "ssh": lambda providers, permit, round: providers.use(Ssh).change(
        "app-1",
        ["sh", "-c", f"echo {round} $(cut -d' ' -f1 /proc/uptime) >>tmp/started"],
        token=f"round-{round}",
        permit=permit,
    ),
    "sql": _sql(0, "primary", "insert into started select %s, extract(epoch from clock_timestamp())"),
    "promotion": _sql(1, "standby", "select pg_promote(true, 5 + 0 * %s)"),
    "agent": _promote,
    "witness": lambda providers, permit, round: providers.use(WitnessClient).revoke("test", permit=permit),
    "control": lambda providers, permit, round: providers.use(World).change(
        "/replication", {"mode": "sync"}, permit=permit
    ),
}


async def change(name: str, environment: Environment, freezer: Freezer, waiting: Waiting) -> dict[str, Any]:
    """One round: what became of it."""
    providers = Providers(environment, Secrets(environment))
    waiting.freezer = freezer
    try:
        await CHANGES[name](providers, Permit(TOKEN, freezer), freezer.point or 0)
        return {"became": "done"}
    except DrkitError as error:
        return {"became": type(error).__name__, "why": error.message}
    finally:
        waiting.freezer = None
        await providers.aclose()


def main() -> None:
    point, path, *names = sys.argv[1:]
    environment = Environment.model_validate_json(Path(path).read_text())
    waiting = Waiting()
    rounds: dict[str, Iterable[int | None]] = {"check": [None], "never": [0], "awaits": itertools.count(1)}
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(waiting)) as runner:
        for name in names:
            for at in rounds[point]:
                freezer = Freezer(at)
                told = runner.run(change(name, environment, freezer, waiting))
                print(json.dumps(told), flush=True)
                if not freezer.frozen:
                    break


if __name__ == "__main__":
    main()
