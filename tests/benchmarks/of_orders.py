"""How soon an order that somebody gives a run is in its journal, through the socket and through the spool."""

from __future__ import annotations

import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from of_first_step import request
from table import Row

from drkit.engine import orders, runs
from drkit.engine.journal import Tail
from drkit.engine.runs import RunFolder, write_durably
from drkit.engine.spawning import spawn
from drkit.model.events import Noted, Ordered
from drkit.model.values import canonical

ORDERS = 50
GOAL_S = 0.25
KINDS = ("operator.noted", "operator.ordered", "operator.refused")


def rows() -> list[Row]:
    """Median and worst of some orders, from sending until another process reads them in the journal."""
    with tempfile.TemporaryDirectory(prefix="dr-bench-", dir="/var/tmp") as folder, _running(Path(folder)) as run:
        return [_row(run, "socket", lambda: _talk(run)), _row(run, "spool", lambda: _spool(run))]


def _row(run: RunFolder, way: str, give: Callable[[], object]) -> Row:
    took_s = [_journaled_s(run, give) for _ in range(ORDERS)]
    told = f"goal {GOAL_S:g} s: " + ("met" if max(took_s) < GOAL_S else "missed by the longest")
    return (
        f"order journaled, by {way}",
        statistics.median(took_s),
        f"median of {ORDERS}, longest {max(took_s):.3f} s; {told}",
    )


def _talk(run: RunFolder) -> None:
    orders.send(run, Noted(text="hello", by={}))


def _spool(run: RunFolder) -> None:
    """As `send` leaves it for a runner that does not listen; only what stops things is taken from there."""
    data = canonical({"schema": orders.SCHEMA, "at": "", "fact": Ordered(verb="pause", by={}).to_json()})
    write_durably(run.spool / f"{time.time_ns():020}-bench.json", data)


def _journaled_s(run: RunFolder, give: Callable[[], object]) -> float:
    with Tail(run.journal) as tail:
        tail.new()
        began = time.monotonic()
        give()
        while not any(row.fact.kind in KINDS for row in tail.new()):
            time.sleep(0.001)
        return time.monotonic() - began


@contextmanager
def _running(folder: Path) -> Iterator[RunFolder]:
    """A run that waits for somebody, by the command line's own runner."""
    with mock.patch.dict(os.environ, {"XDG_STATE_HOME": str(folder / "state")}):
        run = runs.new()
        runner = spawn(run, [sys.executable, "-m", "drkit.cli", "_runner", str(run.path)])
        run.ask(request(run.id, folder, {"id": "wait", "number": 1, "uses": "gate.approve", "kind": "gate",
                                         "params": {"role": "nobody"}}))  # fmt: skip
        runner.go()
        try:
            with Tail(run.journal) as tail:
                while not any(row.fact.kind == "gate.asked" for row in tail.new()):
                    if runner.gone():
                        sys.exit(f"the run did not begin:\n{run.log.read_text()}")
                    time.sleep(0.02)
            yield run
        finally:
            os.kill(runner.pid, signal.SIGKILL)
            while not runner.gone():
                time.sleep(0.02)
