"""A backup with nothing or with old things in it, in a world of real parts: it is noticed, and a scenario says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from worlds import ROOT, World, world


@pytest.mark.soak
@pytest.mark.parametrize(
    ("scenario", "noticed", "blind_to_it"),
    [
        ("empty-backup", "!probes.backup.complete", "probes.backup.name == ''"),
        ("stale-backup", "probes.backup.age_h >= 24.0", "!probes.backup.complete"),
    ],
)
def test_a_bad_backup_is_noticed_and_that_nobody_would_notice_it_is_an_answer_too(
    tmp_path: Path, scenario: str, noticed: str, blind_to_it: str
) -> None:
    with world() as made:
        seat = made.seat()
        seat.expect(0, "chaos", "run", scenario, "--env", "sandbox")
        assert report(made)["hypothesis"]["held"] is True
        assert [fault["reverted_by"] for fault in report(made)["faults"]] == ["drkit"]
        # Whoever only counts backups, or only reads their checksums, does not notice.
        text = (ROOT / f"scenarios/{scenario}.yaml").read_text()
        assert noticed in text
        blind = text.replace(f'noticed: "{noticed}"', f'noticed: "{blind_to_it}"').replace("20s", "2s")
        (tmp_path / "blind.yaml").write_text(blind)
        seat.expect(4, "chaos", "run", str(tmp_path / "blind.yaml"), "--env", "sandbox")
        assert report(made)["hypothesis"]["held"] is False
        seat.expect(0, "chaos", "leftovers", "--env", "sandbox")


def report(made: World) -> dict[str, Any]:
    """Of the last run."""
    found: dict[str, Any] = json.loads(made.seat().expect(0, "report", "last", "--format", "json").stdout)
    return found
