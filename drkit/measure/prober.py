"""Measure what users see, all the time: `python -m drkit.measure.prober CONFIG.json`. A service of the environment.

Open loop: one journey every interval whatever is still pending, by each client in turn, browse and order in turn,
written down when sent and again when answered. Beside it the canary writes. One JSON line on stdout says that it runs
and where its readings are; `current.json` in the folder says the same to runs. Ends on SIGTERM, and with its parent.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, MinLen
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from drkit.errors import DrkitError
from drkit.measure.canary import Canary, CanaryConfig, first_number
from drkit.measure.readings import CURRENT, SYNC_EVERY_S, ReadingsWriter, boottime
from drkit.measure.users import Answer, JourneyFailed, Kind, Resolver, User
from drkit.model.environment import Address
from drkit.model.measurements import ReadingsKind
from drkit.model.values import Json, utc

log = logging.getLogger("drkit.prober")

SCHEMA = "drkit.prober/1"
_PR_SET_PDEATHSIG = 1
_ALIVE_EVERY_S = 1.0
#: Ticks that are late by less are made up for at once; later ones are written down as missed.
_LATE_S_MAX = 0.5
_STOP_WITHIN_S = 0.5


class ProberConfig(BaseModel):
    """What to measure, and where to write it down."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path
    hostname: str
    """The name users resolve."""
    port: int
    resolvers: Annotated[tuple[Address, ...], MinLen(1)]
    """Users' DNS servers; client i asks the i-th first, counted round."""
    clients: Annotated[int, Ge(1)] = 20
    interval_s: Annotated[float, Gt(0)] = 0.1
    timeout_s: Annotated[float, Gt(0)] = 2.0
    window_s: Annotated[float, Gt(0)] = 30.0
    """W and the objective are only noted in the header: they are terms of the evaluation, not of the measurement."""
    objective: float = 0.99
    order: dict[str, Json] = Field(default={"sku": "probe", "quantity": 1})
    """What a user orders; `customer` and a `reference` of its own are added to each."""
    canary: CanaryConfig | None = None


