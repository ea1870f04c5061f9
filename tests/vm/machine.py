"""Start a virtual machine from the image, reach it, and end it. Its disk is as the image again when it ends.

It knows no way out: no gateway, no resolver. (qemu's own `restrict=on` drops every datagram that a guest sends, answers
to forwarded ones too.)
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncssh
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fault_hosts import Lab

from vm.image import MACHINE_ID, Image

#: Ports of the guest that are reached from here: SSH, its services over TCP, and over UDP.
SSH: Final = 22
TCP: Final = (SSH, 9000, 9001, 9002, 9100, 9101, 9110, 9111, 9120, 9121, 9443)
UDP: Final = (53, 9000, 9003)
#: The other end of everything that reaches the guest, as the guest sees it.
OUTSIDE: Final = "10.0.2.2"
BOOT_S_MAX: Final = {"kvm": 60.0, "tcg": 600.0}
ANSWER_S: Final = 3.0
END_S_MAX: Final = 10.0


def accelerator() -> str:
    """`kvm` where the processor helps, else `tcg`: qemu emulates it, and a machine takes ten times as long.

    /dev/kvm alone says too little: there are kernels that offer it without such help, and then emulate a guest's kernel
    themselves, more slowly than qemu does.
    """
    helps = {"vmx", "svm"} & set(Path("/proc/cpuinfo").read_text().split())
    return "kvm" if helps and os.access("/dev/kvm", os.R_OK | os.W_OK) else "tcg"


class Monitor:
    """What qemu is asked and told (its QMP): about the machine, past whoever lives in it."""

    def __init__(self, path: Path) -> None:
        """Connected; `path` is there as soon as qemu is."""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._lines = self._socket.makefile("r")
        self._lines.readline()
        self.ask("qmp_capabilities")

    def ask(self, command: str, **given: Any) -> Any:
        """The answer to a command. RuntimeError if qemu refuses it."""
        asked = {"execute": command, "arguments": given}
        self._socket.sendall(json.dumps(asked).encode() + b"\n")
        for line in self._lines:
            told = json.loads(line)
            if "error" in told:
                raise RuntimeError(f"{command}: {told['error']['desc']}")
            if "return" in told:
                return told["return"]
        raise RuntimeError(f"{command}: qemu has ended")

    def wait(self, event: str) -> None:
        """Until qemu tells of an event that comes after the last answer."""
        for line in self._lines:
            if json.loads(line).get("event") == event:
                return
        raise RuntimeError(f"no {event}: qemu has ended")

    def close(self) -> None:
        """Leave."""
        self._lines.close()
        self._socket.close()


@dataclass
class Vm(Lab):
    """app-1 is a virtual machine, and all its own."""

    qemu: subprocess.Popen[bytes]
    monitor: Monitor
    ports: dict[tuple[str, int], int]
    """Here, by protocol and port in the guest."""
    portal: BlockingPortal
    hand: asyncssh.SSHClientConnection | None = None
    boot_s: float = 0.0
    """From the start of qemu until sshd answered."""

    def ask(self, line: str) -> str:
        """What a line of shell says in the guest, past drkit. AssertionError if it fails."""
        return self.portal.call(self._asked, line)

    async def _asked(self, line: str) -> str:
        if self.hand is None:  # one login for all: an emulated processor takes seconds for each
            told = self.ready["app-1"]
            self.hand = await asyncssh.connect(
                told["address"], told["port"], username=told["user"], config=None, agent_path=None,
                client_keys=[str(self.folder / "login")], login_timeout=BOOT_S_MAX["tcg"],
                known_hosts=([asyncssh.import_public_key(told["public_key"])], [], []),
            )  # fmt: skip
        done = await self.hand.run(line, encoding="utf-8")
        assert done.exit_status == 0, f"{line}: {done.stderr!r}"
        return str(done.stdout)

    def await_ssh(self) -> None:
        """Until its sshd answers. AssertionError with the end of its console if it does not come up."""
        self.hand = None
        deadline = time.monotonic() + BOOT_S_MAX[accelerator()]
        while not greeted(self.ports["tcp", SSH]):
            console = (self.folder / "console").read_text(errors="replace")[-2000:]
            assert self.qemu.poll() is None and time.monotonic() < deadline, f"no sshd: {console}"


def greeted(port: int) -> bool:
    """Whether an SSH server says who it is. Takes as long as it takes until somebody answers or refuses."""
    try:
        with socket.create_connection(("127.0.0.1", port), ANSWER_S) as caller:
            if caller.recv(4) == b"SSH-":
                return True
    except OSError:  # nobody is there yet
        pass
    time.sleep(0.02)  # qemu takes every call, and drops it at once while nobody listens behind it
    return False


@contextmanager
def vm(folder: Path, image: Image, *, memory_mib: int = 768) -> Iterator[Vm]:
    """Start one, and end it."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(folder / "login")
    public = key.export_public_key().decode().split()[1]
    forwards = [f"hostfwd=tcp:127.0.0.1:0-:{port}" for port in TCP] + [f"hostfwd=udp:127.0.0.1:0-:{p}" for p in UDP]
    began = time.monotonic()
    with (folder / "qemu").open("wb") as said:
        qemu = subprocess.Popen(
            [
                "qemu-system-x86_64", "-machine", "q35", "-accel", accelerator(), "-cpu", "qemu64", "-smp", "2",
                "-m", str(memory_mib),
                "-nodefaults", "-no-user-config", "-display", "none", "-no-shutdown",
                "-kernel", str(image.kernel), "-initrd", str(image.initrd),
                "-append", f"root=/dev/vda1 net.ifnames=0 console=ttyS0 drkit.login={public}",
                "-drive", f"file={image.disk},format=raw,if=virtio,snapshot=on,cache=unsafe",
                "-nic", ",".join(["user", "model=virtio-net-pci", *forwards]),
                "-device", "virtio-rng-pci", "-serial", f"file:{folder / 'console'}",
                "-qmp", f"unix:{folder / 'qmp'},server=on,wait=on",
            ],
            stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd=folder,
            start_new_session=True,
        )  # fmt: skip
    try:
        monitor = _monitor(qemu, folder)
        try:
            ports = forwarded(monitor.ask("human-monitor-command", **{"command-line": "info usernet"}))
            told = {
                "address": "127.0.0.1", "port": ports["tcp", SSH], "public_key": image.known_host,
                "machine_id": MACHINE_ID, "isolation": "machine", "user": "root", "root": "/", "room": None,
            }  # fmt: skip
            with start_blocking_portal() as portal:
                found = Vm(folder, {"app-1": told}, [], qemu, monitor, ports, portal)
                found.await_ssh()
                found.boot_s = time.monotonic() - began
                yield found
                if found.hand is not None:
                    portal.call(found.hand.abort)
        finally:
            monitor.close()
    finally:
        qemu.terminate()
        try:
            qemu.wait(END_S_MAX)
        except subprocess.TimeoutExpired:
            qemu.kill()
            qemu.wait()


def _monitor(qemu: subprocess.Popen[bytes], folder: Path) -> Monitor:
    """As soon as qemu listens."""
    while qemu.poll() is None:
        with suppress(OSError):  # not yet
            return Monitor(folder / "qmp")
        time.sleep(0.01)
    raise AssertionError(f"qemu ended with {qemu.returncode}: {(folder / 'qemu').read_text()}")


def forwarded(told: str) -> dict[tuple[str, int], int]:
    """Which port here leads to which port of the guest, as qemu lists its connections."""
    line = re.compile(r"(TCP|UDP)\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)\s+\S+\s+(\d+)")
    return {(kind.lower(), int(guest)): int(here) for kind, here, guest in line.findall(told)}
