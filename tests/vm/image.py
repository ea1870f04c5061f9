"""The virtual machine's disk: Debian 12 with systemd and sshd, made once and kept until what it is made of changes."""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Final

GUEST: Final = Path(__file__).parent / "guest"
#: Git ignores it, and `make clean` removes it.
CACHE: Final = Path(__file__).parents[2] / ".vm"
SUITE: Final = "bookworm"
PACKAGES: Final = (
    "systemd-sysv", "dbus", "libpam-systemd", "systemd-timesyncd", "udev", "kmod", "openssh-server", "nftables",
    "iproute2", "procps", "util-linux", "openssl", "python3", "initramfs-tools", "lz4",
    "linux-image-cloud-amd64",
)  # fmt: skip
SERVICES: Final = ("answers", "app@9100", "app@9110", "app@9120", "writer", "tls", "systemd-networkd")
UNUSED: Final = (
    "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer",
    "e2scrub_reap.service", "getty@tty1.service", "serial-getty@ttyS0.service",
    "user@.service",
)  # fmt: skip
MACHINE_ID: Final = "d4c17d4c17d4c17d4c17d4c17d4c17d4"
DISK_BYTES: Final = 2 * 2**30
PARTITION_AT: Final = 2**20
#: Programs that it takes, and the package of each.
NEEDED: Final = {
    "debootstrap": "debootstrap", "mkfs.ext4": "e2fsprogs", "qemu-system-x86_64": "qemu-system-x86",
    "unshare": "util-linux",
}  # fmt: skip


@dataclass(frozen=True)
class Image:
    """What a virtual machine is started from; nobody writes to it."""

    disk: Path
    kernel: Path
    initrd: Path
    known_host: str
    """Its public SSH key."""


def why_no_image() -> str | None:
    """What is missing for making one; None if nothing is."""
    if os.geteuid() != 0:
        return "needs root: debootstrap makes the disk of a virtual machine"
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [package for program, package in NEEDED.items() if shutil.which(program, path=path) is None]
    return f"needs a virtual machine: apt-get install {' '.join(missing)}" if missing else None


def image() -> Image:
    """The disk, made now if there is none or if it was made of something else."""
    CACHE.mkdir(exist_ok=True)
    found = Image(CACHE / "disk.img", CACHE / "vmlinuz", CACHE / "initrd.img", "")
    made_of = CACHE / "made-of"
    with _alone(CACHE / "lock"):
        if not made_of.exists() or made_of.read_text() != digest():
            made_of.unlink(missing_ok=True)
            _make(CACHE / "root", found)
            made_of.write_text(digest())
    return Image(found.disk, found.kernel, found.initrd, (CACHE / "known_host").read_text().strip())


def digest() -> str:
    """Of all that the disk is made of."""
    parts = [Path(__file__), *sorted(path for path in GUEST.rglob("*") if path.is_file())]
    sums = (f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n" for path in parts)
    return hashlib.sha256("".join(sums).encode()).hexdigest()


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """While two run their tests at once, one of them makes the disk."""
    with lock.open("w") as held:
        flock(held, LOCK_EX)
        yield


def _make(root: Path, into: Image) -> None:
    if root.exists():  # an attempt that was cut off
        shutil.rmtree(root)
    _run("debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, str(root))
    shutil.copytree(GUEST, root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "etc/machine-id").write_text(f"{MACHINE_ID}\n")
    (root / "etc/resolv.conf").write_text("")  # that of this machine was copied
    for name in ("small", "few", "tls"):
        (root / "srv" / name).mkdir()
    tls = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=app-1"
    _run("chroot", str(root), *tls.split(), "-keyout", "/srv/tls/key.pem", "-out", "/srv/tls/cert.pem")
    _run("chroot", str(root), "systemctl", "--quiet", "enable", *SERVICES)
    _run("chroot", str(root), "systemctl", "--quiet", "mask", *UNUSED)
    _run("chroot", str(root), "update-initramfs", "-u")
    _run("chroot", str(root), "apt-get", "clean")
    for name, kept in (("vmlinuz", into.kernel), ("initrd.img", into.initrd)):
        shutil.copyfile((root / name).resolve(), kept)
    shutil.copyfile(root / "etc/ssh/ssh_host_ed25519_key.pub", CACHE / "known_host")
    _format(root, into.disk)
    shutil.rmtree(root)


def _format(root: Path, disk: Path) -> None:
    """A disk with one partition, as most have: limits and queues are of disks, files are on partitions."""
    with disk.open("wb") as raw:
        raw.truncate(DISK_BYTES)
        first, count = PARTITION_AT // 512, (DISK_BYTES - PARTITION_AT) // 512
        raw.seek(446)
        raw.write(struct.pack("<B3xB3xII", 0x80, 0x83, first, count) + bytes(48) + b"\x55\xaa")
    size = f"{(DISK_BYTES - PARTITION_AT) // 1024}k"
    _run("mkfs.ext4", "-q", "-F", "-d", str(root), "-E", f"offset={PARTITION_AT}", str(disk), size)


def _run(*argv: str) -> None:
    """In a mount namespace of its own: what it mounts below the root is gone when it ends, however it ends."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    done = subprocess.run(
        ["unshare", "--mount", *argv], env={**os.environ, "PATH": path, "LC_ALL": "C"}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"{argv[0]} ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
