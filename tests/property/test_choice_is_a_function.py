"""What is drawn for a day is a function of seed, inventory and calendar: the same bytes in any process."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from drkit.chaos.choose import Candidate, draw, parameters, snapshot
from drkit.model.schedule import Choose

PROGRAM = """
import json, random, sys
from drkit.chaos.calendar import Facts, Timetable, foresee
from drkit.chaos.choose import Candidate
from drkit.model.schedule import Calendar, Choose, Schedule
shuffled = random.Random(int(sys.argv[1])).sample
names = {"cut", "fill", "kill", "skew"}          # a set: its order follows PYTHONHASHSEED
hosts = [Candidate(name, ("ok",)) for name in shuffled(["web-1", "web-2", "web-3", "db"], 4)]
parameters = dict(shuffled([("host", "hosts"), ("site", "regions"), ("size", ["s", "m", "l"])], 3))
calendar = Calendar(seed="11", opt_in=("ok",))
choose = Choose(group="g", parameters=parameters)
tables = [Timetable(name, Schedule(cron="0 3 * * *", tags=["ok"], choose=choose), "c", calendar) for name in names]
regions = [Candidate("east", ("ok",)), Candidate("west", ("ok",))]
facts = Facts(inventory=dict(shuffled([("hosts", hosts), ("regions", regions)], 2)))
found = foresee(tables, 1.8e9, facts, 1.8e9 + 30 * 86400)
days = [[each.at, each.table.name, dict(each.verdict.drawn)] for each in found if each.verdict.allowed]
print(json.dumps(days, sort_keys=True))
"""


def test_fresh_processes_with_other_hash_seeds_and_orders_draw_the_same_bytes() -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, seed], env=os.environ | {"PYTHONHASHSEED": seed}, stdout=subprocess.PIPE
        )
        for seed in ("0", "1", "4242")
    ]
    outputs = [child.communicate(timeout=60)[0] for child in children]
    assert [child.returncode for child in children] == [0, 0, 0]
    assert len(set(outputs)) == 1
    assert outputs[0].count(b"cut") > 1 and outputs[0].count(b"web-2") > 1  # it does draw


names = st.frozensets(st.text("abcdef-1", min_size=1, max_size=6), min_size=1, max_size=8)


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=5), st.text(max_size=5), names, st.randoms(use_true_random=False))
def test_order_does_not_matter_and_losers_may_come_and_go(
    seed: str, occasion: str, all: frozenset[str], chance: random.Random
) -> None:
    shuffled = sorted(all)
    chance.shuffle(shuffled)
    winner = draw(seed, occasion, shuffled)
    assert winner == draw(seed, occasion, sorted(all))
    for gone in all - {winner}:
        assert draw(seed, occasion, all - {gone}) == winner


def test_draws_are_even_and_pinned_for_ever() -> None:
    drawn = Counter(draw("7", str(n), "abcd") for n in range(2000))
    assert set(drawn) == set("abcd") and min(drawn.values()) > 400
    # Of another version of Python or drkit too: this is a contract.
    assert "".join(draw("7", str(n), "abcd") or "" for n in range(12)) == PINNED


PINNED = "dddbbdadbbab"


def test_parameters_of_one_occasion_are_drawn_apart_and_the_snapshot_has_no_order() -> None:
    hosts = [Candidate(f"web-{n}", ("b", "a")) for n in range(50)]
    choose = Choose(parameters={"one": "hosts", "other": "hosts"})
    drawn = parameters(choose, {"hosts": hosts}, seed="7", occasion="x", opt_in=(), opt_out=())
    assert drawn["one"] != drawn["other"]
    turned = [Candidate(host.name, host.tags[::-1]) for host in hosts[::-1]]
    assert snapshot({"hosts": hosts}) == snapshot({"hosts": turned}) != snapshot({"hosts": hosts[1:]})
