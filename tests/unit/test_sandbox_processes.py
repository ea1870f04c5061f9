"""Processes known by pid and start time; families found by mark and by descent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from drkit.sandbox.processes import (
    SITE_VARIABLE,
    WORLD_VARIABLE,
    Stat,
    descendants,
    identify,
    kill_all,
    of_world,
    read_stat,
    remove_shared_memory,
    wait_gone,
)

_PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env={})
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def family(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """A marked process and its unmarked child: their pids."""
    marks = {WORLD_VARIABLE: str(tmp_path), SITE_VARIABLE: "here"}
    with subprocess.Popen([sys.executable, "-c", _PARENT], env=marks, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        yield parent.pid, child
        for pid in (parent.pid, child):
            if (process := identify(pid)) is not None:
                process.send(signal.SIGKILL)


def test_a_signal_reaches_only_the_process_that_was_meant(family: tuple[int, int]) -> None:
    process = identify(family[0])
    assert process is not None and process.alive
    stranger = replace(process, start=process.start + 1)  # what a reused pid looks like
    assert not stranger.alive
    assert stranger.send(signal.SIGKILL) is False
    assert process.alive


def test_a_world_is_found_by_its_mark_and_by_descent(tmp_path: Path, family: tuple[int, int]) -> None:
    assert {process.pid for process in of_world(tmp_path)} == set(family)
    assert {process.pid for process in of_world(tmp_path, "here")} == set(family)
    assert of_world(tmp_path, "elsewhere") == []
    assert {process.pid for process in of_world(tmp_path, "elsewhere", [family[1]])} == {family[1]}
    killed = kill_all(of_world(tmp_path))
    assert len(killed) == 2
    assert wait_gone(killed, within_s=3) == []
    assert of_world(tmp_path) == []


def test_names_with_spaces_and_parentheses_do_not_confuse_the_reader() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "open('/proc/self/comm', 'w').write('a) (b'); print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        stat = read_stat(child.pid)
        child.kill()
    assert stat is not None
    assert stat.parent == os.getpid()
    assert abs(stat.start / os.sysconf("SC_CLK_TCK") - time.clock_gettime(time.CLOCK_BOOTTIME)) < 60


def test_descent_is_transitive_and_survives_cycles_of_nothing() -> None:
    stats = {pid: Stat(pid, parent, "S", 0) for pid, parent in ((2, 1), (3, 2), (4, 3), (5, 1))}
    assert descendants([2], stats) == {2, 3, 4}
    assert descendants([], stats) == set()
    assert descendants([99], stats) == {99}


def test_shared_memory_of_somebody_else_is_not_removed() -> None:
    assert remove_shared_memory(key=1, creator=1) is False
