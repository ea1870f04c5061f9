"""Chaos Toolkit's own test fixtures: drkit accepts and rejects the same files, and runs them to the same status.

The wheel has none, the source distribution has: pip fetches it, of the version that is installed. That needs a package
index, so it is part of `make soak`; without one it is skipped, and `tests/unit/test_toolkit_like_theirs.py` compares
experiments of our own making with the installed Chaos Toolkit.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("chaoslib", reason="needs the extra [chaostoolkit]")

ASK = Path(__file__).parent / "toolkit_theirs.py"

#: Whose validity only running code that the file names could tell: drkit asks it when it runs, not to validate.
BY_CODE = {"ExperimentWithInvalidControls"}
#: Without a vault they run there with an empty secret, and here not at all.
NEEDS_A_VAULT = {"ExperimentWithDeprecatedVaultPayload"}

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of their tests, with a result of theirs for each experiment in `results.json`."""
    from importlib.metadata import version

    folder = tmp_path_factory.mktemp("theirs")
    wanted = f"chaostoolkit-lib=={version('chaostoolkit-lib')}"
    fetched = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", wanted,
         "--dest", str(folder)], capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = list(folder.glob("*.tar.gz"))
    if not found:
        pytest.skip(f"pip cannot fetch the source of {wanted}: {fetched.stderr.strip()[-200:]}")
    with tarfile.open(found[0]) as archive:
        archive.extractall(folder, filter="data")
    tests = next(folder.glob("*/tests"))
    asked = subprocess.run(
        [sys.executable, str(ASK), str(folder / "results.json")], cwd=tests, capture_output=True, text=True,
        check=False, env={**os.environ, "PYTHONPATH": str(tests)}, timeout=300,
    )  # fmt: skip
    assert asked.returncode == 0, asked.stderr
    yield tests
    sys.path[:] = [each for each in sys.path if each != str(tests)]


def test_their_fixtures_get_their_verdict_and_their_status(
    theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toolkit_lab import run, written

    from drkit.chaos.toolkit import reading
    from drkit.errors import FileError

    monkeypatch.syspath_prepend(str(theirs))
    monkeypatch.setenv("PYTHONPATH", str(theirs))
    monkeypatch.chdir(theirs)
    results: dict[str, Any] = json.loads((theirs.parents[1] / "results.json").read_text())
    differing: list[str] = []
    ran = 0
    for name, theirs_said in results.items():
        path = written(tmp_path, theirs_said["experiment"], f"{name}.json")
        try:
            reading.load(path)
            accepted, why = True, ""
        except FileError as error:
            accepted, why = False, error.message
        if accepted != theirs_said["accepted"] and name not in BY_CODE:
            differing.append(f"{name}: accepted {theirs_said['accepted']} by them, {accepted} by us {why}")
        elif accepted and theirs_said["status"] is not None and name not in NEEDS_A_VAULT:
            ended = run(path, rollbacks="default").ended
            ran += 1
            if [ended.status, ended.deviated] != theirs_said["status"]:
                differing.append(f"{name}: {theirs_said['status']} there, {[ended.status, ended.deviated]} here")
    print(f"{len(results)} experiments of theirs: the same verdict; {ran} run to the same status")
    assert not differing, "\n".join(differing)
    assert len(results) > 40
    assert ran > 20
