"""What faults on hosts refuse, what they spare, and those that this machine cannot let happen for real."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from fault_examples import FAULTS
from fault_hosts import lab, why_no_rooms

from drkit import testing
from drkit.catalog import Action, Catalog
from drkit.chaos.faults.clock_skew import ClockSkew, HostClock, clock, skew
from drkit.chaos.faults.host_loss import answers, lose
from drkit.chaos.faults.partition import Partition, partition
from drkit.chaos.onhost import OnHost, faults
from drkit.errors import Refused
from drkit.model.environment import Environment, Host
from drkit.model.faults import Nothing
from drkit.model.observation import State
from drkit.model.permit import Permit
from drkit.providers.ssh import Completed, Ssh

#: Faults that reach beyond a host that keeps only so much to itself.
BEYOND = {
    "none": ["disk-fill", "inode-exhaustion", "certificate-expiry"],
    "mount-ns": [
        "partition", "port-blackhole", "connection-reset", "packet-loss", "packet-rate", "dns-failure", "bandwidth",
        "latency",
    ],
    "netns": ["clock-skew", "loss"],
}  # fmt: skip


@pytest.mark.parametrize(("isolation", "name"), [(kind, name) for kind, names in BEYOND.items() for name in names])
async def test_a_fault_that_would_reach_beyond_its_host_is_refused(isolation: Any, name: str) -> None:
    host = Host(
        name="app-1", site="here", address={"host": "127.0.0.1", "port": 1}, user="x", key={"ref": "secret://file/x"},
        known_host="x", machine_id="x", isolation=isolation,
    )  # fmt: skip
    environment = Environment(
        name="lab", kind="staging", account="0", sites=[{"name": "here", "kind": "region"}], hosts=[host],
        state_store="file:///nowhere",
    )  # fmt: skip
    fault = Catalog().entry(f"host.{name}")
    assert isinstance(fault, Action)
    p = fault.params.model_validate(FAULTS[fault.name].params, strict=False)
    before = fault.observe.answer.model_validate(FAULTS[fault.name].healed)
    with pytest.raises(Refused, match=f"needs .*, and the host's isolation is {isolation}"):
        await fault(testing.context(environment), p, before)


NO_ROOMS = why_no_rooms("nft")
LISTENS = """
import socket, time
servers = [socket.create_server(("0.0.0.0", port)) for port in (2222, 2223)]
time.sleep(1000)
"""
CONNECTS = """
import socket, sys
try:
    socket.create_connection(("10.77.0.1", int(sys.argv[1])), 0.4).close(); print("connected")
except OSError as error:
    print(type(error).__name__)
"""


@pytest.mark.skipif(NO_ROOMS is not None, reason=str(NO_ROOMS))
async def test_the_way_by_which_a_host_is_healed_is_never_cut(tmp_path: Path) -> None:
    """Where its SSH server is inside, its port stays open to everybody; where that is not known, nothing is cut."""
    inside = {"DRKIT_HOST_OUTSIDE": "", "SSH_CONNECTION": "10.0.0.9 50000 10.0.0.1 2222"}
    service = {"etc/services/listens.json": json.dumps({"argv": ["python3", "-c", LISTENS]})}
    configs = {
        "known": {"isolation": "netns", "env": inside, "files": service, "boot": ["svc start listens"]},
        "unknown": {"isolation": "netns", "env": {"DRKIT_HOST_OUTSIDE": ""}},
    }
    with lab(tmp_path, configs) as hosts:
        hosts.wire("known", "unknown")
        ctx = hosts.context()
        p = Partition(host="unknown", peers=("10.77.0.0/24",), lease_s=30)
        with pytest.raises(Refused, match="the way to the SSH server is not known"):
            await partition(ctx, p, await partition.observe(ctx, p))
        assert "table" not in hosts.inside("unknown", "nft", "list", "ruleset")
        p = p.but(host="known")
        await partition(ctx, p, await partition.observe(ctx, p))
        connected = [hosts.inside("unknown", "bin/python3", "-c", CONNECTS, port).strip() for port in ("2222", "2223")]
        assert connected == ["connected", "TimeoutError"]
        assert partition.heal is not None
        await partition.heal(ctx, p, await partition.observe(ctx, p))
        await ctx.providers.aclose()


DATE = """#!/bin/sh
# Not the clock: a stub that keeps in a file how far it is off.
off=$(cat "$HOME/off" 2>/dev/null || echo 0)
case "$1" in
  -s) awk -v s="${2#@}" -v n="$(/bin/date +%s.%N)" 'BEGIN {printf "%.3f", s - n}' >"$HOME/off" ;;
  *) awk -v n="$(/bin/date +%s.%N)" -v o="$off" 'BEGIN {printf "%.6f", n + o}' ;;
