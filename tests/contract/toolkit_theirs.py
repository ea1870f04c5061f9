"""What Chaos Toolkit makes of its own fixtures; run in its tests' folder, in a process of its own.

`python toolkit_theirs.py RESULTS`: a mapping from name to experiment, whether it is accepted, and status and deviation
of a run (None: it was rejected, or it needs the network).
"""

from __future__ import annotations

import json
import logging
import sys
from copy import deepcopy
from enum import Enum
from pathlib import Path
from typing import Any

PAUSE_MAX_S = 0.2


def main(results: str) -> None:
    """Ask about every experiment of the fixtures."""
    logging.disable(logging.CRITICAL)
    from fixtures import experiments  # type: ignore[import-not-found]

    told = {}
    for name, said in vars(experiments).items():
        if isinstance(said, dict) and name[0].isupper() and name != "Secrets":
            plain = _short(json.loads(json.dumps(said, default=_plain)))
            told[name] = {"experiment": plain, "accepted": _accepted(plain), "status": None}
            if told[name]["accepted"] and '"http"' not in json.dumps(plain):
                told[name]["status"] = _ran(plain)
    Path(results).write_text(json.dumps(told))


def _accepted(said: dict[str, Any]) -> bool:
    from chaoslib.experiment import ensure_experiment_is_valid

    try:
        ensure_experiment_is_valid(deepcopy(said))
    except Exception:  # noqa: BLE001 - however it trips over it, it does not accept it
        return False
    return True


def _ran(said: dict[str, Any]) -> list[Any]:
    from chaoslib.experiment import run_experiment

    journal = run_experiment(deepcopy(said))
    return [journal["status"], journal["deviated"]]


def _short(said: Any) -> Any:
    """The same with pauses that nobody has to wait for."""
    if isinstance(said, list):
        return [_short(each) for each in said]
    if not isinstance(said, dict):
        return said
    return {
        key: {k: min(v, PAUSE_MAX_S) for k, v in each.items()} if key == "pauses" else _short(each)
        for key, each in said.items()
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    raise TypeError(value)


if __name__ == "__main__":
    main(sys.argv[1])
