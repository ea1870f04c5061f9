"""One server of the sandbox: an SSH host with a root folder of its own, where commands run as real processes.

A command is run by `/bin/sh -c` in the host's root with a clean environment (HOME is the root, `bin/` comes first in
PATH); SFTP and scp see the root as `/`. Whatever a command or a service started dies with this process. Services are
managed by `bin/svc` (see `svc_tool`); `boot` commands run at start-up.

Folder: `host_key` (made once) and `root/` with `etc/machine-id`, `etc/authorized_keys` (read at each login),
`etc/services/`, `srv/`, `var/run`, `var/log` (`logins`: a line for each key that was refused), `bin/`.

Config: `{"name", "address", "port", "folder", "user", "authorized_keys": [LINE], "machine_id"?, "env"?: {}, "files"?:
{PATH: TEXT}, "boot"?: [COMMAND], "identity"?: {"key": FILE, "machine_id": ID}, "isolation"?: "mount-ns"|"netns"}`. With
`identity` the host pretends to be another one; SIGHUP reads the configuration again and drops all connections. With
`isolation` (as root) its commands run in namespaces of their own; the server that they come in by stays outside.
Ready line: `{"name", "address", "port", "public_key", "machine_id", "root", "boot": [{"command", "exit", "output"}],
"isolation", "room"}` (room: pid of a process in its namespaces, or null).
"""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drkit.sandbox.parts import announce, die_with_parent, load_config
from drkit.sandbox.parts._guardian import MARK, start_guardian, sweep
from drkit.sandbox.parts._room import Room

if TYPE_CHECKING:
    import asyncssh

PR_SET_CHILD_SUBREAPER = 36
BOOT_MAX_S = 15.0
KEYS, LOGINS = "etc/authorized_keys", "var/log/logins"
"""Below the root: who may log in, and who was not let in."""
_FOLDERS = ("bin", "etc/services", "srv", "tmp", "var/run", "var/log")


@dataclass(frozen=True)
class Layout:
    """What a host is made of on disk, and what its commands see."""

    name: str
    user: str
    root: Path
    key: Path
    machine_id: str
    env: Mapping[str, str]

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Layout:
        """From a configuration; a forced identity wins."""
        folder = Path(config["folder"]).resolve()
        root = folder / "root"
        identity = config.get("identity") or {}
        own_id = config.get("machine_id") or hashlib.sha256(config["name"].encode()).hexdigest()[:32]
        env = {
            "PATH": f"{root}/bin:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(root),
            "TMPDIR": str(root / "tmp"),
            "LANG": "C.UTF-8",
            "USER": config["user"],
            "HOSTNAME": config["name"],
            "DRKIT_HOST_PID": str(os.getpid()),
            MARK: str(root),
            # The server that its commands come in by stays outside of a host's own network.
            **({"DRKIT_HOST_OUTSIDE": "1"} if config.get("isolation") == "netns" else {}),
            **config.get("env", {}),
        }
        key = Path(identity.get("key") or folder / "host_key")
        return cls(config["name"], config["user"], root, key, identity.get("machine_id") or own_id, env)

    def furnish(self, config: Mapping[str, Any]) -> None:
        """Make folders, tools, identity and the configured files that are absent: what a command changed is kept."""
        for folder in _FOLDERS:
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        _write(self.root / "etc/machine-id", self.machine_id + "\n")
        _write(self.root / "etc/hostname", self.name + "\n")
        keys = self.root / KEYS
        if not keys.exists():
            _write(keys, "".join(line.strip() + "\n" for line in config["authorized_keys"]))
        tool = Path(__file__).with_name("svc_tool.py").read_text().partition("\n")[2]
        _write(self.root / "bin/svc", f"#!{sys.executable} -IS\n{tool}", 0o755)
        _write(self.root / "bin/python3", f'#!/bin/sh\nexec {sys.executable} "$@"\n', 0o755)
        for path, text in config.get("files", {}).items():
            if not (self.root / path).exists():
                (self.root / path).parent.mkdir(parents=True, exist_ok=True)
                _write(self.root / path, text)


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.write_text(text)
    path.chmod(mode)


