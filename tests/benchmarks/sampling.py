"""Where the time goes: what the main thread is doing, looked at a thousand times a second.

A look belongs to the innermost module of drkit that is at work, whatever library it called; what is left is the event
loop, or waiting (for the disk, in a benchmark that never sleeps). Costs about one part in a hundred.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EVERY_S = 0.001


@contextmanager
def sampled(found: Counter[str]) -> Iterator[None]:
    """Count looks by module, from here to the end of the block. Main thread only."""

    def look(number: int, frame: FrameType | None) -> None:
        found[_module(frame)] += 1

    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, EVERY_S, EVERY_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _module(frame: FrameType | None) -> str:
    waiting = frame is not None and frame.f_globals.get("__name__") == "selectors"
    while frame is not None:
        name = str(frame.f_globals.get("__name__"))
        if name.startswith("drkit."):
            return name.removeprefix("drkit.")
        frame = frame.f_back
    return "waiting" if waiting else "event loop"
