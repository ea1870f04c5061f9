"""The two calculations that share nothing with drkit agree with it, over made-up logs and ledgers."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from recovery_by_hand import calculate

from drkit.measure.journeys import journeys
from drkit.measure.recovery import Terms, recovery

HERE = Path(__file__).parent
INTERVAL_S, WINDOW_S, CLIENTS = 0.1, 5.0, 20

Served = Callable[[int, random.Random], str | None]  # number of the probe → its outcome, None: never answered


def up(number: int, dice: random.Random) -> str | None:
    return "ok"


def down(number: int, dice: random.Random) -> str | None:
    return "error"


def hang(number: int, dice: random.Random) -> str | None:
    return "timeout" if dice.random() < 0.5 else None


def flap(number: int, dice: random.Random) -> str | None:
    return "ok" if number // 15 % 2 else "error"


def a_tenth(number: int, dice: random.Random) -> str | None:
    return "ok" if number % CLIENTS in (0, 1) else "error"


def nearly(number: int, dice: random.Random) -> str | None:
    return "error" if number % 33 == 0 else "ok"


def reads_only(number: int, dice: random.Random) -> str | None:
    return "error" if is_order(number) else "ok"


def is_order(number: int) -> bool:
    return bool((number + number // CLIENTS) % 2)


def made_up(stretches: list[tuple[Served, int]]) -> list[str]:
    """The raw log of a prober to whom all this happened, answers in the order in which they came."""
    dice = random.Random(7)
    records: list[tuple[float, dict[str, Any]]] = []
    number = 0
    for served, count in stretches:
        for _ in range(count):
            sent_t = round(100 + number * INTERVAL_S + dice.uniform(0, 0.02), 6)
            what = {"j": number, "kind": "order" if is_order(number) else "browse", "client": number % CLIENTS}
            records.append((sent_t, {"what": "sent", "t": sent_t, "at": f"T{sent_t:012.6f}", **what}))
            outcome = served(number, dice)
            if outcome is not None:
                t = round(sent_t + dice.uniform(0.01, 2.0), 6)
                records.append((t, {"what": "result", "t": t, "at": f"T{t:012.6f}", "j": number, "outcome": outcome}))
            number += 1
    return [json.dumps(record) for _, record in sorted(records, key=lambda pair: pair[0])]


@pytest.mark.parametrize(
    ("stretches", "recovers"),
    [
        pytest.param([(up, 100), (down, 80), (up, 150)], True, id="down and up"),
        pytest.param([(up, 100), (hang, 80), (up, 150)], True, id="hangs"),
        pytest.param([(up, 100), (down, 30), (flap, 120), (up, 150)], True, id="flaps"),
        pytest.param([(up, 100), (down, 30), (a_tenth, 200), (up, 150)], True, id="serves a tenth, then all"),
        pytest.param([(up, 100), (down, 30), (a_tenth, 300)], False, id="serves a tenth for good"),
        pytest.param([(up, 100), (down, 30), (reads_only, 100), (up, 150)], True, id="reads only, then all"),
        pytest.param([(up, 100), (nearly, 200), (up, 150)], True, id="97 of 100, then all"),
        pytest.param([(up, 100), (down, 30), (up, 20), (down, 30), (up, 150)], True, id="up too briefly to count"),
    ],
)
def test_recovery_equals_the_calculation_by_hand(stretches: list[tuple[Served, int]], recovers: bool) -> None:
    log = made_up(stretches)
    by_hand = calculate(log, WINDOW_S, 0.99)
    ours = recovery(
        journeys(map(json.loads, log)), Terms(window_s=WINDOW_S, objective=0.99, interval_s=INTERVAL_S, blind_s=60)
    )
    assert by_hand["outage_started_at"] == ours.outage_started_at is not None
    assert by_hand["recovered_at"] == ours.recovered_at
    assert (by_hand["seconds"] is not None) is recovers
    if recovers:
        assert by_hand["seconds"] == pytest.approx(ours.seconds, abs=INTERVAL_S)


def test_an_outage_that_was_over_before_is_left_out() -> None:
    log = made_up([(up, 100), (down, 50), (up, 150), (down, 80), (up, 150)])
    first = calculate(log, WINDOW_S, 0.99)
    second = calculate(log, WINDOW_S, 0.99, since=str(first["recovered_at"]))
    assert (round(first["seconds"]), round(second["seconds"])) == (5, 8)


class Made:
    """A report with ledgers, and a `psql` that prints what a made-up database holds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.readings: list[dict[str, Any]] = []
        self.database: dict[str, str] = {"canary": "", "orders": ""}

    def ledger(self, kind: str, records: list[dict[str, Any]], *, later: int = 0) -> Path:
        """Write a ledger of which the report knows all but the last `later` records."""
        path = self.folder / f"{kind}-made.jsonl"
        lines = [json.dumps(record, separators=(",", ":")) for record in [{"seq": 0, "id": "made"}, *records]]
        path.write_text("".join(line + "\n" for line in lines))
        count = len(lines) - later
        head = "sha256:" + hashlib.sha256(lines[count - 1].encode()).hexdigest()
        self.readings.append({"kind": kind, "path": str(path), "head": head, "count": count})
        return path

    def recount(self) -> subprocess.CompletedProcess[str]:
        """Run the script."""
        report = self.folder / "report.json"
        report.write_text(json.dumps({"target": "b", "evidence": {"readings": self.readings}}, indent=1))
        psql = self.folder / "psql"
        for table, rows in self.database.items():
            (self.folder / table).write_text(rows)
        psql.write_text(
            f"#!/bin/sh\nfor word; do :; done\ncase $word in *canary*) cat {self.folder}/canary;; "
            f"*) cat {self.folder}/orders;; esac\n"
        )
        psql.chmod(0o755)
        return subprocess.run(
            [str(HERE / "recount.sh"), str(report)], capture_output=True, text=True, timeout=30,
            env={"PATH": os.environ["PATH"], "PGHOST": "nowhere", "PSQL": str(psql), "TMPDIR": str(self.folder)},
        )  # fmt: skip


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Canaries 5 to 9 (7 unanswered), orders a and b promised and c, d not; what came later is not the report's."""
    made = Made(tmp_path)
    promised = {"what": "write", "outcome": "acknowledged", "site": "a", "latency_s": 0.01, "reason": None}
    writes = [{"t": 10.0 + n / 10, **promised, "n": n} for n in range(5, 12)]
    writes[2]["outcome"] = "unanswered"
    made.ledger("canary", writes, later=2)
    order = {"what": "order", "outcome": "acknowledged"}
    made.ledger("orders", [{"t": 10.55, **order, "order_id": "a", "j": 1}, {"t": 10.85, **order, "order_id": "b"}])
    sent = [{"what": "sent", "j": j, "kind": "order" if j < 7 else "browse"} for j in range(10)]
    failed = [{"what": "result", "j": j, "outcome": "timeout"} for j in (3, 4, 8)]
    made.ledger("probes", [*sent, *failed])
    return made


