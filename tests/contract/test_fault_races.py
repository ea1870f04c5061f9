"""The script at the host, frozen, doubled, robbed of its lease or without room to write: nothing stays broken.

It is run past SSH here, so that it can be stopped at each command that it calls.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest
from fault_hosts import Lab, lab, uptime_s, why_no_rooms
from fault_kills import SLEEPER, is_stopped, leader

from drkit.chaos import onhost
from drkit.chaos.faults._service import Processes
from drkit.chaos.faults.process_pause import Pause, pause
from drkit.chaos.onhost import STOP_ALL, faults
from drkit.errors import Refused
from drkit.model.faults import Nothing, fault_key
from drkit.providers.ssh import Completed, Ssh
from drkit.testing import FakeSecrets

SERVICES = 8
LEASE_S = 1.0
#: So many leases that end at the same time, each of which has to kill a script first, are late on a busy machine.
LATE_S = 3.0
#: Commands of the script; each call of one is a place to stop at.
COMMANDS = ("mkdir", "cat", "mv", "rm", "flock", "setsid", "sleep", "tail", "sed", "cut", "awk")
STOPS = """#!/bin/sh
if tr '\\0' ' ' <"/proc/$PPID/cmdline" | grep -q ' drkit-fault \\| drkit-inject '; then
  echo "${0##*/}" >>"$CALLS"
  if [ "$(wc -l <"$CALLS")" = "$STOP_AT" ] || [ "${0##*/}" = "$STOP_AT" ]; then kill -STOP "$PPID"; fi
fi
exec "/usr/bin/${0##*/}" "$@"
"""


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    names = [f"s{number}" for number in range(SERVICES)]
    files = {f"etc/services/{name}.json": SLEEPER for name in names}
    boot = [f"svc start {name}" for name in names]
    with lab(tmp_path_factory.mktemp("races"), {"app-1": {"files": files, "boot": boot}}) as found:
        stubs = found.root("app-1") / "stops"
        stubs.mkdir()
        for command in COMMANDS:
            (stubs / command).write_text(STOPS)
            (stubs / command).chmod(0o755)
        yield found


@pytest.fixture(autouse=True)
def nothing_left(hosts: Lab) -> Iterator[None]:
    """What a test that failed left is healed, and the next one begins."""
    yield
    for line in said(script(hosts, "list")).splitlines():
        said(script(hosts, "heal", line.split("\t")[0]))


def script(
    hosts: Lab, *args: str, stop_at: int | str = 0, calls: Path | None = None, root: Path | None = None
) -> subprocess.Popen[str]:
    """The script, stopped at its so many-th command, or at the one of this name."""
    root = root or hosts.root("app-1")
    path = f"{root}/bin:/usr/bin:/bin"
    env = {"DRKIT_HOST_ROOT": str(root), "PATH": f"{root}/stops:{path}" if calls else path, "STOP_AT": str(stop_at)}
    return subprocess.Popen(
        ["sh", "-c", onhost.script_text(), "drkit-fault", *args],
        env=env | {"CALLS": str(calls)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def twin(hosts: Lab, folder: Path) -> Path:
    """The same host with markers of its own: scripts that are frozen in it do not keep others waiting."""
    folder.mkdir()
    for name in ("bin", "etc", "stops"):
        (folder / name).symlink_to(hosts.root("app-1") / name)
    return folder


def inject_args(hosts: Lab, service: str, owner: str, lease_s: float = LEASE_S) -> list[str]:
    p = Pause(host="app-1", service=service, lease_s=lease_s)
    inject, revert = asyncio.run(shell_of(hosts, p))
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    meta = {"fault": pause.name, "params": p.model_dump(mode="json"), "run": owner, "step": "step"}
    return [
        "inject", fault_key(pause.name, p), owner, hosts.ready["app-1"]["machine_id"], "0", boot,
        str(round(100 * (uptime_s() + lease_s))), str(round(100 * lease_s)), json.dumps(meta), "", inject, revert,
    ]  # fmt: skip


async def shell_of(hosts: Lab, p: Pause) -> tuple[str, str]:
    """What is sent to a host to inject this and to revert it."""
    sent: list[str] = []

    class Records(Ssh):
        async def run(self, host: str, argv: Sequence[str], *, timeout_s: float = 5.0, text: str = "") -> Completed:
            sent.extend(argv)
            return Completed(0, "boot 0" if argv[-1] == "clock" else "injected 100 process")

    ctx = hosts.context(fakes={Ssh: Records(hosts.environment, FakeSecrets())})
    await pause(ctx, p, Processes(processes=1, stopped=0))
    return sent[-2], sent[-1]


def said(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=10)
    return output


def wake(calls: Path) -> int:
    """Let go on what was stopped in a script with this mark; how many that were."""
    stopped = stopped_in(calls)
    for pid in stopped:
        with suppress(ProcessLookupError):  # it was killed meanwhile
            os.kill(pid, signal.SIGCONT)
    return len(stopped)


def stopped_in(calls: Path) -> list[int]:
    """Processes that stand still in a script with this mark."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            ours = f"CALLS={calls}".encode() in (process / "environ").read_bytes().split(b"\0")
            if ours and "State:\tT" in (process / "status").read_text():
                found.append(int(process.name))
        except OSError:  # it ended meanwhile
            continue
    return found


