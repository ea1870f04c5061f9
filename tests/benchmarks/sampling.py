"""Where time and memory go, by module: what the main thread is doing a thousand times a second, and who keeps what.

Either belongs to the innermost module of drkit in the call, whatever library it called. What is left of the time is the
event loop, or waiting (for the disk, in a benchmark that never sleeps). Looking costs about one part in a hundred;
tracing memory makes a run several times slower.
"""

from __future__ import annotations

import signal
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from table import ROOT

EVERY_S = 0.001
DEPTH = 8
"""Frames kept of each allocation: as deep as libraries call from drkit."""


@contextmanager
def times(looks: Counter[str]) -> Iterator[None]:
    """Count looks by module, from here to the end of the block. Main thread only."""

    def look(number: int, frame: FrameType | None) -> None:
        looks[_at_work(frame)] += 1

    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, EVERY_S, EVERY_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def kept(size: Counter[str]) -> Iterator[None]:
    """Bytes by module in use at the end of the block, of what was asked for since `tracemalloc.start(DEPTH)`."""
    yield
    for alike in tracemalloc.take_snapshot().statistics("traceback"):
        size[_asked(alike.traceback)] += alike.size


def _at_work(frame: FrameType | None) -> str:
    waiting = frame is not None and frame.f_globals.get("__name__") == "selectors"
    while frame is not None:
        name = str(frame.f_globals.get("__name__"))
        if name.startswith("drkit."):
            return name.removeprefix("drkit.")
        frame = frame.f_back
    return "waiting" if waiting else "event loop"


def _asked(traceback: tracemalloc.Traceback) -> str:
    package, here = f"{ROOT}/drkit/", f"{ROOT}/tests/benchmarks/"
    files = [frame.filename for frame in reversed(traceback)]
    inside = next((file for file in files if file.startswith(package)), None)
    if inside is not None:
        return inside.removeprefix(package).removesuffix(".py").replace("/", ".")
    return "the plan and its work" if any(file.startswith(here) for file in files) else "libraries"
