"""Hosts: real SSH, real processes in a root of their own, and nothing left when a host is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from cloud_parts import part, until

from drkit.sandbox.parts._guardian import marked

SLEEPER = "import time\nwhile True: time.sleep(0.1)\n"
STUBBORN = (
    "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(600)\n"
)


class Machine:
    """A running host and how to log in to it."""

    def __init__(self, process: subprocess.Popen[bytes], ready: dict[str, Any], key: asyncssh.SSHKey) -> None:
        self.process, self.ready, self.key = process, ready, key
        self.root = Path(ready["root"])

    async def connect(
        self, key: asyncssh.SSHKey | None = None, public: str | None = None
    ) -> asyncssh.SSHClientConnection:
        """Log in, expecting the host's own public key."""
        line = f"[{self.ready['address']}]:{self.ready['port']} {public or self.ready['public_key']}\n"
        return await asyncssh.connect(
            self.ready["address"],
            self.ready["port"],
            username="ops",
            client_keys=[key or self.key],
            known_hosts=asyncssh.import_known_hosts(line),
            config=None,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    key = asyncssh.generate_private_key("ssh-ed25519")
    services = {
        "app": {"argv": ["bin/python3", "srv/app.py"], "release": "srv/app.py", "env": {"COLOUR": "blue"}},
        "stubborn": {"argv": ["bin/python3", "srv/stubborn.py"], "stop_timeout_s": 0.2},
        "broken": {"argv": ["bin/nothing-here"]},
    }
    config = {
        "name": "app-east-1",
        "address": "127.1.1.31",
        "port": 0,
        "folder": str(tmp_path / "app-east-1"),
        "user": "ops",
        "authorized_keys": [key.export_public_key().decode()],
        "files": {
            "srv/app.py": SLEEPER,
            "srv/stubborn.py": STUBBORN,
            **{f"etc/services/{name}.json": json.dumps(service) for name, service in services.items()},
        },
        "boot": ["svc start app"],
    }
    with part("host", config, tmp_path) as (process, ready):
        yield Machine(process, ready, key)
    until(lambda: not marked(tmp_path / "app-east-1" / "root"))


@pytest.fixture
async def ssh(machine: Machine) -> AsyncIterator[asyncssh.SSHClientConnection]:
    async with await machine.connect() as connection:
        yield connection


async def svc(ssh: asyncssh.SSHClientConnection, verb: str, name: str = "app") -> tuple[int | None, dict[str, Any]]:
    done = await ssh.run(f"svc {verb} {name}")
    return done.exit_status, json.loads(done.stdout or "{}")


def is_alive(service: dict[str, Any]) -> bool:
    return Path(f"/proc/{service['pid']}").exists()


def force_identity(machine: Machine, **identity: str) -> None:
    """Make the host answer as another one."""
    path = Path(machine.ready["config"])
    path.write_text(json.dumps({**json.loads(path.read_text()), "identity": identity}))
    machine.process.send_signal(signal.SIGHUP)


async def test_commands_run_in_the_hosts_root_with_a_clean_environment(
    machine: Machine, ssh: asyncssh.SSHClientConnection
) -> None:
    done = await ssh.run("pwd; echo $HOME; cat etc/machine-id; env | cut -d= -f1 | sort | tr '\\n' ' '")
    where, home, identity, names = str(done.stdout).splitlines()
    assert (where, home, identity) == (str(machine.root), str(machine.root), machine.ready["machine_id"])
    assert "DRKIT_PART_PARENT" not in names
    assert set(names.split()) <= {
        "DRKIT_HOST_PID", "DRKIT_HOST_ROOT", "HOME", "HOSTNAME", "LANG", "PATH", "PWD", "TMPDIR", "USER", "_", "SHLVL",
        "OLDPWD", "LC_CTYPE",
    }  # fmt: skip


async def test_exit_status_signals_input_and_large_output_arrive(ssh: asyncssh.SSHClientConnection) -> None:
    assert (await ssh.run("exit 7")).exit_status == 7
    killed = await ssh.run("kill -9 $$")
    assert killed.exit_signal is not None and killed.exit_signal[0] == "KILL"
    assert (await ssh.run("tr a-z A-Z; echo err >&2", input="hello")).stdout == "HELLO"
    big = await ssh.run("head -c 3000000 /dev/zero | tr '\\0' x")
    assert len(big.stdout or "") == 3_000_000
    assert (await ssh.run("true", input="not read by anyone")).exit_status == 0


async def test_a_signal_sent_over_ssh_reaches_the_command(ssh: asyncssh.SSHClientConnection) -> None:
    process = await ssh.create_process("echo ready; exec sleep 600")
    assert await process.stdout.readline() == "ready\n"
    process.send_signal("TERM")
    assert (await process.wait()).exit_signal is not None


async def test_services_start_once_tell_their_release_and_stop(ssh: asyncssh.SSHClientConnection) -> None:
    _, booted = await svc(ssh, "status")
    assert booted["running"] and booted["release"].startswith("sha256:")
    assert (await svc(ssh, "start"))[1]["pid"] == booted["pid"]
    await ssh.run("echo '# another release' >> srv/app.py")
    _, updated = await svc(ssh, "status")
    assert updated["release"] == booted["release"] != updated["release_on_disk"]
    _, restarted = await svc(ssh, "restart")
    assert restarted["pid"] != booted["pid"] and restarted["release"] == updated["release_on_disk"]
    environment = await ssh.run(f"tr '\\0' '\\n' < /proc/{restarted['pid']}/environ | grep COLOUR")
    assert environment.stdout == "COLOUR=blue\n"
    assert await svc(ssh, "stop") == (
        0,
        {**restarted, "running": False, "pid": None, "started_at": None, "release": None},
    )
    assert (await svc(ssh, "status"))[0] == 3
    assert not is_alive(restarted)


async def test_a_pid_that_was_reused_is_not_taken_for_the_service(
    machine: Machine, ssh: asyncssh.SSHClientConnection
) -> None:
    await svc(ssh, "stop")
    other = {"pid": os.getpid(), "start_ticks": 1, "started_at": "-", "release": None}
    (machine.root / "var/run/app.json").write_text(json.dumps(other))
    assert (await svc(ssh, "status"))[1]["running"] is False
    assert (await svc(ssh, "stop"))[0] == 0  # and this process is still here


async def test_a_service_that_ignores_term_is_killed_and_broken_ones_say_why(ssh: asyncssh.SSHClientConnection) -> None:
    _, running = await svc(ssh, "start", "stubborn")
    await ssh.run("until grep -q up var/log/stubborn.log; do sleep 0.01; done")
    await svc(ssh, "stop", "stubborn")
    assert not is_alive(running)
    broken = await ssh.run("svc start broken")
    assert broken.exit_status == 1 and "nothing-here" in str(broken.stderr)
    assert (await ssh.run("svc start nobody")).exit_status == 4


async def test_files_travel_by_sftp_and_scp_and_stay_in_the_root(
    machine: Machine, ssh: asyncssh.SSHClientConnection, tmp_path: Path
) -> None:
    local = tmp_path / "release.bin"
    local.write_bytes(bytes(range(256)))
    async with ssh.start_sftp_client() as sftp:
        await sftp.put(str(local), "/srv/by-sftp.bin")
        assert not await sftp.exists("/proc/1")
    await asyncssh.scp(str(local), (ssh, "/srv/by-scp.bin"))
    for name in ("by-sftp.bin", "by-scp.bin"):
        assert (machine.root / "srv" / name).read_bytes() == local.read_bytes()


async def test_only_the_hosts_keys_open_it_and_taking_one_away_closes_it(machine: Machine) -> None:
    with pytest.raises(asyncssh.PermissionDenied):
        await machine.connect(asyncssh.generate_private_key("ssh-ed25519"))
    (machine.root / "etc/authorized_keys").write_text("")
    with pytest.raises(asyncssh.PermissionDenied):
        await machine.connect()


def test_what_was_changed_on_a_host_survives_its_restart(machine: Machine, tmp_path: Path) -> None:
    (machine.root / "srv/app.py").write_text("changed")
    machine.process.kill()
    machine.process.wait(5)
    until(lambda: not marked(machine.root))
    config = json.loads(Path(machine.ready["config"]).read_text())
    with part("host", {**config, "boot": []}, tmp_path) as (_, again):
        assert (machine.root / "srv/app.py").read_text() == "changed"
        assert again["public_key"] == machine.ready["public_key"]


async def test_another_host_can_answer_at_the_address_and_is_told_apart(machine: Machine, tmp_path: Path) -> None:
    stranger = asyncssh.generate_private_key("ssh-ed25519")
    stranger.write_private_key(str(tmp_path / "stranger"))
    force_identity(machine, key=str(tmp_path / "stranger"), machine_id="f" * 32)
    until(lambda: (machine.root / "etc/machine-id").read_text().startswith("f"))
    deadline = time.monotonic() + 5
    while True:
        try:
            await (await machine.connect()).run("true")
        except asyncssh.HostKeyNotVerifiable:
            break
        except OSError:
            assert time.monotonic() < deadline
    async with await machine.connect(public=stranger.export_public_key().decode().strip()) as connection:
        assert str((await connection.run("cat etc/machine-id")).stdout).startswith("ffff")
        assert (await svc(connection, "status"))[1]["running"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_all_of_a_lost_host_is_gone(
    machine: Machine, ssh: asyncssh.SSHClientConnection, how: signal.Signals
) -> None:
    await ssh.create_process("sleep 600 & setsid sleep 601 & (sleep 602 & wait)")
    until(lambda: len(marked(machine.root)) >= 6)
    machine.process.send_signal(how)
    machine.process.wait(5)
    until(lambda: not marked(machine.root), 3)
    assert machine.process.returncode == (-9 if how == signal.SIGKILL else 0)