@dataclass
class Frozen:
    """A script that is stopped somewhere."""

    place: int
    service: int
    root: Path
    calls: Path
    process: subprocess.Popen[str]


def frozen_at(hosts: Lab, places: Sequence[int], tmp_path: Path) -> None:
    """At each of these places at the same time; AssertionError if anything is broken a second after the lease."""
    pids = [leader(hosts, f"s{number}") for number in range(len(places))]
    frozen = []
    for number, place in enumerate(places):
        root, calls = twin(hosts, tmp_path / f"root-{place}"), tmp_path / f"calls-{place}"
        args = inject_args(hosts, f"s{number}", f"{tmp_path.name}-{place}")
        process = script(hosts, *args, stop_at=place, calls=calls, root=root)
        frozen.append(Frozen(place, number, root, calls, process))
    time.sleep(LEASE_S)  # whoever came so far has armed its lease by now; it is too late for who did not
    ends_s = [float(seen_in(one.root).get("until", 0)) / 100 for one in frozen]
    time.sleep(max(max(ends_s) + 0.1 - uptime_s(), 0))
    deadline = uptime_s() + LATE_S
    while left := [one.place for one in frozen if is_stopped(pids[one.service])]:
        assert uptime_s() < deadline, f"frozen at {left}"
        time.sleep(0.05)
    woken = {one.place: wake(one.calls) for one in frozen}
    ends = {one.place: said(one.process) for one in frozen}
    # Who was not frozen (two calls at the same moment are counted as one) may have injected in time.
    assert [place for place in woken if woken[place] and ends[place].startswith("injected")] == [], ends
    deadline = uptime_s() + LEASE_S + LATE_S
    while any(said(script(hosts, "list", root=one.root)) for one in frozen):
        assert uptime_s() < deadline, ends
    broken = [
        (one.place, ends[one.place], woken[one.place], seen_in(one.root))
        for one in frozen
        if is_stopped(pids[one.service])
    ]
    assert broken == []


def seen_in(root: Path) -> dict[str, str]:
    """What a host remembers."""
    kept = ("state", "log", "until", "lease", "injector", "leader")
    return {path.name: path.read_text() for path in root.glob("var/lib/drkit/faults/*/*") if path.name in kept}


def calls_of_one(hosts: Lab, tmp_path: Path) -> int:
    """How many commands a script calls that nobody stops."""
    calls = tmp_path / "calls"
    args = inject_args(hosts, "s0", tmp_path.name)
    assert said(script(hosts, *args, calls=calls)).startswith("injected")
    assert said(script(hosts, "heal", args[1])).startswith("healed drkit")
    return len(calls.read_text().splitlines())


