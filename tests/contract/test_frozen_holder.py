"""Whoever is frozen between check and send, past the end of the lease, starts nothing at a target that can refuse.

The process is stopped as a paused machine is (SIGSTOP) after it has looked at its lease, and goes on when that is over.
The targets are real: an SSH server, PostgreSQL with its agents and witness, the sandbox's supervisor.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh
import frozen_fakes
import pytest
import runner_fakes
from database_world import Databases, databases
from frozen_fakes import boot_time
from runner_fakes import asked, chain, environment, kinds, started, state, step, stop, until, waited_s

from drkit.engine.journal import read_rows
from drkit.engine.state import Status
from drkit.errors import Exit
from drkit.model.environment import Address, Environment, Host, SecretRef, Site, Witness
from drkit.model.events import Failed
from drkit.model.plan import PlanStep
from drkit.sandbox.control import serve_control
from drkit.sandbox.layout import ONPREM, SOURCE, TARGET
from drkit.sandbox.parts._aio import fetch
from drkit.sandbox.portrait import database_of

LATE = "after its sender's lease of the environment was over"


@dataclass
class Told:
    """What a frozen process said: when each round was thawed, and what became of its change."""

    thawed: list[float] = field(default_factory=list)
    became: list[dict[str, Any]] = field(default_factory=list)


def frozen(point: str, environment: Environment, folder: Path, *changes: str) -> Told:
    """Let a process change something, freeze at `point`, and wake when its lease is over."""
    path = folder / "environment.json"
    path.write_text(environment.model_dump_json())
    told = Told()
    argv = [sys.executable, frozen_fakes.__file__, point, str(path), *changes]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                said = json.loads(line)
                if "became" in said:
                    told.became.append(said)
                    continue
                while _state(process.pid) != "T" or boot_time() < said["ends"] + 0.05:
                    assert boot_time() < said["ends"] + 10, "it does not stop"
                    time.sleep(0.01)
                told.thawed.append(boot_time())
                os.kill(process.pid, signal.SIGCONT)
        finally:
            process.kill()
    return told


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


# A host


@dataclass(frozen=True)
class Machine:
    """An SSH host, and an environment that knows it as `app-1`."""

    root: Path
    environment: Environment

    def started(self) -> dict[int, float]:
        """When what was sent began to run, by the host's uptime, by round."""
        path = self.root / "tmp" / "started"
        lines = path.read_text().splitlines() if path.exists() else []
        return {int(round): float(at) for round, at in (line.split() for line in lines)}


