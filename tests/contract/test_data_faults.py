"""Faults of data, for real: PostgreSQL itself notices each of them, and what was there is back, to the byte.

On a real server, its archive, its backups and its standby; healed by drkit, and by the lease alone.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import anyio
import psycopg
import pytest
from data_world import BATCHES, KEY, ROWS, DataWorld, data_world, until
from fault_cases import Named

from drkit.actions.backup import BackupPlace, Newest, newest
from drkit.chaos.faults.replication_delay import delay
from drkit.chaos.onhost import faults
from drkit.errors import Refused, StepFailed, Unobservable
from drkit.model.faults import Nothing, fault_key
from drkit.model.observation import State

TABLE = "old"
LEASE_S = 600.0


@pytest.fixture(scope="module")
def world() -> Iterator[DataWorld]:
    with data_world() as made:
        yield made


# What is seen from outside of drkit.


def unreadable(world: DataWorld) -> bool:
    """A server finds a page of its table broken."""
    try:
        world.ask("srv/standby", f"select count(*) from {TABLE}")
    except psycopg.errors.DataCorrupted as error:
        return "invalid page" in str(error)
    return False


def cut_short(world: DataWorld) -> bool:
    """A restore ends before the end, and does not even know."""
    return world.restored("srv/archive") < BATCHES * ROWS


def gives_up(world: DataWorld) -> bool:
    """A restore fails."""
    try:
        assert world.restored("srv/offsite") == BATCHES * ROWS
    except RuntimeError:
        return True
    return False


def incomplete(world: DataWorld) -> bool:
    """The newest backup is not what its manifest says, or has none."""
    return world.tool("pg_verifybackup", "--no-parse-wal", world.root / "srv/backups/tuesday").returncode != 0


def began(backup: Path) -> str:
    return (backup / "backup_label").read_text().splitlines()[0]


def stale(world: DataWorld) -> bool:
    """What calls itself Tuesday's backup began on Monday."""
    return began(world.root / "srv/nightly/tuesday") == began(world.root / "srv/nightly/monday")


def locked(world: DataWorld) -> bool:
    """What is encrypted cannot be read."""
    key, kept = world.root / KEY, world.root / "srv/backup.enc"
    done = subprocess.run(
        ["openssl", "enc", "-d", "-aes-256-cbc", "-pbkdf2", "-pass", f"file:{key}", "-in", kept], capture_output=True
    )
    return done.stdout != (world.root / "etc/machine-id").read_bytes()


def lagging(world: DataWorld) -> bool:
    """The primary sees its standby receive what was just written, and not replay it for as long as that is paused."""
    lsn = world.ask("var/primary", "select pg_logical_emit_message(true, 'drkit', 'a write')")
    received = f"select flush_lsn >= '{lsn}' from pg_stat_replication"
    until(lambda: world.answers("var/primary", received))
    replayed, paused = (
        f"select replay_lsn >= '{lsn}' from pg_stat_replication",
        "select pg_get_wal_replay_pause_state() = 'paused'",
    )
    until(lambda: world.answers("var/primary", replayed) or world.answers("srv/standby", paused))
    return not world.answers("var/primary", replayed)


@dataclass(frozen=True)
class Case(Named):
    """A fault with its parameters, what shows it, and the files that must be back."""

    params: Callable[[DataWorld], dict[str, Any]]
    broken: Callable[[DataWorld], bool]

    def given(self, world: DataWorld, lease_s: float, **more: Any) -> Any:
        given = {"host": "data-1", "lease_s": lease_s, **self.params(world), **more}
        return self.fault.params.model_validate(given, strict=False)


def table_file(world: DataWorld) -> str:
    return f"srv/standby/{world.ask('var/primary', f'select pg_relation_filepath({TABLE!r})')}"


CASES = [
    Case("bit_flip", "flip", lambda world: {"path": table_file(world)}, unreadable),
    Case("wal_loss", "lose", lambda world: {"path": "srv/archive"}, cut_short),
    Case("wal_truncation", "truncate", lambda world: {"path": "srv/offsite", "keep_percent": 90}, gives_up),
    Case("empty_backup", "empty", lambda world: {"path": "srv/backups"}, incomplete),
    Case("stale_backup", "age", lambda world: {"path": "srv/nightly"}, stale),
    Case("key_loss", "lose", lambda world: {"path": KEY}, locked),
    Case(
        "replication_lag", "hold_back",
        lambda world: {"path": "srv/standby", "conninfo": world.conninfo("srv/standby")}, lagging,
    ),
]  # fmt: skip


def snapshot(world: DataWorld) -> dict[str, tuple[object, ...]]:
    """What copies are to the byte, with owner, mode and time; of the standby, which lives on, a table that rests."""
    srv = world.root / "srv"
    paths = [path for path in srv.rglob("*") if not path.is_relative_to(srv / "standby")]
    return {str(path): facts(path) for path in [*paths, world.root / table_file(world)]}


