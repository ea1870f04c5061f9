"""The public door says what is behind it, and opens lazily."""

from __future__ import annotations

import subprocess
import sys

import drkit


def test_everything_announced_is_there_and_nothing_else_is() -> None:
    assert sorted(drkit.__all__) == sorted([*drkit._HOME, "__version__"])
    for name in drkit.__all__:
        assert getattr(drkit, name) is not None


def test_opening_the_door_loads_no_third_party_package() -> None:
    code = "import sys, drkit; print(sorted({'pydantic', 'anyio', 'boto3', 'rich'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
