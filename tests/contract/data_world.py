"""A host with a PostgreSQL server on it, and with copies: an archive of its log, backups, an encrypted one, a standby.

Built once a module (about a second). Everything lies in the host's own root; what is a copy lies in its `srv`.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from fault_hosts import Lab, lab

from drkit.sandbox.postgres import Server, find_binaries, give_to_owner, owner, remove_leftover_memory

SETTINGS = {
    "listen_addresses": "", "port": "5432", "wal_level": "replica", "fsync": "off", "max_connections": "20",
    "shared_buffers": "128kB",  # so few that a table is read from its file each time
    "dynamic_shared_memory_type": "mmap", "wal_keep_size": "64MB", "archive_mode": "on", "hot_standby": "on",
    "wal_receiver_status_interval": "1s", "autovacuum": "off", "checkpoint_timeout": "1d",  # nobody writes but a test
}  # fmt: skip
BATCHES, ROWS = 6, 1000
KEY = "srv/keys/backup"


@dataclass
class DataWorld:
    """The host `data-1`, and what is on it."""

    hosts: Lab
    binaries: Path
    sockets: Path
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        """The host's root."""
        return self.hosts.root("data-1")

    def server(self, name: str) -> Server:
        """A server with its data in the root: `var/primary`, `srv/standby`, ..."""
        return Server(name, self.binaries, self.root / name, self.sockets / name.replace("/", "-"))

    def conninfo(self, name: str) -> str:
        """How a server is reached on the host."""
        return f"host={self.server(name).sockets} user=postgres dbname=postgres"

    def ask(self, name: str, sql: str) -> Any:
        """The one value that a server answers."""
        with psycopg.connect(self.conninfo(name), autocommit=True, connect_timeout=5) as connection:
            row = connection.execute(sql.encode()).fetchone()
        return row[0] if row is not None else None

    def tool(self, program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """What one of PostgreSQL's programs says, run as whom the servers run as."""
        return subprocess.run(
            [self.binaries / program, *arguments], capture_output=True, text=True, timeout=60, cwd="/",
            env={"LC_ALL": "C", "PATH": f"{self.binaries}:/usr/bin:/bin"}, **owner(),
        )  # fmt: skip

    def need(self, program: str, *arguments: str | Path) -> None:
        """Run one that must succeed."""
        done = self.tool(program, *arguments)
        assert done.returncode == 0, done.stderr

    def folder(self, path: str | Path) -> Path:
        """A folder that the servers may use."""
        made = self.root / path
        made.mkdir(parents=True, exist_ok=True)
        made.chmod(0o700)
        give_to_owner(made)
        return made

    def configure(self, name: str, **settings: str) -> None:
        """Settings of a server that does not run; its sockets' folder."""
        server = self.server(name)
        self.folder(server.sockets)
        values = {**SETTINGS, "unix_socket_directories": str(server.sockets), "cluster_name": server.name, **settings}
        with (server.data / "postgresql.auto.conf").open("a") as conf:
            conf.writelines(f"{key} = '{value}'\n" for key, value in values.items())

    def start(self, name: str) -> None:
        """Start a server; it may not answer yet."""
        with (self.sockets / "log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [self.binaries / "postgres", "-D", self.server(name).data], stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, **owner(),
            )  # fmt: skip

    def answers(self, name: str, sql: str = "select true") -> bool:
        """Whether a server says yes. RuntimeError if it has ended."""
        if self.running[name].poll() is not None:
            raise RuntimeError(f"{name} ended with {self.running[name].returncode}")
        try:
            return bool(self.ask(name, sql))
        except psycopg.OperationalError:
            return False

    def stop(self, name: str) -> None:
        """End a server at once."""
        process = self.running.pop(name)
        process.kill()
        process.wait(20)
        remove_leftover_memory(self.server(name).data)

    def stop_all(self) -> None:
        """End every server."""
        for name in list(self.running):
            self.stop(name)

    def restored(self, archive: str) -> int:
        """Rows that a server has which is restored from the older backup and an archive. RuntimeError if it gives up.

        What restores does not know what ought to be there: it goes on for as long as the archive gives it something.
        """
        name = f"tmp/{Path(archive).name}"
        monday, data = self.root / "srv/backups/monday", self.root / name
        self.as_root("cp", "-a", monday, data)
        self.configure(name, archive_mode="off", restore_command=f'cp "{self.root}/{archive}/%f" "%p"')
        (data / "recovery.signal").touch()
        self.start(name)
        try:
            until(lambda: self.answers(name, "select not pg_is_in_recovery()"))
            return int(self.ask(name, "select count(*) from batches"))
        finally:
            self.stop(name)
            shutil.rmtree(data)

    def as_root(self, *argv: str | Path) -> None:
        """Run a program as ourselves, which must succeed."""
        subprocess.run([*argv], check=True, capture_output=True)


def until(what: Callable[[], bool], within_s: float = 120) -> None:
    """Wait until `what()` is true."""
    deadline = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < deadline, "not within the time"
        time.sleep(0.02)


@contextmanager
def data_world() -> Iterator[DataWorld]:
    """Build it, and leave nothing of it."""
    with ExitStack() as stack:
        # Not in pytest's own folder: as root the servers are nobody, and may not enter that.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="drkit-test-")))
        folder.chmod(0o711)
        binaries = find_binaries(folder)
        env = {"PATH": f"{folder}/data-1/root/bin:{binaries}:/usr/local/bin:/usr/bin:/bin"}
        hosts = stack.enter_context(lab(folder, {"data-1": {"env": env}}))
        hosts.ready["data-1"]["copies"] = ["srv"]
        world = DataWorld(hosts, binaries, folder / "s")
        stack.callback(world.stop_all)
        world.folder(world.sockets).chmod(0o711)
        furnish(world)
        yield world


def furnish(world: DataWorld) -> None:
    """A primary with a table and an archive, a backup, batches a segment each, another backup, and a standby."""
    for name in ("srv", "srv/archive", "srv/backups", "srv/keys", "var/primary", "tmp"):
        world.folder(name)
    primary = world.server("var/primary")
    world.need(
        "initdb", "--no-sync", "--data-checksums", "--auth=trust", "--username=postgres", "--locale=C",
        "--encoding=UTF8", "--wal-segsize=1", "--set=dynamic_shared_memory_type=mmap", "-D", primary.data,
    )  # fmt: skip
    world.configure("var/primary", archive_command=f'cp "%p" "{world.root}/srv/archive/%f"')
    world.start("var/primary")
    until(lambda: world.answers("var/primary"))
    with psycopg.connect(world.conninfo("var/primary"), autocommit=True) as sql:
        sql.execute("create table old as select n, repeat('x', 100) as text from generate_series(1, 10000) n")
        sql.execute("create table batches (n int)")
        back_up(world, "srv/backups/monday")
        for _ in range(BATCHES):
            sql.execute("select pg_switch_wal()")
            sql.execute("insert into batches select generate_series(1, %s)", [ROWS])
        sql.execute("select pg_switch_wal()")
    done = "select last_archived_wal >= pg_walfile_name(pg_current_wal_lsn() - 1) from pg_stat_archiver"
    until(lambda: world.answers("var/primary", done))
    back_up(world, "srv/backups/tuesday")
    world.as_root("cp", "-a", world.root / "srv/archive", world.root / "srv/offsite")
    for day in ("monday", "tuesday"):  # their labels only: a place of its own, with little in it
        label = world.folder(f"srv/nightly/{day}")
        world.as_root("cp", "-a", world.root / f"srv/backups/{day}/backup_label", label)
    encrypt(world)
    back_up(world, "srv/standby", "--write-recovery-conf")
    world.configure("srv/standby", archive_mode="off")
    world.start("srv/standby")
    until(lambda: world.answers("srv/standby"))


def back_up(world: DataWorld, path: str, *more: str) -> None:
    """A base backup of the primary."""
    at = world.conninfo("var/primary")
    world.need("pg_basebackup", "--checkpoint=fast", "--no-sync", f"--dbname={at}", "-D", world.root / path, *more)


def encrypt(world: DataWorld) -> None:
    """A file with a key of its own."""
    (world.root / KEY).write_text("not a secret: it is made for this test\n")
    plain, encrypted = world.root / "etc/machine-id", world.root / "srv/backup.enc"
    how = ("-aes-256-cbc", "-pbkdf2", "-pass", f"file:{world.root / KEY}")
    world.as_root("openssl", "enc", *how, "-in", plain, "-out", encrypted)
