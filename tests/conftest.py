"""What every test gets: a private state home, so that nothing is written into the person's own."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

#: Real parts first: what takes longest is then not left over to one of those who share the tests.
FIRST = ("drills", "contract", "cli")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In the order of their folders, files as they were; before all, those that look at one drill together."""
    tests = Path(__file__).parent
    place = {folder: number for number, folder in enumerate(FIRST)}

    def order(item: pytest.Item) -> int:
        together = "struck" in getattr(item, "fixturenames", ())
        return -1 if together else place.get(item.path.relative_to(tests).parts[0], len(FIRST))

    items.sort(key=order)


class Hands(LoadFileScheduling):  # type: ignore[misc]  # pytest-xdist has no types
    """Who carries out what: a file is in one hand, and so are all drills, since several files look at one of them."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "drills" if "drills" in Path(file).parts else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Hands:
    """Instead of what `--dist` names."""
    return Hands(config, log)


@pytest.fixture(autouse=True)
def private_state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """XDG folders inside the test's own folder."""
    home = tmp_path / "state"
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return home


@pytest.fixture(autouse=True)
def signals_as_they_were() -> Iterator[None]:
    """Whoever started the tests may ignore SIGHUP, as does a runner in this process: no child is to inherit that."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)