class Processes:
    """The commands of this host: started here, and orphans of theirs that the kernel hands to us reaped here."""

    def __init__(self, layout: Layout, room: Room | None = None) -> None:
        self._layout = layout
        self._enter = room.enter(layout.root) if room is not None else ()
        self._ours: set[int] = set()
        self._starting = 0
        # Services outlive the command that started them; as their nearest subreaper we become their parent.
        if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._reap)

    async def start(self, command: str) -> asyncio.subprocess.Process:
        """Run a command in the host's root, in a session of its own."""
        self._starting += 1
        try:
            process = await asyncio.create_subprocess_exec(
                *self._enter,
                "/bin/sh",
                "-c",
                command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd=self._layout.root,
                env=dict(self._layout.env),
                start_new_session=True,
            )
            self._ours.add(process.pid)
        finally:
            self._starting -= 1
        return process

    async def wait(self, process: asyncio.subprocess.Process) -> int:
        """The command's exit status; negative: the signal that ended it."""
        try:
            return await process.wait()
        finally:
            self._ours.discard(process.pid)

    async def boot(self, command: str) -> dict[str, Any]:
        """Run a start-up command to its end: `{"command", "exit", "output"}`."""
        process = await self.start(command)
        try:
            async with asyncio.timeout(BOOT_MAX_S):
                out, err = await process.communicate()
        except TimeoutError:
            process.kill()
            return {"command": command, "exit": None, "output": f"not done within {BOOT_MAX_S:g} s"}
        code = await self.wait(process)
        return {"command": command, "exit": code, "output": (out + err).decode("utf-8", "replace")[-2000:]}

    def _reap(self) -> None:
        while True:
            try:
                # Look only: a command's own status belongs to whoever waits for it.
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            if self._starting or ended.si_pid in self._ours:
                asyncio.get_running_loop().call_later(0.05, self._reap)
                return
            os.waitpid(ended.si_pid, os.WNOHANG)


class Host:
    """The SSH side: who may log in, what runs, under which host key."""

    def __init__(self, layout: Layout, processes: Processes) -> None:
        self._layout = layout
        self._processes = processes
        self._connections: set[asyncssh.SSHServerConnection] = set()
        self._acceptor: asyncssh.SSHAcceptor | None = None

    async def listen(self, address: str, port: int) -> int:
        """Accept connections; the port. Raises OSError."""
        import asyncssh

        self._acceptor = await asyncssh.create_server(
            lambda: _server(self._layout, self._connections),
            address,
            port,
            server_host_keys=[_host_key(self._layout.key)],
            process_factory=self._run,
            sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=os.fsencode(self._layout.root)),
            allow_scp=True,
            allow_pty=False,
            encoding=None,
            login_timeout=10,
            keepalive_interval=0,
        )
        return int(self._acceptor.get_port())

    async def become(self, layout: Layout, address: str, port: int) -> None:
        """Answer as another host from now on: same port, all connections dropped, processes untouched."""
        assert self._acceptor is not None
        self._acceptor.close()
        for connection in list(self._connections):
            connection.abort()
        await self._acceptor.wait_closed()
        self._layout = layout
        await self.listen(address, port)

    async def _run(self, ssh: asyncssh.SSHServerProcess[bytes]) -> None:
        if ssh.command is None:
            ssh.stderr.write(b"this host runs commands only; there is no login shell\n")
            ssh.exit(1)
            return
        process = await self._processes.start(ssh.command)
        feeding = asyncio.create_task(_feed(ssh, process))
        await asyncio.gather(_carry(process.stdout, ssh.stdout), _carry(process.stderr, ssh.stderr))
        code = await self._processes.wait(process)
        feeding.cancel()
        if code < 0:
            ssh.exit_with_signal(signal.Signals(-code).name.removeprefix("SIG"))
        else:
            ssh.exit(code)