def facts(path: Path) -> tuple[object, ...]:
    found = path.stat()
    content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
    return content, found.st_uid, found.st_gid, found.st_mode, found.st_mtime_ns if content else None


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_a_fault_is_noticed_by_who_uses_the_data_and_all_is_back_after_its_heal(
    world: DataWorld, case: Case
) -> None:
    ctx, p = world.hosts.context(run=f"heal-{case}"), case.given(world, LEASE_S)
    whole = snapshot(world)
    before = await case.fault.observe(ctx, p)
    assert case.fault.state(p, before) is State.ABSENT
    await case.fault(ctx, p, before)
    assert case.fault.state(p, await case.fault.observe(ctx, p)) is State.HOLDS
    assert case.broken(world)
    (left,) = (await faults(ctx, Nothing())).markers
    assert (left.fault, left.where, left.state) == (case.fault.name, "host data-1", "injected")
    assert case.fault.heal is not None
    await case.fault.heal(replace(ctx, step="heal"), p, before)
    assert case.fault.state(p, await case.fault.observe(ctx, p)) is State.ABSENT
    assert not case.broken(world)
    assert snapshot(world) == whole
    assert (await faults(ctx, Nothing())).markers == ()
    await ctx.providers.aclose()


async def test_all_of_them_at_once_are_healed_by_their_leases_alone(world: DataWorld) -> None:
    """That leases keep their time is tested elsewhere: here each is woken when everything has been seen."""
    whole = snapshot(world)
    ctx = world.hosts.context(run="lease")
    async with anyio.create_task_group() as group:
        for case in CASES:
            group.start_soon(injected, ctx, world, case)
    await ctx.providers.aclose()
    assert await noticed(world) == CASES
    for case in CASES:
        (sleep,) = children(int((marker(world, case) / "lease").read_text().split()[0]))
        os.kill(sleep, signal.SIGTERM)
    with anyio.fail_after(120):
        while not all("healed lease" in (marker(world, case) / "state").read_text() for case in CASES):
            await anyio.sleep(0.02)
    assert await noticed(world) == []
    assert snapshot(world) == whole


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def injected(ctx: Any, world: DataWorld, case: Case) -> None:
    p = case.given(world, LEASE_S)
    await case.fault(replace(ctx, step=str(case)), p, await case.fault.observe(ctx, p))


async def noticed(world: DataWorld) -> list[Case]:
    """Which of them are seen; everybody looks at the same time."""
    found: list[Case] = []

    async def look(case: Case) -> None:
        if await anyio.to_thread.run_sync(case.broken, world):
            found.append(case)

    async with anyio.create_task_group() as group:
        for case in CASES:
            group.start_soon(look, case)
    return sorted(found, key=CASES.index)


def marker(world: DataWorld, case: Case) -> Path:
    return world.root / "var/lib/drkit/faults" / fault_key(case.fault.name, case.given(world, 1))


BY_MODULE = {case.module: case for case in CASES}


async def tried(world: DataWorld, module: str, **more: Any) -> None:
    """Inject it with other parameters than usual."""
    ctx, case = world.hosts.context(run="tried"), BY_MODULE[module]
    p = case.given(world, LEASE_S, **more)
    try:
        await case.fault(ctx, p, await case.fault.observe(ctx, case.given(world, LEASE_S)))
    finally:
        await ctx.providers.aclose()


async def test_what_is_no_copy_or_cannot_be_named_is_left_as_it_is(world: DataWorld) -> None:
    original, srv = world.root / "var/primary/PG_VERSION", world.root / "srv"
    (srv / "out").symlink_to(original.parent)
    os.link(original, srv / "same")
    (srv / "two\nlines").write_text("kept")
    before = facts(original)
    try:
        for path in ("var/primary/PG_VERSION", "srv/../var/primary/PG_VERSION", "/etc/hostname", "srv/out/PG_VERSION"):
            with pytest.raises(Refused, match="is no copy; copies lie in srv"):
                await tried(world, "bit_flip", path=path)
        for path, why in (("srv/same", "has another name too"), ("srv/backups", "is no file with anything in it")):
            with pytest.raises(Refused, match=why):
                await tried(world, "bit_flip", path=path)
        for module in ("bit_flip", "key_loss"):
            with pytest.raises(Refused, match="is a name that cannot be written down in a line"):
                await tried(world, module, path="srv/two\nlines")
        assert facts(original) == before
    finally:
        for made in ("out", "same", "two\nlines"):
            (srv / made).unlink()


