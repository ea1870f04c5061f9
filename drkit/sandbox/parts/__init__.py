"""The processes of the sandbox, one module each, and what they share: how a part starts and says that it is ready.

A part is started as `python -m drkit.sandbox.parts.NAME CONFIG.json`. It binds its own ports (0 in the configuration
means: pick a free one), prints exactly one JSON line on stdout (`announce`), and from then on writes to stderr only.
It ends within a second of SIGTERM, and at once when the process that started it dies (`die_with_parent`).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from drkit.sandbox.processes import set_parent_death_signal

PARENT_VARIABLE = "DRKIT_PART_PARENT"
"""Environment variable with the pid of whoever starts parts; see `die_with_parent`."""


def die_with_parent() -> None:
    """Be killed when the parent dies; exit now if it died before we could ask for that.

    The kernel only tells of deaths that come after the call, hence the second look at who the parent is.
    """
    set_parent_death_signal()
    expected = os.environ.get(PARENT_VARIABLE)
    if expected is not None and os.getppid() != int(expected):
        raise SystemExit(f"parent {expected} is gone")


def load_config() -> dict[str, Any]:
    """The part's configuration: the JSON object in the file named by the only argument."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m drkit.sandbox.parts.NAME CONFIG.json")
    config = json.loads(Path(sys.argv[1]).read_text())
    if not isinstance(config, dict):
        raise SystemExit(f"{sys.argv[1]}: expected a JSON object")
    return config


def announce(**ready: Any) -> None:
    """Print the ready line: one JSON object with `ready`, `pid` and whatever others must know (ports, public keys).

    Afterwards stdout is the same as stderr, so that nothing else can follow the line on the pipe.
    """
    print(json.dumps({"ready": True, "pid": os.getpid(), **ready}), flush=True)
    os.dup2(2, 1)
