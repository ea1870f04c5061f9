"""Worlds that several tests share: bringing one up costs more than most of what is asked of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from worlds import Drill, Struck, world


@pytest.fixture(scope="session")
def struck() -> Iterator[Struck]:
    """The drill of region-loss at a one-way delay of 200 ms: slow enough that asynchronous loss must show."""
    with world() as made:
        seat = made.seat()
        said = seat.drkit("drill", "run", "region-loss", "--env", "sandbox", "--set", "link_delay=200ms")
        run = seat.expect(0, "runs", "-o", "json", "--query", "[-1].run").stdout.strip().strip('"')
        yield Struck(made, Drill(seat, run), said)