async def test_where_no_folder_of_copies_is_declared_and_of_an_original_on_a_shared_machine_nothing_is_broken(
    world: DataWorld,
) -> None:
    with pytest.raises(Refused, match="of an original on data-1 would reach beyond it: it needs mount-ns"):
        await tried(world, "key_loss", original=True)
    world.hosts.ready["data-1"]["copies"] = []
    try:
        with pytest.raises(Refused, match="is not known to be a copy"):
            await tried(world, "key_loss")
    finally:
        world.hosts.ready["data-1"]["copies"] = ["srv"]
    assert (world.root / KEY).exists()


async def test_a_lag_is_made_only_on_the_standby_that_is_meant(world: DataWorld) -> None:
    with pytest.raises(Refused, match=r"it keeps its data in .*/var/primary"):
        await tried(world, "replication_lag", conninfo=world.conninfo("var/primary"))
    world.ask("srv/standby", "select pg_wal_replay_pause()")
    try:
        with pytest.raises(Refused, match="somebody else has paused it"):
            await tried(world, "replication_lag")
        assert world.ask("srv/standby", "select pg_is_wal_replay_paused()"), "it is not ours to resume"
    finally:
        world.ask("srv/standby", "select pg_wal_replay_resume()")


async def test_a_delayed_standby_replays_each_commit_so_much_later_and_at_once_when_it_is_healed(
    world: DataWorld,
) -> None:
    ctx = world.hosts.context(run="delay")
    given = {"host": "data-1", "path": "srv/standby", "conninfo": world.conninfo("srv/standby"), "lease_s": LEASE_S}
    p = delay.params.model_validate({**given, "delay_s": 1.5}, strict=False)
    before = await delay.observe(ctx, p)
    settings = (world.root / "srv/standby/postgresql.auto.conf").read_text()
    await delay(ctx, p, before)
    until(lambda: world.ask("srv/standby", "show recovery_min_apply_delay") == "1500ms")
    seen = await delay.observe(ctx, p)
    assert delay.state(p, seen) is State.HOLDS and not seen.paused
    assert committed(world) >= 1.5
    with pytest.raises(Refused, match="somebody else has set its delay"):
        another = delay.params.model_validate({**given, "delay_s": 3.0}, strict=False)
        await delay(replace(ctx, run="another"), another, before)
    assert delay.heal is not None
    await delay.heal(replace(ctx, step="heal"), p, before)
    assert delay.state(p, await delay.observe(ctx, p)) is State.ABSENT
    assert (world.root / "srv/standby/postgresql.auto.conf").read_text() == settings
    until(lambda: world.ask("srv/standby", "show recovery_min_apply_delay") == "0")
    assert committed(world) < 1.5
    assert (await faults(ctx, Nothing())).markers == ()
    with pytest.raises(Refused, match="it follows nobody"):
        there = {"path": "var/primary", "conninfo": world.conninfo("var/primary"), "delay_s": 1.0}
        world.hosts.ready["data-1"]["copies"] = ["srv", "var"]
        try:
            elsewhere = world.hosts.context(run="primary")
            await delay(elsewhere, delay.params.model_validate({**given, **there}, strict=False), before)
        finally:
            world.hosts.ready["data-1"]["copies"] = ["srv"]
            await elsewhere.providers.aclose()
    assert world.ask("var/primary", "select count(*) from pg_file_settings where name ~ 'apply_delay'") == 0
    await ctx.providers.aclose()


def committed(world: DataWorld) -> float:
    """Seconds from a commit until the standby has replayed it."""
    lsn = world.ask("var/primary", "select pg_logical_emit_message(true, 'drkit', 'a write')")
    began = time.monotonic()
    until(lambda: world.answers("srv/standby", f"select pg_last_wal_replay_lsn() > '{lsn}'"))
    return time.monotonic() - began


async def test_what_somebody_set_meanwhile_is_theirs(world: DataWorld) -> None:
    ctx = world.hosts.context(run="theirs")
    given = {"host": "data-1", "path": "srv/standby", "conninfo": world.conninfo("srv/standby"), "lease_s": LEASE_S}
    p = delay.params.model_validate({**given, "delay_s": 60.0}, strict=False)
    before = await delay.observe(ctx, p)
    await delay(ctx, p, before)
    told = world.conninfo("srv/standby")
    world.need("psql", "-X", "-d", told, "-c", "alter system set recovery_min_apply_delay = '7ms'")
    assert delay.heal is not None
    try:
        await delay.heal(replace(ctx, step="heal"), p, before)
        until(lambda: world.ask("srv/standby", "show recovery_min_apply_delay") == "7ms")
        assert (await faults(ctx, Nothing())).markers == ()
    finally:
        world.need("psql", "-X", "-d", told, "-c", "alter system reset recovery_min_apply_delay")
        world.ask("srv/standby", "select pg_reload_conf()")
    await ctx.providers.aclose()


