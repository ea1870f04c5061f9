"""After `drkit sandbox down` nothing is left, also when everything of ours was killed with -9 in the middle of a drill.

The ordinary case is looked at whenever a world of these tests ends (`worlds.place`); here are the others.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from worlds import Drill, World, alive, place, until, world

from drkit.sandbox.processes import Process, every_stat

#: What drkit or its parts could call something that they leave where everybody's temporary files are.
OURS = ("drkit", "dr-", "pg", ".s.PGSQL", "moto")


def temporary() -> set[Path]:
    """Files of ours in the machine's temporary folders, where nobody told us to put any."""
    found = [path for folder in ("/tmp", "/var/tmp", "/dev/shm") for path in Path(folder).glob("*")]
    return {path for path in found if path.name.startswith(OURS) or "PostgreSQL" in path.name}


@pytest.mark.soak
def test_nothing_is_left_when_everything_was_killed_in_the_middle_of_a_drill() -> None:
    before = temporary()
    with world() as made:
        drill = made.seat().drill()
        watching = drill.seat.start("status", drill.id, "--watch")
        drill.reach(lambda event: event["fact"]["kind"] == "step.done" and event["fact"]["step"] == promote(drill))
        family = made.family()
        names = {name_of(process.pid) for process in family}
        assert len(family) > 20 and {"postgres", "python"} <= names, names  # backends come and go
        for process in family:
            process.send(signal.SIGKILL)
        watching.wait(timeout=10)
        until(lambda: not alive(family), within_s=10)
        assert made.memory(family), "there is something to clean up"
        made.seat().expect(0, "sandbox", "down")
        assert made.left(family) == []
        again = made.seat().expect(0, "sandbox", "down")
        assert "There was no sandbox" in again.stderr
    until(lambda: temporary() - before - others(before) == set(), within_s=10)


def others(before: set[Path]) -> set[Path]:
    """Worlds of tests that run beside us."""
    return {path for path in temporary() - before if path.name.startswith("dr-") and (path / "h").is_dir()}


def promote(drill: Drill) -> str:
    return drill.step(lambda step: step["promotes"])


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def test_nothing_is_left_of_a_world_that_was_killed_while_it_was_made() -> None:
    """As soon as there is something in the kernel to be left: initdb has started its first server."""
    before = temporary()
    with place() as made:
        coming = made.seat().start("sandbox", "up")
        until(lambda: frozen_in_the_act(made), within_s=60)
        family = made.family()
        for process in family:
            process.send(signal.SIGKILL)
        coming.communicate(timeout=10)
        until(lambda: not alive(family), within_s=10)
        assert made.memory(family), "there is something to clean up"
        made.seat().expect(0, "sandbox", "down")
        assert made.left(family) == []
    until(lambda: temporary() - before - others(before) == set(), within_s=10)


def frozen_in_the_act(made: World) -> bool:
    """A server of this world has memory in the kernel, and stands still so that it cannot give it back."""
    family = made.family()
    creators = made.memory(family)
    for process in family:
        if process.pid in creators:
            process.send(signal.SIGSTOP)
    # One that is told to stop still ends the system call that it is in, and that may be the one that gives it back.
    still = {Process(stat.pid, stat.start) for stat in every_stat().values() if stat.state == "T"} & family
    for process in still:
        if not made.memory({process}):
            process.send(signal.SIGCONT)
    return bool(made.memory(still))


@pytest.mark.soak
@pytest.mark.parametrize("size", [3, 6, 9, 12, 18])
def test_nothing_is_left_of_a_world_whose_maker_was_killed(size: int) -> None:
    with place() as made:
        coming = made.seat().start("sandbox", "up")
        until(lambda: len(made.family()) > size, within_s=60)
        family = made.family()
        coming.send_signal(signal.SIGKILL)
        coming.communicate(timeout=10)
        family |= made.family()
        made.seat().expect(0, "sandbox", "down")
        assert made.left(family) == []


@pytest.mark.soak
def test_a_run_that_rests_does_not_outlive_its_world() -> None:
    """Somebody takes the sandbox down while a run waits in it."""
    with world() as made:
        seat = made.seat()
        drill = seat.drill()
        drill.reach(lambda event: event["fact"]["kind"] == "step.done" and event["fact"]["step"] == promote(drill))
        seat.expect(0, "pause", drill.id, "--reason", "lunch")
        until(lambda: resting(drill), within_s=60)
        family = made.family()
        seat.expect(0, "sandbox", "down")
        until(lambda: made.left(family) == [], within_s=60)


def resting(drill: Drill) -> bool:
    """Nothing of the run is under way any more."""
    kinds = [event["fact"]["kind"] for event in drill.events()]
    return kinds.count("step.intent") <= kinds.count("step.done") + kinds.count("step.failed")