@contextmanager
def machine(folder: Path) -> Iterator[Machine]:
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(folder / "login")
    config = {
        "name": "app-1", "address": "127.0.0.1", "folder": str(folder), "user": "drkit",
        "authorized_keys": [key.export_public_key().decode()],
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    argv = [sys.executable, "-m", "drkit.sandbox.parts.host", str(folder / "config.json")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        host = Host(
            name="app-1", site="here", address=Address(host=ready["address"], port=ready["port"]), user="drkit",
            key=SecretRef(ref=f"secret://file/{folder / 'login'}"), known_host=ready["public_key"],
            machine_id=ready["machine_id"],
        )  # fmt: skip
        yield Machine(
            Path(ready["root"]),
            Environment(
                name="test", kind="sandbox", account="0", sites=(Site(name="here", kind="region"),), hosts=(host,),
                state_store="file:///nowhere",
            ),
        )  # fmt: skip
        process.terminate()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Machine]:
    with machine(tmp_path) as made:
        yield made


def test_a_host_starts_nothing_for_who_was_frozen_between_check_and_send(host: Machine, tmp_path: Path) -> None:
    told = frozen("check", host.environment, tmp_path, "ssh")
    assert len(told.thawed) == 1, "it was frozen"
    (became,) = told.became
    assert became["became"] == "Refused" and LATE in became["why"]
    assert host.started() == {}
    # No newer holder has been here: the instant alone has refused it.
    assert (host.root / "var/lib/drkit/fence").read_text() == f"{frozen_fakes.TOKEN}\n"


@pytest.mark.soak
def test_a_drill_that_was_frozen_between_check_and_send_starts_nothing_and_says_what_is_uncertain(
    host: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real run takes its environment meanwhile, and touches no host: the instant alone keeps the drill out."""
    mark = tmp_path / "frozen"
    monkeypatch.setenv(runner_fakes.FREEZES, str(mark))
    env = environment(tmp_path).model_copy(update={"sites": host.environment.sites, "hosts": host.environment.hosts})
    send = PlanStep(
        id="send", number=1, uses="ssh.run", kind="action", repeat="token", timeout_s=20.0, poll_s=0.05,
        params={"host": "app-1", "creates": "tmp/made", "argv": ["touch", "tmp/made"]},
    )  # fmt: skip
    steps = [step("a", after="sign"), step("b", "a"), send, step("c", "send")]
    drill = asked(tmp_path, steps, env=env, drill=True)
    drilling = started(drill)
    try:
        until(lambda: mark.exists() and _state(drilling.pid) == "T" and kinds(drill).count("step.intent") == 2)
        monkeypatch.delenv(runner_fakes.FREEZES)
        real = asked(tmp_path, chain("d"), env=env)
        until(started(real).gone, 30)
        assert state(real).outcome == "done"
        assert waited_s(real, tmp_path) < 10
        assert not state(drill).lease_lost, "it was told nothing while it was frozen"
        (tmp_path / "world" / "sign").touch()
        os.kill(drilling.pid, signal.SIGCONT)
        until(drilling.gone, 30)
    finally:
        stop(drilling)
    woken = state(drill)
    assert woken.lease_lost and not (host.root / "tmp" / "made").exists()
    refused = [row.fact for row in read_rows(drill.journal) if isinstance(row.fact, Failed) and row.fact.step == "send"]
    assert [(fact.world, LATE in fact.error) for fact in refused] == [("untouched", True)]
    assert woken.steps["send"].status in (Status.PENDING, Status.FAILED), "its target refused: it is known not to be"
    assert woken.steps["a"].status is Status.UNCERTAIN, "its target could not refuse"
    assert woken.steps["b"].status is woken.steps["c"].status is Status.PENDING
    ended = drill.ended()
    assert ended is not None and ended["exit"] == Exit.UNKNOWN


@pytest.mark.soak
def test_a_host_starts_nothing_late_wherever_its_sender_waits_and_is_frozen(host: Machine, tmp_path: Path) -> None:
    told = frozen("awaits", host.environment, tmp_path, "ssh")
    _nothing_late(told, host.started())


def _nothing_late(told: Told, started: dict[int, float]) -> None:
    """Every start came before the thaw of its round: nothing was started by who woke up."""
    *rounds, undisturbed = told.became
    assert undisturbed == {"became": "done"} and len(rounds) == len(told.thawed) > 10
    late = [round for round, thawed in enumerate(told.thawed, 1) if started.get(round, 0.0) > thawed]
    refused = sum(became["became"] == "Refused" for became in rounds)
    print(f"frozen at {len(rounds)} awaits: {len(started) - 1} had been started, {refused} refused, {len(late)} late")
    assert not late and 0 < refused < len(rounds)
    assert len(rounds) + 1 in started, "whoever is not frozen starts it"


# Databases, agents, witness, supervisor


@dataclass
class Region:
    """Two databases with agents and witness, and an environment that knows them."""

    world: Databases
    environment: Environment


@pytest.fixture
async def region() -> AsyncIterator[Region]:
    async with databases() as world:
        sites = (*(Site(name=name, kind="region") for name in (SOURCE, TARGET)), Site(name=ONPREM, kind="on-prem"))
        url = world.site.endpoint("witness").url
        yield Region(
            world,
            Environment(
                name="sandbox", kind="sandbox", account="none", state_store="file:///nowhere", sites=sites,
                databases=tuple(database_of(world.site, name) for name in (SOURCE, TARGET)),
                witness=Witness(name="witness", site=ONPREM, url=url, term_s=1.5, margin_s=0.5),
                control=await serve_control(world.supervisor),
            ),
        )  # fmt: skip


async def test_databases_agents_witness_and_supervisor_start_nothing_for_who_was_frozen(
    region: Region, tmp_path: Path
) -> None:
    world = region.world
    with world.connect(SOURCE) as admin:
        admin.execute("create table started (round int, at float8)")
    changes = ("sql", "promotion", "agent", "witness", "control")
    told = await asyncio.to_thread(frozen, "check", region.environment, tmp_path, *changes)
    assert len(told.thawed) == len(changes), "each was frozen"
    for change, became in zip(changes, told.became, strict=True):
        assert became["became"] == "Refused" and LATE in became["why"], f"{change}: {became}"
    with world.connect(SOURCE) as admin:
        assert admin.execute("select count(*) from started").fetchone() == (0,)
        assert admin.execute("select current_setting('synchronous_standby_names')").fetchone() == ("",)
    there, lease = await world.agent(TARGET), await world.lease()
    assert (there["role"], there["override"], lease["revoked"]) == ("standby", None, None)

    with world.connect(SOURCE) as admin:  # a newer holder has been there: a lease that lasts is none any more
        admin.execute("update fence_token set token = %s", [frozen_fakes.TOKEN + 1])
    newer = {"permit": {"token": frozen_fakes.TOKEN + 1, "boot": None, "until_s": None}}
    await fetch("POST", f"{region.environment.control}/links/nowhere", newer, timeout_s=5)
    told = await asyncio.to_thread(frozen, "never", region.environment, tmp_path, "sql", "control")
    assert [became["became"] for became in told.became] == ["Refused", "Refused"]
    assert all("fencing token 7 is older than" in became["why"] for became in told.became)


@pytest.mark.soak
async def test_a_database_starts_nothing_late_wherever_its_sender_waits_and_is_frozen(
    region: Region, tmp_path: Path
) -> None:
    ahead = time.time() - boot_time()
    with region.world.connect(SOURCE) as admin:
        admin.execute("create table started (round int, at float8)")
    told = await asyncio.to_thread(frozen, "awaits", region.environment, tmp_path, "sql")
    with region.world.connect(SOURCE) as admin:
        rows = admin.execute("select round, at from started").fetchall()
        started = {round: at - ahead for round, at in rows}
    _nothing_late(told, started)