def figures(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    pairs = [line.split(" ") for line in done.stdout.splitlines()]
    found: dict[str, Any] = {name: float(figure) for name, figure in pairs if name != "lost_id" and figure != "null"}
    return found | {"lost_ids": sorted(figure for name, figure in pairs if name == "lost_id")}


def test_the_recount_counts_each_kind_of_write(made: Made) -> None:
    made.database = {
        "canary": "canary:5\ncanary:6\ncanary:7\ncanary:9\ncanary:10\ncanary:99\n",  # 8 is lost, 10 and 99 came later
        "orders": "order:a made-1\norder:c made-3\norder:d made-5\n",  # b is lost; c's user saw an error, d's did not
    }
    assert figures(made.recount()) == {
        "acknowledged": 6, "survived": 4, "lost": 2, "unacknowledged_present": 2, "window": pytest.approx(0.25),
        "lost_ids": ["canary:8", "order:b"],
    }  # fmt: skip
    assert sorted(path.name for path in made.folder.iterdir() if path.is_dir()) == [], "nothing is left behind"


def test_nothing_lost_is_a_window_of_zero(made: Made) -> None:
    made.database = {"canary": "".join(f"canary:{n}\n" for n in range(5, 12)), "orders": "order:a x\norder:b x\n"}
    found = figures(made.recount())
    assert (found["lost"], found["window"], found["lost_ids"]) == (0, 0, [])


def test_everything_lost_has_no_window(made: Made) -> None:
    found = made.recount()
    assert "window null" in found.stdout.splitlines()
    assert figures(found)["lost"] == 6


def test_a_ledger_that_was_changed_is_not_counted(made: Made) -> None:
    path = made.folder / "canary-made.jsonl"
    path.write_text(path.read_text().replace('"t":10.9', '"t":10.8'))
    found = made.recount()
    assert found.returncode == 1
    assert "is not the journaled one" in found.stderr