async def _feed(ssh: asyncssh.SSHServerProcess[bytes], process: asyncio.subprocess.Process) -> None:
    """Bytes and signals from the client to the command, until either has had enough."""
    import asyncssh

    assert process.stdin is not None
    try:
        while True:
            try:
                data = await ssh.stdin.read(65536)
            except asyncssh.SignalReceived as received:
                os.killpg(process.pid, signal.Signals[f"SIG{received.signal}"])
                continue
            if not data:
                return
            process.stdin.write(data)
            await process.stdin.drain()
    except (OSError, asyncssh.Error):
        return  # the command does not read, or the client is gone; neither ends the command
    finally:
        process.stdin.close()


async def _carry(source: asyncio.StreamReader | None, sink: asyncssh.SSHWriter[bytes]) -> None:
    """Bytes from the command to the client; a client that left is no reason for the command to stop."""
    assert source is not None
    listening = True
    while data := await source.read(65536):
        if listening:
            try:
                sink.write(data)
                await sink.drain()
            except OSError:
                listening = False


def _server(layout: Layout, connections: set[asyncssh.SSHServerConnection]) -> asyncssh.SSHServer:
    import asyncssh

    class Login(asyncssh.SSHServer):
        def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
            self._connection = conn
            connections.add(conn)

        def connection_lost(self, exc: Exception | None) -> None:
            connections.discard(self._connection)

        def begin_auth(self, username: str) -> bool:
            return True

        def public_key_auth_supported(self) -> bool:
            return True

        def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
            # Read each time: taking a key away from the host takes effect at the next login.
            lines = (layout.root / KEYS).read_text().split("\n")
            allowed = {" ".join(line.split()[:2]) for line in lines if line.strip()}
            offered = " ".join(key.export_public_key().decode().split()[:2])
            if username == layout.user and offered in allowed:
                return True
            with (layout.root / LOGINS).open("a") as log:
                log.write(f"{username} refused: {offered}\n")
            return False

    return Login()


def _host_key(path: Path) -> asyncssh.SSHKey:
    import asyncssh

    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        asyncssh.generate_private_key("ssh-ed25519").write_private_key(path)
        path.chmod(0o600)
    return asyncssh.read_private_key(path)


async def run(config: dict[str, Any]) -> None:
    """Serve until SIGTERM."""
    layout = Layout.of(config)
    layout.furnish(config)
    isolation = config.get("isolation", "none")
    room = Room(isolation) if isolation != "none" else None
    processes = Processes(layout, room)
    host = Host(layout, processes)
    address = config["address"]
    port = await host.listen(address, int(config.get("port", 0)))
    booted = [await processes.boot(command) for command in config.get("boot", [])]
    loop, stop, again = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, again.set)
    announce(
        name=layout.name,
        address=address,
        port=port,
        public_key=_host_key(layout.key).export_public_key().decode().strip(),
        machine_id=layout.machine_id,
        root=str(layout.root),
        boot=booted,
        isolation=isolation,
        room=room.pid if room is not None else None,
    )
    stopped = asyncio.create_task(stop.wait())
    while not stop.is_set():
        asked = asyncio.create_task(again.wait())
        await asyncio.wait({stopped, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if again.is_set():
            again.clear()
            config = load_config()
            layout = Layout.of(config)
            layout.furnish(config)
            await host.become(layout, address, port)
    sweep(layout.root)
    if room is not None:
        room.close()


def main() -> None:
    """Serve until SIGTERM; whatever the host started ends with it."""
    die_with_parent()
    config = load_config()
    start_guardian(Path(config["folder"]).resolve() / "root")
    asyncio.run(run(config))


if __name__ == "__main__":
    main()