async def test_what_somebody_wrote_meanwhile_is_not_removed(world: DataWorld) -> None:
    """The same again is as good as the old one; of two that differ a person keeps one."""
    ctx, case = world.hosts.context(run="meanwhile"), BY_MODULE["wal_loss"]
    p = case.given(world, LEASE_S)
    before = await case.fault.observe(ctx, p)
    assert case.fault.heal is not None
    await case.fault(ctx, p, before)
    (kept,) = (world.root / "srv/archive").glob(".drkit-kept-*")
    there = kept.with_name(kept.name.rpartition(".")[2])
    there.write_text("another")
    assert case.fault.state(p, await case.fault.observe(ctx, p)) is State.IN_PROGRESS
    with pytest.raises(StepFailed, match=r"somebody wrote .* anew; what was there before is .*: remove one of the two"):
        await case.fault.heal(ctx, p, before)
    assert there.read_text() == "another" and kept.exists()
    there.write_bytes(kept.read_bytes())
    await case.fault.heal(ctx, p, before)
    assert not kept.exists() and not cut_short(world)
    await ctx.providers.aclose()


async def test_a_page_that_somebody_wrote_meanwhile_is_not_written_to(world: DataWorld) -> None:
    """Also if it has, by chance, the very byte that was flipped."""
    file = world.root / "srv/copy"
    file.write_bytes(bytes(2000))
    ctx, flip = world.hosts.context(run="page"), BY_MODULE["bit_flip"].fault
    p = BY_MODULE["bit_flip"].given(world, LEASE_S, path="srv/copy")
    before = await flip.observe(ctx, p)
    assert flip.heal is not None
    await flip(ctx, p, before)
    flipped = file.read_bytes()
    (place,) = [n for n, byte in enumerate(flipped) if byte]
    neighbour = place + 1 if (place + 1) % 512 else place - 1
    theirs = bytearray(flipped)
    theirs[neighbour] = 7
    file.write_bytes(theirs)
    with pytest.raises(StepFailed, match=f"somebody wrote to .*/srv/copy around byte {place} since"):
        await flip.heal(ctx, p, before)
    assert file.read_bytes() == bytes(theirs)
    file.unlink()
    await flip.heal(ctx, p, before)
    await ctx.providers.aclose()


async def looked_at(world: DataWorld, path: str) -> Newest:
    ctx = world.hosts.context()
    found = await newest(ctx, BackupPlace(host="data-1", path=path))
    await ctx.providers.aclose()
    return found


async def test_what_drkit_says_of_the_newest_backup_is_what_a_restore_would_find(world: DataWorld) -> None:
    """Neither a name, nor a time of the file system, nor that something is there makes a backup."""
    whole = await looked_at(world, "srv/backups")
    assert whole.complete and whole.why is None and whole.name == "tuesday" and whole.files > 900
    assert whole.age_h is not None and 0 <= whole.age_h < 1
    ctx, monday = world.hosts.context(run="looked-at"), world.root / "srv/nightly/monday/backup_label"
    label, written = monday.read_text(), monday.stat()
    monday.write_text(re.sub("START TIME: .*", "START TIME: 2001-09-09 01:46:40 UTC", label))
    for module in ("empty_backup", "stale_backup"):
        p = BY_MODULE[module].given(world, LEASE_S)
        await BY_MODULE[module].fault(ctx, p, await BY_MODULE[module].fault.observe(ctx, p))
    hollow, old = await looked_at(world, "srv/backups"), await looked_at(world, "srv/nightly")
    for module in ("empty_backup", "stale_backup"):
        heal = BY_MODULE[module].fault.heal
        assert heal is not None
        await heal(ctx, BY_MODULE[module].given(world, LEASE_S), await heal.observe(ctx, p))
    await ctx.providers.aclose()
    monday.write_text(label)
    os.utime(monday, ns=(written.st_atime_ns, written.st_mtime_ns))
    assert (hollow.name, hollow.files, hollow.age_h, hollow.complete) == ("tuesday", 0, None, False)
    assert hollow.why is not None and "backup_manifest" in hollow.why
    assert old.name == "tuesday" and old.age_h is not None and old.age_h > 200_000
    assert await looked_at(world, "srv/backups") == whole.model_copy(update={"age_h": ANY})


async def test_of_a_place_without_backups_nothing_is_believed(world: DataWorld) -> None:
    (world.root / "srv/none").mkdir()
    found = await looked_at(world, "srv/none")
    assert (found.name, found.complete, found.why) == (None, False, "there is no backup")
    (world.root / "srv/none").rmdir()
    with pytest.raises(Unobservable, match="srv/none on data-1 cannot be looked at"):
        await looked_at(world, "srv/none")