esac
"""
TIMEDATECTL = """#!/bin/sh
# Not systemd: a stub beside the stub of date.
case "$1" in show) cat "$HOME/ntp" ;; set-ntp) case "$2" in true) echo yes ;; *) echo no ;; esac >"$HOME/ntp" ;; esac
"""


@pytest.mark.parametrize("by", ["heal", "lease"])
async def test_a_clock_is_set_off_and_set_right_again__by_a_stub_of_date(tmp_path: Path, by: str) -> None:
    """Its own clock a host here does not have: the stub stands for it, and no lease counts on what it shows."""
    files = {"bin/date": DATE, "bin/timedatectl": TIMEDATECTL, "ntp": "yes\n"}
    with lab(tmp_path, {"app-1": {"files": files, "boot": ["chmod +x bin/date bin/timedatectl"]}}) as hosts:
        hosts.ready["app-1"]["isolation"] = "machine"
        ctx, p = hosts.context(), ClockSkew(host="app-1", offset_s=86400.0, lease_s=60 if by == "heal" else 3)
        assert skew.state(p, await clock(ctx, OnHost(host="app-1"))) is State.ABSENT
        await skew(ctx, p, HostClock(ahead_s=0))
        ends = time.monotonic() + p.lease_s
        assert skew.state(p, await clock(ctx, OnHost(host="app-1"))) is State.HOLDS
        assert (hosts.root("app-1") / "ntp").read_text() == "no\n"
        if by == "heal":
            assert skew.heal is not None
            await skew.heal(ctx, p, HostClock(ahead_s=0))
        while (await faults(ctx, Nothing())).markers:
            assert time.monotonic() < ends + 5
            await anyio.sleep(0.1)
        assert skew.state(p, await clock(ctx, OnHost(host="app-1"))) is State.ABSENT
        assert (hosts.root("app-1") / "ntp").read_text() == "yes\n"
        await ctx.providers.aclose()


async def test_a_lost_host_is_lost_when_it_answers_nobody(tmp_path: Path) -> None:
    """The order to switch off never reaches a shell here: whoever would be given it kills the host's server instead."""
    with lab(tmp_path, {"app-1": {}}) as hosts:
        hosts.ready["app-1"]["isolation"] = "machine"
        sent: list[str] = []

        class SwitchesOff(Ssh):
            async def change(
                self, host: str, argv: Sequence[str], *, token: str, permit: Permit, timeout_s: float = 20.0
            ) -> Completed:
                sent.extend(argv)
                os.kill(hosts.processes[0].pid, signal.SIGKILL)
                hosts.processes[0].wait()
                return Completed(0, "")

        ssh = SwitchesOff(hosts.environment, testing.FakeSecrets(hosts.secrets))
        ctx, p = hosts.context(fakes={Ssh: ssh}), OnHost(host="app-1")
        before = await answers(ctx, p)
        assert lose.state(p, before) is State.ABSENT
        await lose(ctx, p, before)
        assert lose.state(p, await answers(ctx, p)) is State.HOLDS
        assert "sysrq-trigger" in sent[-1]
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", hosts.ready["app-1"]["port"]), 1)
        await ctx.providers.aclose()


def test_a_lost_host_is_irreversible() -> None:
    assert lose.heal is None and lose.lease is None and lose.irreversible
