"""The world that several files share: bringing one up costs more than most of what is asked of it."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from worlds import Drill, Struck, world

_worlds = ExitStack()


@pytest.fixture(scope="session")
def struck() -> Struck:
    """The drill of region-loss at a one-way delay of 200 ms: slow enough that asynchronous loss must show."""
    made = _worlds.enter_context(world())
    seat = made.seat()
    said = seat.drkit("drill", "run", "region-loss", "--env", "sandbox", "--set", "link_delay=200ms")
    run = seat.expect(0, "runs", "-o", "json", "--query", "[-1].run").stdout.strip().strip('"')
    return Struck(made, Drill(seat, run), said)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    """It goes down after the last test that asks it: its users and probers would compute beside all that follows."""
    if nextitem is None or "struck" not in getattr(nextitem, "fixturenames", ()):
        _worlds.close()
