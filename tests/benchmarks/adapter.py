"""What every engine's script shares: its arguments, the check of its order, and its one line of result."""

from __future__ import annotations

import json
import resource
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workload import Workload


class Check:
    """Sees every step begin and end: each once, and none before those it needs."""

    def __init__(self, needs: Mapping[int, Sequence[int]]) -> None:
        self._needs = needs
        self.done: set[int] = set()
        self.ends = 0
        self.early = 0

    def start(self, step: int) -> None:
        """This step begins."""
        self.early += any(need not in self.done for need in self._needs[step])

    def finish(self, step: int) -> None:
        """This step has ended."""
        self.ends += 1
        self.done.add(step)

    @property
    def holds(self) -> bool:
        """Every step ran once and in order."""
        return self.early == 0 and self.ends == len(self.done) == len(self._needs)


def parser() -> ArgumentParser:
    """The arguments of every engine's script."""
    arguments = ArgumentParser()
    arguments.add_argument("--case", default="noop47", help="noop47, sleep47, n1000, n10000, ...")
    arguments.add_argument("--work", type=Path, required=True, help="folder for what the engine writes")
    return arguments


def report(options: Namespace, engine: str, work: Workload, seconds: float, ok: bool, **more: Any) -> None:
    """The line that whoever started the script reads."""
    count, critical_s = len(work.needs), work.critical_path_s
    result: dict[str, Any] = {
        "engine": engine, "case": options.case, "n": count, "engine_s": round(seconds, 6),
        "us_per_step": round(seconds / count * 1e6, 1), "ok": ok,
        "self_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1), **more,
    }  # fmt: skip
    if critical_s:
        result["makespan_over_cp"] = round(seconds / critical_s, 4)
    print("RESULT", json.dumps(result), flush=True)
