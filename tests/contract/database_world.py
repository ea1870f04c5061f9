"""Two real PostgreSQL servers behind their agents, links and witness, and writers who keep what was acknowledged.

Only the steps that claims about databases need are built (about three seconds a world); terms are shorter than the
sandbox's.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg

from drkit.sandbox import schema
from drkit.sandbox.assembly import build
from drkit.sandbox.control import Control
from drkit.sandbox.layout import SOURCE, TARGET, Folders, Settings
from drkit.sandbox.links import Endpoint
from drkit.sandbox.parts._aio import fetch
from drkit.sandbox.supervisor import Supervisor
from drkit.sandbox.worksite import Worksite

SETTINGS = Settings(link_delay_s=0.05, term_s=1.5, margin_s=0.5)


@dataclass
class Databases:
    """Two databases, and how to talk to them."""

    supervisor: Supervisor
    site: Worksite
    control: Control

    def door(self, region: str) -> Endpoint:
        """From inside the region: no link is crossed."""
        return self.site.endpoint(f"agent-{region}")

    def connect(self, region: str, timeout_s: float = 3) -> psycopg.Connection[tuple[Any, ...]]:
        door = self.door(region)
        password = self.supervisor.folders.secret("drkit_admin").read_text().strip()
        return psycopg.connect(
            host=door.host, port=door.port, dbname=schema.DATABASE, user="drkit_admin", password=password,
            autocommit=True, connect_timeout=round(timeout_s),
        )  # fmt: skip

    async def agent(self, region: str, path: str = "/status", body: Any = None) -> dict[str, Any]:
        ready = self.supervisor.parts[f"agent-{region}"].ready
        method = "GET" if body is None else "POST"
        url = f"http://{ready['host']}:{ready['admin_port']}{path}"
        found: dict[str, Any] = (await fetch(method, url, body, timeout_s=20)).json()
        return found

    async def lease(self) -> dict[str, Any]:
        found: dict[str, Any] = (await fetch("GET", f"{self.site.endpoint('witness').url}/lease", timeout_s=3)).json()
        return found

    async def expired(self) -> None:
        await until_async(lambda: self.lease(), lambda lease: lease["expired"], within_s=10)


@asynccontextmanager
async def databases(settings: Settings = SETTINGS) -> AsyncIterator[Databases]:
    """A world of databases, gone when the context ends."""
    folder = tempfile.mkdtemp(prefix="drkit-test-")  # as root the servers are nobody, and may not enter pytest's own
    supervisor = Supervisor(Folders(Path(folder)))
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGCHLD, supervisor.reap)
    try:
        supervisor.folders.make()
        sockets = {region: str(supervisor.folders.sockets(region)) for region in (SOURCE, TARGET)}
        site = Worksite(supervisor, replace(settings, sockets=sockets), control="")
        await build(site, ["standby"])
        yield Databases(supervisor, site, Control(supervisor))
    finally:
        for link in supervisor.links.values():
            link.close()  # in the thread of their loop; what is left to be waited for is not
        await asyncio.to_thread(supervisor.shut_down)
        loop.remove_signal_handler(signal.SIGCHLD)
        shutil.rmtree(folder)


async def until_async(ask: Callable[[], Any], holds: Callable[[Any], bool], within_s: float) -> Any:
    deadline = time.monotonic() + within_s
    while True:
        found = await ask()
        if holds(found):
            return found
        assert time.monotonic() < deadline, f"still {found}"
        await asyncio.sleep(0.03)


@dataclass
class Writer:
    """Inserts canary rows one after the other and keeps when each was acknowledged (CLOCK_BOOTTIME)."""

    connect: Callable[[], psycopg.Connection[tuple[Any, ...]]]
    first: int
    site: str
    acknowledged: list[tuple[int, float]] = field(default_factory=list)
    refused: str | None = None

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        n = self.first
        try:
            connection = self.connect()
            while not self._stop.is_set():
                connection.execute("INSERT INTO canary (n, site) VALUES (%s, %s)", (n, self.site))
                self.acknowledged.append((n, time.clock_gettime(time.CLOCK_BOOTTIME)))
                n += 1
        except psycopg.Error as error:
            self.refused = str(error)

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    async def stop(self) -> None:
        self._stop.set()
        await asyncio.to_thread(self._thread.join, 5)

    async def has(self, count: int) -> None:
        deadline = time.monotonic() + 10
        while len(self.acknowledged) < count:
            assert time.monotonic() < deadline, self.refused
            await asyncio.sleep(0.01)
