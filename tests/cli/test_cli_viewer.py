"""The viewer on a real terminal (a pty): it shows, it pauses on Ctrl-C, it can be lost; the run is not its business."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_lab import Lab, end_runners, status, until


class Terminal:
    """A command on a terminal of its own; what it printed, without control sequences."""

    def __init__(self, lab: Lab, *words: str) -> None:
        self.master, slave = pty.openpty()
        environment = lab.environment | {"TERM": "xterm", "LINES": "30", "COLUMNS": "120"}
        self.child = subprocess.Popen(
            lab.command(*words), cwd=lab.folder, env=environment, stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self.raw = b""

    @property
    def text(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.raw.decode(errors="replace"))

    def wait_for(self, word: str, within_s: float = 30.0) -> None:
        deadline = time.monotonic() + within_s
        while word not in self.text:
            assert time.monotonic() < deadline, self.text
            self._read(0.1)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def press_ctrl_c(self) -> None:
        os.kill(self.child.pid, signal.SIGINT)  # what a terminal sends; it is not our controlling one

    def end(self, within_s: float = 30.0) -> int:
        deadline = time.monotonic() + within_s
        while self.child.poll() is None:
            assert time.monotonic() < deadline, self.text
            self._read(0.1)
        return int(self.child.returncode)

    def _read(self, seconds: float) -> None:
        ready, _, _ = select.select([self.master], [], [], seconds)
        if ready:
            try:
                self.raw += os.read(self.master, 65536)
            except OSError:
                time.sleep(seconds)  # the other end is closed


@pytest.fixture(autouse=True)
def nothing_left(lab: Lab, private_state_home: Path) -> Iterator[None]:
    """Runners that a test leaves waiting are ended."""
    yield
    end_runners(private_state_home)


def test_on_a_terminal_it_asks_shows_pauses_and_leaves_truthfully(lab: Lab) -> None:
    screen = Terminal(lab, "failover", "--region", "us-west-2")
    screen.wait_for("Type us-west-2 to go on")
    screen.type("us-west-2\n")
    screen.wait_for("role incident-commander")
    screen.wait_for("drkit approve")
    for word in ("FROM us-east-1 -> TO us-west-2", "LAB", "OK", "ASK", "Ctrl-C: pause"):
        assert word in screen.text
    screen.press_ctrl_c()
    screen.wait_for("pausing")
    assert screen.end() == 130
    run = status(lab)["run"]
    assert f"drkit resume {run}" in screen.text
    assert status(lab)["phase"] == "paused" and status(lab)["runner_alive"]
    assert lab.made == ["first"]


def test_a_second_ctrl_c_leaves_at_once_and_a_lost_terminal_reaches_nothing(lab: Lab) -> None:
    go = lab.first_waits()
    screen = Terminal(lab, "failover", "--region", "us-west-2", "--confirm", "us-west-2")
    until((lab.folder / "begun").exists)
    screen.press_ctrl_c()
    screen.wait_for("pausing after first")
    screen.press_ctrl_c()
    assert screen.end() == 130
    run = status(lab)["run"]
    assert f"Left. {run} will pause after first" in screen.text

    watch = Terminal(lab, "status", "--watch")
    watch.wait_for("FROM us-east-1")
    os.close(watch.master)  # the terminal is closed
    os.kill(watch.child.pid, signal.SIGHUP)
    watch.child.wait(10)
    go.touch()
    until(lambda: status(lab)["phase"] == "paused")
    assert status(lab)["runner_alive"] and lab.made == ["first"]
