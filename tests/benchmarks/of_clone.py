"""How long it takes from a fresh clone of this repository to the end of its demo."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from table import ROOT, Row, run


def clone_to_demo() -> list[Row]:
    """A fresh clone of what is committed, and `make demo` in it."""
    with tempfile.TemporaryDirectory(prefix="dr-clone-") as folder:
        clone, world = Path(folder) / "drkit", Path(folder) / "w"
        Path(folder).chmod(0o711)
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")} | {
            "DRKIT_SANDBOX_DIR": str(world), "XDG_STATE_HOME": str(Path(folder) / "state"),
        }  # fmt: skip
        began = time.monotonic()
        run(["git", "clone", "--quiet", str(ROOT), str(clone)])
        run(["make", "-C", str(clone), "setup"], environment)
        set_up_s = time.monotonic() - began
        demo = subprocess.run(["make", "-C", str(clone), "demo"], env=environment, capture_output=True, text=True)
        took_s = time.monotonic() - began
    if demo.returncode != 0:
        print(demo.stdout + demo.stderr, file=sys.stderr)
    return [
        ("fresh clone to installed", set_up_s, "git clone, make setup"),
        ("fresh clone to end of demo", took_s, f"exit code {demo.returncode}"),
    ]
