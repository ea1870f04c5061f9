"""Calculate again, from the prober's raw log alone, when an outage began and when users were served again.

    python3 tests/drills/recovery_by_hand.py PROBES.jsonl WINDOW_S OBJECTIVE [SINCE]

Standard library only, nothing of drkit. A report names the log (`evidence.readings`, kind `probes`), the window
(`recovery_time.confirmed_for_seconds`) and the objective (`success_objective`). SINCE is an instant (UTC, as in the
log): outages that were over by then are left out. Prints both instants and the seconds between them, as JSON.

The definition: a probe is good if it got what it came for; one that hangs is not. The outage starts at the first bad
probe from which on the rate of good ones over WINDOW_S is below OBJECTIVE. It ends at the first probe after that from
which on the rate never falls below OBJECTIVE for WINDOW_S, a write among them succeeds, and the log goes on that long.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any


def calculate(lines: Iterable[str], window_s: float, objective: float, since: str = "") -> dict[str, Any]:
    records = [json.loads(line) for line in lines]
    good = {r["j"] for r in records if r.get("what") == "result" and r["outcome"] == "ok"}
    sent = [(r["t"], r["at"], r["j"] in good, r["kind"] == "order") for r in records if r.get("what") == "sent"]
    log = sorted(sent)
    start: int | None = None
    end: int | None = 0

    def rates(at: int) -> list[float]:  # of the first, the first two, the first three, ... probes of the window
        ahead = [ok for t, _, ok, _ in log[at:] if t < log[at][0] + window_s]
        return [sum(ahead[:n]) / n for n in range(1, len(ahead) + 1)]

    def served(at: int) -> bool:
        wrote = any(ok and write for t, _, ok, write in log[at:] if t < log[at][0] + window_s)
        return wrote and log[-1][0] >= log[at][0] + window_s and min(rates(at)) >= objective

    while end is not None and (start is None or log[end][1] <= since):
        start = next((i for i in range(end, len(log)) if not log[i][2] and rates(i)[-1] < objective), None)
        end = None if start is None else next((i for i in range(start + 1, len(log)) if served(i)), None)
    began, ended = (None if at is None else log[at] for at in (start, end))
    seconds = round(ended[0] - began[0], 6) if began and ended else None
    return {"outage_started_at": began and began[1], "recovered_at": ended and ended[1], "seconds": seconds}


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:  # noqa: PTH123 - as plain as it gets
        print(json.dumps(calculate(file, float(sys.argv[2]), float(sys.argv[3]), *sys.argv[4:5])))
