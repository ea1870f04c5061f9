"""SSH against a real server: who answers is proven, and a change runs once for its token whatever happens to us."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import asyncssh
import pytest

from drkit.errors import OutcomeUnknown, Refused, ShutOut, StepFailed, Unreachable
from drkit.model import written
from drkit.model.environment import Address, Environment, Host, SecretRef, Site
from drkit.model.permit import Permit
from drkit.providers.secrets import Secrets
from drkit.providers.ssh import Ssh


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A host of the sandbox; what it announced, with the key that may log in."""
    folder = tmp_path_factory.mktemp("host")
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(folder / "login")
    config = {
        "name": "app-1",
        "address": "127.0.0.1",
        "folder": str(folder),
        "user": "drkit",
        "authorized_keys": [key.export_public_key().decode()],
    }
    (folder / "config.json").write_text(json.dumps(config))
    process = subprocess.Popen(
        [sys.executable, "-m", "drkit.sandbox.parts.host", str(folder / "config.json")], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    yield {**ready, "login": folder / "login"}
    process.terminate()
    process.wait(5)
    process.stdout.close()


def environment(server: dict[str, Any], **changes: Any) -> Environment:
    """An environment with that host, as `app-1`."""
    host = {
        "name": "app-1",
        "site": "here",
        "address": Address(host=server["address"], port=server["port"]),
        "user": "drkit",
        "key": SecretRef(ref=f"secret://file/{server['login']}"),
        "known_host": server["public_key"],
        "machine_id": server["machine_id"],
        **changes,
    }
    site = Site(name="here", kind="region")
    return Environment(
        name="test", kind="sandbox", account="0", sites=(site,), hosts=(Host(**host),), state_store="file:///nowhere"
    )


@pytest.fixture
async def ssh(server: dict[str, Any]) -> AsyncIterator[Ssh]:
    """The host, reached."""
    found = Ssh(environment(server), Secrets())
    yield found
    await found.aclose()


class Lasts:
    """A lease of the environment with a minute left."""

    def remaining_s(self) -> float:
        return 60.0


def times_run(server: dict[str, Any], name: str) -> int:
    """How often a command that appends a line to `tmp/NAME` has run."""
    path = Path(server["root"]) / "tmp" / name
    return len(path.read_text().splitlines()) if path.exists() else 0


def append(name: str, then: str = "true") -> list[str]:
    """A command that counts itself, then does something."""
    return ["sh", "-c", f"echo x >>tmp/{name}; {then}"]


async def test_commands_run_in_the_hosts_root_with_their_arguments_intact(ssh: Ssh, server: dict[str, Any]) -> None:
    done = await ssh.run("app-1", ["sh", "-c", 'cat etc/machine-id; echo "$1"; exit 3', "x", "a b; $HOME 'q'"])
    assert done.exit_code == 3
    assert done.output.splitlines() == [server["machine_id"], "a b; $HOME 'q'"]


async def test_a_host_with_another_key_is_never_logged_in_to(server: dict[str, Any]) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    ssh = Ssh(environment(server, known_host=other), Secrets())
    with pytest.raises(ShutOut, match="not the known one"):
        await ssh.run("app-1", ["true"])


@pytest.mark.parametrize(
    ("key", "why"), [("strange", "it refused the login: Permission denied"), ("torn", "cannot be read")]
)
async def test_who_is_not_let_in_sends_nothing_and_is_told_so(
    server: dict[str, Any], tmp_path: Path, key: str, why: str
) -> None:
    login = tmp_path / "login"
    if key == "strange":
        asyncssh.generate_private_key("ssh-ed25519").write_private_key(login)
    else:
        login.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n")
    ssh = Ssh(environment(server, key=SecretRef(ref=f"secret://file/{login}")), Secrets())
    for permit in (Permit(1), Permit(1, Lasts())):  # under a lease the host is asked for its clock first
        with pytest.raises(ShutOut, match=why) as shut:
            await ssh.change("app-1", append("never"), token="drkit-r-never", permit=permit)
    assert shut.value.hint == f"ssh -p {server['port']} drkit@{server['address']} true"
    with pytest.raises(ShutOut, match=why):
        await ssh.run("app-1", ["true"])
    with pytest.raises(ShutOut, match=why):
        await ssh.put("app-1", "tmp/x", b"x", token="drkit-r-x", permit=Permit(1))
    assert times_run(server, "never") == 0


async def test_a_change_counts_once_it_is_sent_and_a_refused_one_does_not(ssh: Ssh, server: dict[str, Any]) -> None:
    with written.attempt() as sent:
        with pytest.raises(Refused):
            await Ssh(environment(server, machine_id="another"), Secrets()).change(
                "app-1", ["true"], token="drkit-r-stranger", permit=Permit(1)
            )
        assert sent.world == "untouched"
        await ssh.change("app-1", ["true"], token="drkit-r-counted", permit=Permit(1))
        assert (sent.world, sent.through) == ("changed", ["true on app-1"])
        with pytest.raises(StepFailed):
            await ssh.change("app-1", ["false"], token="drkit-r-fails", permit=Permit(1))
        assert (sent.world, sent.doubtful) == ("unknown", ["false on app-1"])


async def test_nobody_listening_is_unreachable(server: dict[str, Any]) -> None:
    ssh = Ssh(environment(server, address=Address(host="127.0.0.1", port=1)), Secrets())
    with pytest.raises(Unreachable):
        await ssh.run("app-1", ["true"])
    with pytest.raises(Unreachable):
        await ssh.change("app-1", ["true"], token="t", permit=Permit(1))


async def test_a_change_runs_once_for_its_token_and_is_adopted_afterwards(ssh: Ssh, server: dict[str, Any]) -> None:
    first = await ssh.change("app-1", append("once", "echo said"), token="drkit-r-once", permit=Permit(1))
    second = await ssh.change("app-1", append("once"), token="drkit-r-once", permit=Permit(1))
    assert (first.adopted, second.adopted) == (False, True)
    assert first.output == second.output == "said\n"
    assert times_run(server, "once") == 1


async def test_a_change_that_failed_runs_again(ssh: Ssh, server: dict[str, Any]) -> None:
    command = append("again", "test $(wc -l <tmp/again) = 2")
    with pytest.raises(StepFailed, match="ended with 1"):
        await ssh.change("app-1", command, token="drkit-r-again", permit=Permit(1))
    assert not (await ssh.change("app-1", command, token="drkit-r-again", permit=Permit(1))).adopted
    assert times_run(server, "again") == 2


async def test_a_job_outlives_its_caller_and_is_adopted(ssh: Ssh, server: dict[str, Any]) -> None:
    command = append("long", "sleep 1; echo end")
    with anyio.move_on_after(0.4):
        await ssh.change("app-1", command, token="drkit-r-long", permit=Permit(1))
    await ssh.aclose()  # as if we had been killed
    done = await ssh.change("app-1", command, token="drkit-r-long", permit=Permit(1))
    assert done.adopted
    assert done.output == "end\n"
    assert times_run(server, "long") == 1


async def test_a_job_that_was_killed_is_an_unknown_outcome_once(ssh: Ssh, server: dict[str, Any]) -> None:
    with pytest.raises(OutcomeUnknown, match="without leaving its exit code"):
        await ssh.change("app-1", append("killed", "kill -9 $PPID"), token="drkit-r-killed", permit=Permit(1))
    assert times_run(server, "killed") == 1


async def test_an_older_fencing_token_is_refused(ssh: Ssh, server: dict[str, Any]) -> None:
    await ssh.change("app-1", ["true"], token="drkit-new-holder", permit=Permit(7))
    with pytest.raises(Refused, match="older"):
        await ssh.change("app-1", append("stale"), token="drkit-old-holder", permit=Permit(6))
    assert times_run(server, "stale") == 0
    (Path(server["root"]) / "var/lib/drkit/fence").write_text("0\n")


async def test_another_machine_behind_the_address_is_refused_before_anything_runs(server: dict[str, Any]) -> None:
    ssh = Ssh(environment(server, machine_id="0" * 32), Secrets())
    with pytest.raises(Refused, match="not 0000"):
        await ssh.change("app-1", append("stranger"), token="drkit-r-stranger", permit=Permit(1))
    assert times_run(server, "stranger") == 0
    await ssh.aclose()