class Prober:
    """One prober with its readings files. `run` returns when `stop` is set."""

    def __init__(self, config: ProberConfig, *, id: str | None = None) -> None:
        self.config = config
        self.id = id or f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"
        self.users = [
            User(i, Resolver(_from(config.resolvers, i)), config.hostname, config.port, config.order)
            for i in range(config.clients)
        ]
        self._journeys: set[asyncio.Task[None]] = set()

    def path(self, kind: ReadingsKind) -> Path:
        """Where readings of this kind are."""
        return self.config.folder / f"{kind}-{self.id}.jsonl"

    async def run(self, stop: asyncio.Event) -> None:
        """Measure until told to stop. OSError: the readings cannot be written, so nothing is measured any more."""
        config = self.config
        with ExitStack() as stack:
            self.probes = stack.enter_context(self._file("probes", config.interval_s))
            self.orders = stack.enter_context(self._file("orders", None))
            files = [self.probes, self.orders]
            canary: Canary | None = None
            if config.canary is not None:
                first = await asyncio.to_thread(first_number, config.folder)
                ledger = stack.enter_context(self._file("canary", 1 / config.canary.rate_per_s))
                canary = Canary(config.canary, ledger, first)
                files.append(ledger)
            self._announce(files)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._sync(files, stop))
                group.create_task(self._live(files[1:], stop))
                tasks = [group.create_task(self._tick(group, stop))]
                if canary is not None:
                    tasks.append(group.create_task(canary.run(stop)))
                await stop.wait()
                _, late = await asyncio.wait(tasks, timeout=_STOP_WITHIN_S)
                for task in (*late, *self._journeys):
                    task.cancel()
            for file in files:
                file.write({"what": "end"})

    async def _tick(self, group: asyncio.TaskGroup, stop: asyncio.Event) -> None:
        interval_s, started_s, tick = self.config.interval_s, time.monotonic(), 0
        while not stop.is_set():
            wait_s = started_s + tick * interval_s - time.monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            elif -wait_s > _LATE_S_MAX:
                missed = int(-wait_s / interval_s)
                self.probes.write({"what": "missed", "ticks": missed})
                tick += missed
            task = group.create_task(self._journey(tick))
            self._journeys.add(task)
            task.add_done_callback(self._journeys.discard)
            tick += 1

    async def _journey(self, number: int) -> None:
        user = self.users[number % len(self.users)]
        # Kinds change places after each round: with an even number of clients half of them would never order.
        kind: Kind = "order" if (number + number // len(self.users)) % 2 else "browse"
        started_s, answer = time.monotonic(), Answer()
        outcome: Literal["ok", "error", "timeout"] = "ok"
        reason: str | None = None
        self.probes.write({"what": "sent", "j": number, "kind": kind, "client": user.number})
        try:
            async with asyncio.timeout(self.config.timeout_s):
                await user.journey(kind, f"{self.id}-{number}", answer)
        except TimeoutError:
            outcome, reason = "timeout", "no reply" if answer.address else "dns: timeout"
        except JourneyFailed as failure:
            outcome, reason = "error", str(failure)
        latency_s = round(time.monotonic() - started_s, 6)
        if answer.order_id is not None:
            # Before the result: once a reader sees that the user was told, the ledger has it.
            self.orders.write(
                {
                    "what": "order", "outcome": "acknowledged", "order_id": answer.order_id, "j": number,
                    "client": user.number, "site": answer.served_by,
                }
            )  # fmt: skip
        self.probes.write(
            {
                "what": "result", "j": number, "outcome": outcome, "reason": reason, "status": answer.status,
                "latency_s": latency_s, "address": answer.address, "served_by": answer.served_by,
                "order_id": answer.order_id,
            }
        )  # fmt: skip

    async def _sync(self, files: Iterable[ReadingsWriter], stop: asyncio.Event) -> None:
        """Bring the readings to disk, in a thread: a slow disk must not delay a probe."""
        while not stop.is_set():
            for file in files:
                await asyncio.to_thread(file.sync)
            await _pause(stop, SYNC_EVERY_S)

    async def _live(self, ledgers: Iterable[ReadingsWriter], stop: asyncio.Event) -> None:
        """Signs of life, so that "nothing was written" can be told from "nobody wrote it down"."""
        while not stop.is_set():
            for ledger in ledgers:
                ledger.write({"what": "alive"})
            await _pause(stop, _ALIVE_EVERY_S)

    def _file(self, kind: ReadingsKind, interval_s: float | None) -> ReadingsWriter:
        config = self.config
        settings: dict[str, Json] = {
            "hostname": config.hostname, "port": config.port, "clients": config.clients, "timeout_s": config.timeout_s,
            "window_s": config.window_s, "objective": config.objective,
        }  # fmt: skip
        return ReadingsWriter(
            self.path(kind), id=self.id, kind=kind, interval_s=interval_s, settings=settings, sync_elsewhere=True
        )

    def _announce(self, files: Iterable[ReadingsWriter]) -> None:
        where: dict[str, Json] = {file.path.name.split("-")[0]: str(file.path) for file in files}
        current: dict[str, Json] = {
            "schema": SCHEMA, "id": self.id, "pid": os.getpid(), "started_at": utc(time.time()), "t": boottime(),
            "files": where,
        }  # fmt: skip
        path = self.config.folder / CURRENT
        new = path.with_name(f".current-{self.id}.json")
        new.write_text(json.dumps(current), encoding="utf-8")
        new.replace(path)
        print(json.dumps({"ready": True, **current}), flush=True)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return


def _from(servers: tuple[Address, ...], client: int) -> tuple[Address, ...]:
    first = client % len(servers)
    return servers[first:] + servers[:first]


def _die_with_parent() -> None:
    """SIGTERM when the parent is gone, also if it went before we asked for it."""
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getppid()
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


async def _serve(config: ProberConfig) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    _die_with_parent()
    await Prober(config).run(stop)


def main() -> int:
    """Run the prober that the configuration file on the command line describes. Exit code 1: cannot measure."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    if len(sys.argv) != 2:
        print("usage: python -m drkit.measure.prober CONFIG.json", file=sys.stderr)
        return 2
    try:
        config = ProberConfig.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        print(f"{sys.argv[1]}: {error}", file=sys.stderr)
        return 2
    failed = False
    try:
        asyncio.run(_serve(config))
    except* (OSError, DrkitError) as group:
        failed = True
        log.error("cannot measure any more: %s", "; ".join(str(error) for error in group.exceptions))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
