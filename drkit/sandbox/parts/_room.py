"""A host's own namespaces: what its commands mount, filter or shape is theirs alone, and ends with the host.

A process that only sleeps keeps them open; commands enter by `nsenter`. Needs root and util-linux. The machine's own
mounts, rules and devices are not reachable from inside: mounts do not propagate, and a network namespace begins empty.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from drkit.sandbox.processes import set_parent_death_signal

_KINDS = {"mount-ns": ("mnt",), "netns": ("mnt", "net")}
_FLAGS = {"mnt": "--mount", "net": "--net"}
_OPEN_S = 5.0


class Room:
    """The namespaces of one host. OSError or CalledProcessError if they cannot be made."""

    def __init__(self, isolation: str) -> None:
        """`isolation` is `mount-ns` or `netns` (which is both)."""
        self._kinds = _KINDS[isolation]
        flags = [_FLAGS[kind] for kind in self._kinds]
        self._keeper = subprocess.Popen(
            ["unshare", *flags, "--propagation", "private", "sleep", "infinity"], stdin=subprocess.DEVNULL,
            preexec_fn=set_parent_death_signal,
        )  # fmt: skip
        self.pid = self._keeper.pid
        """A process inside."""
        self._wait_open()
        if "net" in self._kinds:
            subprocess.run([*self.enter(Path("/")), "ip", "link", "set", "lo", "up"], check=True)

    def enter(self, folder: Path) -> tuple[str, ...]:
        """What to put before a command so that it runs inside, in this folder."""
        where = [f"{_FLAGS[kind]}=/proc/{self.pid}/ns/{kind}" for kind in self._kinds]
        return ("nsenter", *where, f"--wdns={folder}", "--")

    def close(self) -> None:
        """Let the namespaces go; they end with the last process inside."""
        self._keeper.kill()
        self._keeper.wait()

    def _wait_open(self) -> None:
        deadline = time.monotonic() + _OPEN_S
        while not all(self._apart(kind) for kind in self._kinds):
            if self._keeper.poll() is not None or time.monotonic() > deadline:
                raise OSError(f"no namespaces ({', '.join(self._kinds)}): unshare needs root")
            time.sleep(0.002)

    def _apart(self, kind: str) -> bool:
        try:
            return Path(f"/proc/{self.pid}/ns/{kind}").readlink() != Path(f"/proc/self/ns/{kind}").readlink()
        except FileNotFoundError:
            return False