def test_a_script_frozen_inside_its_lock_injects_nothing_when_it_wakes(hosts: Lab, tmp_path: Path) -> None:
    count = calls_of_one(hosts, tmp_path)
    assert count > SERVICES
    frozen_at(hosts, [1 + number * (count - 1) // (SERVICES - 1) for number in range(SERVICES)], tmp_path)


def test_a_script_frozen_beyond_its_senders_lease_injects_nothing_though_the_faults_own_lease_lives(
    hosts: Lab, tmp_path: Path
) -> None:
    args = inject_args(hosts, "s4", f"{tmp_path.name}-late", lease_s=30)
    args[6] = str(round(100 * (uptime_s() + 3)))
    # The first is the lease's own.
    frozen = script(hosts, *args, stop_at="setsid", calls=tmp_path / "late")
    deadline = time.monotonic() + 20
    while not stopped_in(tmp_path / "late"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(max(int(args[6]) / 100 + 0.1 - uptime_s(), 0))
    assert wake(tmp_path / "late") == 1
    assert said(frozen) == "its lease is over\n"
    assert not is_stopped(leader(hosts, "s4"))
    assert said(script(hosts, "list")) == ""
    assert said(script(hosts, "heal", args[1])).startswith("never-injected drkit")


@pytest.mark.soak
def test_a_script_frozen_at_any_of_its_commands_injects_nothing_when_it_wakes(hosts: Lab, tmp_path: Path) -> None:
    count = calls_of_one(hosts, tmp_path)
    for first in range(1, count + 1, SERVICES):
        frozen_at(hosts, range(first, min(first + SERVICES, count + 1)), tmp_path)


def test_a_heal_frozen_inside_its_lock_does_not_keep_the_lease_from_healing(hosts: Lab, tmp_path: Path) -> None:
    pids = [leader(hosts, f"s{number}") for number in range(4)]
    healing = []
    for number, pid in enumerate(pids):
        args = inject_args(hosts, f"s{number}", tmp_path.name, lease_s=2)
        assert said(script(hosts, *args)).startswith("injected")
        assert is_stopped(pid)
        calls = tmp_path / f"calls-{number}"
        healing.append((calls, script(hosts, "heal", args[1], stop_at=2 * number + 1, calls=calls)))
    deadline = uptime_s() + 2 + LATE_S
    while any(is_stopped(pid) for pid in pids):
        assert uptime_s() < deadline
        time.sleep(0.05)
    for calls, process in healing:
        wake(calls)
        said(process)
    deadline = uptime_s() + LATE_S
    while said(script(hosts, "list")):  # that it is healed is written down last
        assert uptime_s() < deadline


def test_of_injectors_that_come_together_one_injects(hosts: Lab, tmp_path: Path) -> None:
    args = [inject_args(hosts, "s0", f"{tmp_path.name}-{number}", lease_s=20) for number in range(4)]
    answers = [said(one) for one in [script(hosts, *given) for given in args]]
    assert sorted("injected already" in answer for answer in answers) == [False, True, True, True], answers
    assert sum(answer.startswith("injected ") for answer in answers) == 1
    assert said(script(hosts, "heal", args[0][1])).startswith("healed drkit")
    assert not is_stopped(leader(hosts, "s0"))


@pytest.mark.parametrize("how", ["killed", "restarted"])
async def test_a_fault_whose_lease_is_gone_is_overdue_and_is_healed_by_hand(hosts: Lab, how: str) -> None:
    service = {"killed": "s1", "restarted": "s2"}[how]
    ctx, p = hosts.context(run=f"gone-{how}"), Pause(host="app-1", service=service, lease_s=60)
    before = await pause.observe(ctx, p)
    await pause(ctx, p, before)
    folder = hosts.root("app-1") / "var/lib/drkit/faults" / fault_key(pause.name, p)
    lease = int((folder / "lease").read_text().split()[0])
    if how == "killed":
        os.killpg(lease, signal.SIGKILL)
        wait_gone(lease)
    else:  # as after a restart of the host: another boot, and the processes of the last one are gone
        (folder / "boot").write_text("00000000-0000-0000-0000-000000000000\n")
    (left,) = (await faults(ctx, Nothing())).markers
    assert (left.state, left.expires_in_s) == ("overdue", None)
    with pytest.raises(Refused, match="its lease is gone"):
        await pause(ctx, p, before)
    assert pause.heal is not None
    await pause.heal(ctx, p, before)
    assert (await faults(ctx, Nothing())).markers == ()
    assert not is_stopped(leader(hosts, service))
    await ctx.providers.aclose()


def test_a_healed_fault_leaves_no_process_behind(hosts: Lab) -> None:
    args = inject_args(hosts, "s3", "tidy", lease_s=3000)
    assert said(script(hosts, *args)).startswith("injected")
    folder = hosts.root("app-1") / "var/lib/drkit/faults" / args[1]
    lease = int((folder / "lease").read_text().split()[0])
    assert session_of(lease)
    assert said(script(hosts, "heal", args[1])).startswith("healed drkit")
    wait_gone(lease)


def wait_gone(session: int) -> None:
    deadline = time.monotonic() + 5
    while session_of(session):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def session_of(pid: int) -> str:
    return subprocess.run(["ps", "-o", "pid=", "-s", str(pid)], capture_output=True, text=True).stdout.strip()


NO_ROOMS = why_no_rooms()


@pytest.mark.skipif(NO_ROOMS is not None, reason=str(NO_ROOMS))
def test_a_host_that_has_no_room_to_write_it_down_is_not_broken(tmp_path: Path) -> None:
    """With room for so many more files: either all is written down and its lease lives, or nothing is injected."""
    boot = ["mkdir -p var/lib/drkit", "mount -t tmpfs -o size=1m,nr_inodes=60 drkit var/lib/drkit", "svc start s0"]
    config = {"files": {"etc/services/s0.json": SLEEPER}, "boot": boot, "isolation": "mount-ns"}
    with lab(tmp_path, {"app-1": config}) as hosts:
        pid, outcomes = leader(hosts, "s0"), set()
        for room in range(2, 24):
            fill = "rm -rf faults; cd var/lib/drkit; for n in $(seq 60); do touch f$n || break; done 2>/dev/null; rm -f"
            hosts.inside("app-1", "sh", "-c", f"rm -rf var/lib/drkit/*; {fill} $(ls f* | head -n {room})")
            args = inject_args(hosts, "s0", f"room-{room}", lease_s=20)
            env = {"DRKIT_HOST_ROOT": str(hosts.root("app-1")), "PATH": f"{hosts.root('app-1')}/bin:/usr/bin:/bin"}
            command = hosts.command("app-1", "sh", "-c", onhost.script_text(), "drkit-fault")
            done = subprocess.run([*command, *args], env=env, capture_output=True, text=True, timeout=20)
            listed = subprocess.run([*command, "list"], env=env, capture_output=True, text=True, timeout=20).stdout
            if is_stopped(pid):
                assert listed.split("\t")[1:2] in (["injected"], ["armed"]), (room, done)
                assert listed.split("\t")[2] != "-", (room, done)
                healed = subprocess.run([*command, "heal", args[1]], env=env, capture_output=True, text=True)
                assert healed.returncode == 0, (room, healed)
                assert not is_stopped(pid)
            else:
                assert done.returncode in (95, 96, 97, 99), (room, done)
            outcomes.add(done.returncode)
        assert {0, 95} <= outcomes


def test_who_ends_by_himself_before_he_is_killed_is_no_failure_of_the_revert(tmp_path: Path) -> None:
    """It was one: the lease tried again a second later, and drkit called a healed fault not healed."""
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as leader:
        born = Path(f"/proc/{leader.pid}/stat").read_text().rsplit(") ", 1)[1].split()[19]
        (tmp_path / "injector").write_text(f"{leader.pid} {born}\n")
        told_so = 'kill() { command kill "$@"; return 1; }\n'  # as it says of who is not there any more
        done = subprocess.run(["sh", "-c", told_so + STOP_ALL], env={**os.environ, "FAULT": str(tmp_path)}, timeout=30)
        assert (done.returncode, leader.wait(5)) == (0, -signal.SIGKILL)


SYSTEMD_RUN = """#!/bin/sh
# Not systemd: a stub that keeps a process a unit, begins it again if it is killed, and no scope.
scope=
while [ $# -gt 0 ]; do
  case "$1" in
    --scope) scope=yes ;; --unit=*) unit=${1#--unit=} ;;
    --property=WorkingDirectory=*) folder=${1#--property=WorkingDirectory=} ;; --*) ;; *) break ;;
  esac
  shift
done
[ -z "$scope" ] || exec "$@"
cd "$folder" || exit 1
setsid sh -c 'unit=$1; shift; until "$@"; do :; done; rm -f "$unit"' unit "$HOME/$unit.service" "$@" \
  </dev/null >/dev/null 2>&1 &
echo $! >"$HOME/$unit.service"
"""
SYSTEMCTL = """#!/bin/sh
# Not systemd: a stub beside the stub of systemd-run.
case "$1" in
  is-system-running) echo running ;;
  is-active) if [ -f "$HOME/$2" ] && kill -0 "$(cat "$HOME/$2")"; then echo active; else echo inactive; fi ;;
  stop) [ ! -f "$HOME/$2" ] || { kill -s KILL -- "-$(cat "$HOME/$2")"; rm -f "$HOME/$2"; } ;;
esac
"""


async def test_where_systemd_answers_a_unit_is_the_lease__by_a_stub_of_systemd(tmp_path: Path) -> None:
    """There is no systemd here: the stub keeps a real process, so that what is asked of systemd is carried out."""
    files = {"etc/services/s0.json": SLEEPER, "bin/systemd-run": SYSTEMD_RUN, "bin/systemctl": SYSTEMCTL}
    boot = ["chmod +x bin/systemd-run bin/systemctl", "svc start s0"]
    with lab(tmp_path, {"app-1": {"files": files, "boot": boot}}) as hosts:
        pid = leader(hosts, "s0")
        for run, lease_s in (("by-heal", 60.0), ("by-lease", 2.0), ("by-killed-lease", 3.0)):
            ctx, p = hosts.context(run=run), Pause(host="app-1", service="s0", lease_s=lease_s)
            before = await pause.observe(ctx, p)
            await pause(ctx, p, before)
            ends = uptime_s() + lease_s
            assert is_stopped(pid)
            (unit,) = hosts.root("app-1").glob("drkit-lease-*.service")
            if run == "by-killed-lease":
                (lease,) = hosts.root("app-1").glob("var/lib/drkit/faults/*/lease")
                os.kill(int(lease.read_text().split()[0]), signal.SIGKILL)
            if run == "by-heal":
                assert pause.heal is not None
                await pause.heal(ctx, p, before)
            while is_stopped(pid):
                assert uptime_s() < ends + 5
                await anyio.sleep(0.02)
            with anyio.fail_after(5):
                while unit.exists():
                    await anyio.sleep(0.02)
            await ctx.providers.aclose()
