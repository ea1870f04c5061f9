"""What strikes a real drill: which cells are offered, which calls a step makes, how a process stands still."""

from __future__ import annotations

import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from drkit.catalog import Catalog
from drkit.cli.offering import Ways, real
from drkit.drill.matrix import Fault, Moment
from drkit.drill.reach import Reach, words
from drkit.errors import DrkitError
from drkit.sandbox.processes import identify
from drkit.sandbox.strikes import Drilled, disk, freezing
from drkit.sandbox.strikes.disk import Disk
from drkit.sandbox.strikes.every import STRIKES
from drkit.sandbox.strikes.freezing import Freezer
from drkit.sandbox.strikes.kill import Kill
from drkit.sandbox.strikes.permissions import Permission, permissions

READ, WRITE = Permission("kms", "ListGrants", writes=False), Permission("kms", "CreateGrant", writes=True)
BEFORE, DURING, AFTER = Moment


def ways(kind: str, *providers: str, reads: bool = False, writes: bool = False) -> Ways:
    every = (*((READ,) if reads else ()), *((WRITE,) if writes else ()))
    return Ways(kind, Reach(frozenset(providers), frozenset(providers)), every, (WRITE,) if writes else ())


AWS = ways("action", "Aws", reads=True, writes=True)
LOOKS = ways("probe", "Aws", reads=True)
HOST = ways("action", "Ssh")
BASE = ways("action", "Postgres")
SENDS = ways("action", "Delivery")
GATE = ways("gate")


@pytest.mark.parametrize(
    ("way", "fault", "moments"),
    [
        (AWS, Fault.THROTTLE, [BEFORE, DURING, AFTER]), (AWS, Fault.STALE, [BEFORE, DURING, AFTER]),
        (AWS, Fault.DENIED, [BEFORE, DURING, AFTER]), (AWS, Fault.HOSTS, []),
        (AWS, Fault.KILL, [BEFORE, DURING, AFTER]), (HOST, Fault.THROTTLE, []),
        (LOOKS, Fault.THROTTLE, [BEFORE]), (LOOKS, Fault.STALE, []), (LOOKS, Fault.DENIED, [BEFORE]),
        (HOST, Fault.HOSTS, [BEFORE, DURING, AFTER]), (HOST, Fault.DENIED, [BEFORE, DURING]),
        (BASE, Fault.HOSTS, [BEFORE, DURING, AFTER]), (BASE, Fault.DENIED, []),
        (SENDS, Fault.DISK, [BEFORE, DURING, AFTER]), (SENDS, Fault.DENIED, []), (SENDS, Fault.STALE, []),
        (GATE, Fault.KILL, [BEFORE, AFTER]), (GATE, Fault.DISK, [BEFORE, AFTER]), (GATE, Fault.HOSTS, []),
    ],
)  # fmt: skip
def test_what_can_be_brought_about_from_outside_is_offered(way: Ways, fault: Fault, moments: list[Moment]) -> None:
    assert [moment for moment in Moment if real(way, fault, moment)] == moments


@pytest.mark.parametrize(
    ("uses", "effect", "look"),
    [
        (
            "aws.kms.grant",
            {("kms", "CreateGrant")},
            {("kms", "DescribeKey"), ("kms", "ListGrants"), ("kms", "Decrypt")},
        ),
        ("aws.elb.open", {("wafv2", "AssociateWebACL")}, {("elasticloadbalancing", "DescribeTargetHealth")}),
        ("aws.ec2.restore-volume", {("ec2", "CreateVolume")}, {("elasticfilesystem", "GET /2015-02-01/file-systems*")}),
        ("service.stop", set(), set()),
    ],
)
def test_the_calls_that_a_step_makes_are_read_from_its_code(
    uses: str, effect: set[tuple[str, str]], look: set[tuple[str, str]]
) -> None:
    by_effect, by_look = (permissions(said) for said in words(Catalog().entry(uses)))
    assert effect <= {(one.service, one.pattern) for one in by_effect if one.writes}
    assert look <= {(one.service, one.pattern) for one in by_look if not one.writes}
    assert bool(effect | look) == bool((*by_effect, *by_look))


def test_every_fault_of_the_matrix_can_strike() -> None:
    assert list(STRIKES) == list(Fault)


