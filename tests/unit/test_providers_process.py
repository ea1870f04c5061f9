"""Local processes: argument lists, bounded, with nothing left running."""

from __future__ import annotations

import time
from pathlib import Path

import anyio
import pytest

from drkit.errors import OutcomeUnknown, StepFailed
from drkit.model.environment import Database
from drkit.providers.postgres import Identity, why_not_meant
from drkit.providers.process import Process


async def test_arguments_reach_the_program_as_they_are() -> None:
    ended = await Process().run(["sh", "-c", 'printf %s "$1"; echo no >&2; exit 3', "x", "a b; $HOME"], timeout_s=5)
    assert (ended.exit_code, ended.output, ended.errors) == (3, "a b; $HOME", "no\n")


async def test_a_program_that_is_not_there_changed_nothing() -> None:
    with pytest.raises(StepFailed) as failure:
        await Process().run(["/nowhere/program"], timeout_s=5)
    assert failure.value.world == "untouched"


async def test_a_process_that_takes_too_long_is_killed_with_its_children(tmp_path: Path) -> None:
    began = time.monotonic()
    script = f"(sleep 0.6; touch {tmp_path}/late) & sleep 30"
    with pytest.raises(OutcomeUnknown, match="killed"):
        await Process().run(["sh", "-c", script], timeout_s=0.2)
    assert time.monotonic() - began < 5
    await anyio.sleep(0.7)
    assert not (tmp_path / "late").exists()


MEANT = Database.model_validate(
    {
        "name": "orders", "site": "west", "address": {"host": "h", "port": 1}, "dbname": "d", "user": "u",
        "password": {"ref": "secret://file/x"}, "system_identifier": "7",
    }
)  # fmt: skip


def test_who_answers_is_compared_with_who_was_meant() -> None:
    assert why_not_meant(Identity("7", True), MEANT, "standby") is None
    assert why_not_meant(Identity("7", False), MEANT, "any") is None
    assert why_not_meant(Identity("8", True), MEANT, "standby") == "it is system 8, not 7"
    assert why_not_meant(Identity("7", False), MEANT, "standby") == "it is a primary, not a standby"