def test_what_holds_the_lease_is_never_among_them() -> None:
    assert permissions({"s3", "put_object", "get_object"}) == ()
    assert permissions({"ssm", "put_parameter", "get_object"}) == (Permission("ssm", "PutParameter", writes=True),)


SYNCS = """
import os, sys, time
with open(sys.argv[1], "wb") as file:
    while True:
        began = time.monotonic()
        os.fdatasync(file.fileno())
        print(time.monotonic() - began, flush=True)
        sys.stdin.readline()
"""


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Makes something durable, and again for every line it is given; says how long it took."""
    with subprocess.Popen(
        [sys.executable, "-c", SYNCS, str(tmp_path / "file")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def took_s(writer: subprocess.Popen[str], *, again: bool = True) -> float:
    assert writer.stdin is not None and writer.stdout is not None
    if again:
        print(file=writer.stdin, flush=True)
    assert select.select([writer.stdout], [], [], 10)[0], "it does not go on"
    return float(writer.stdout.readline())


def drilled(writer: subprocess.Popen[str]) -> Drilled:
    process = identify(writer.pid)
    assert process is not None
    return Drilled("http://127.0.0.1:9", "west", "run", "step", process, ())


needs_strace = pytest.mark.skipif(disk.why_not() is not None, reason=str(disk.why_not()))


def test_who_is_frozen_does_nothing_and_goes_on_afterwards(writer: subprocess.Popen[str]) -> None:
    took_s(writer, again=False)
    assert writer.stdin is not None and writer.stdout is not None
    with Freezer(drilled(writer).runner) as freezer, freezer.frozen():
        print(file=writer.stdin, flush=True)
        assert not select.select([writer.stdout], [], [], 0.3)[0]
    took_s(writer, again=False)


def test_who_was_only_to_be_frozen_never_was(writer: subprocess.Popen[str]) -> None:
    took_s(writer, again=False)
    with Freezer(drilled(writer).runner):
        took_s(writer)
    took_s(writer)


def test_who_is_frozen_goes_on_by_itself(writer: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freezing, "LEASE_S", 0.3)
    took_s(writer, again=False)
    began = time.monotonic()
    with Freezer(drilled(writer).runner) as freezer, freezer.frozen():
        took_s(writer)
        assert time.monotonic() - began >= freezing.LEASE_S, "it was never frozen"


@needs_strace
def test_a_disk_becomes_slow_while_its_process_is_frozen(writer: subprocess.Popen[str]) -> None:
    took_s(writer, again=False)
    slow = Disk(drilled(writer))
    with Freezer(drilled(writer).runner) as freezer, freezer.frozen():
        slow.begin()
    assert took_s(writer) >= disk.WRITE_S and slow.met() == 1
    slow.end()


@needs_strace
def test_every_write_is_slow_until_it_is_over_and_is_counted(writer: subprocess.Popen[str]) -> None:
    assert took_s(writer, again=False) < disk.WRITE_S
    slow = Disk(drilled(writer))
    slow.begin()
    assert slow.lasts() and slow.met() == 0
    assert took_s(writer) >= disk.WRITE_S and slow.met() == 1
    slow.end()
    assert not slow.lasts() and slow.met() == 1
    assert took_s(writer) < disk.WRITE_S


@needs_strace
def test_a_slow_disk_is_over_by_itself(writer: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "LEASE_S", 0.5)
    slow = Disk(drilled(writer))
    slow.begin()
    took_s(writer, again=False)
    deadline = time.monotonic() + 10
    while slow.lasts():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert took_s(writer) < disk.WRITE_S
    slow.end()


@needs_strace
def test_the_disk_of_a_process_that_is_gone_cannot_be_slow(writer: subprocess.Popen[str]) -> None:
    gone = drilled(writer)
    writer.kill()
    writer.wait()
    with pytest.raises(DrkitError, match="cannot be slowed down"):
        Disk(gone).begin()


def test_without_strace_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert disk.why_not.__wrapped__() == "strace is missing (apt-get install strace)"


def test_who_is_killed_is_gone_and_cannot_be_killed_again(writer: subprocess.Popen[str]) -> None:
    kill = Kill(drilled(writer))
    kill.begin()
    assert kill.met() == 1 and not kill.lasts() and writer.wait() == -9
    with pytest.raises(DrkitError, match="cannot be killed"):
        kill.begin()
