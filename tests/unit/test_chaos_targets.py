"""Which members a fault may hit: by seed and inventory alone, never the last, the majority or the standby."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drkit.chaos.targets import amount, chosen, pick, why_not
from drkit.errors import Refused, UsageError
from drkit.model.inventory import Inventory, Member
from drkit.model.scenario import Target


def members(count: int, group: str = "app", **more: bool) -> list[Member]:
    return [Member(name=f"{group}-{n}", group=group, **more) for n in range(1, count + 1)]


def target(**fields: object) -> Target:
    return Target.model_validate({"uses": "host.inventory", **fields})


def choose(found: list[Member], active: tuple[str, ...] = (), **fields: object) -> list[str]:
    return [m.name for m in chosen("t", target(**fields), Inventory(members=tuple(found)), active, "seed")]


def test_what_is_never_to_be_hit_is_left_out_by_name_and_by_tag() -> None:
    found = [*members(3), Member(name="ledger", group="l", tags=("precious",))]
    assert choose(found, never=["app-1", "precious"]) == ["app-2", "app-3"]


@pytest.mark.parametrize(
    ("found", "active", "fields", "said"),
    [
        ([], (), {}, "matches nothing"),
        (members(2), (), {"never": ["app-1", "app-2"]}, "all 2 are under never"),
        (members(4), (), {"max": "1"}, "would hit 4 of 4, and max is 1"),
        (members(4), ("app-4",), {"pick": "1", "max": "1", "never": ["app-4"]}, "1 broken already"),
        (members(2), (), {}, "nothing of app would be left"),
        (members(3), ("app-1",), {"never": ["app-1"]}, "nothing of app would be left"),
        (members(3, votes=True), (), {"pick": "2"}, "lose its majority"),
        ([*members(2), Member(name="b", group="db", standby=True)], (), {"pick": "3"}, "is the standby"),
    ],
)  # fmt: skip
def test_a_set_that_would_cost_too_much_is_refused(
    found: list[Member], active: tuple[str, ...], fields: dict[str, object], said: str
) -> None:
    with pytest.raises(Refused, match=said):
        choose(found, active, **fields)


def test_what_is_allowed_by_name_is_hit() -> None:
    assert len(choose(members(2), allow=["last"])) == 2
    assert len(choose(members(3, votes=True), pick="2", allow=["quorum"])) == 2


@pytest.mark.parametrize(("text", "of", "found"), [("2", 9, 2), ("30%", 10, 3), ("30%", 3, 0), ("100 %", 4, 4)])
def test_an_amount_is_a_number_or_a_share_rounded_down(text: str, of: int, found: int) -> None:
    assert amount(text, of) == found


@pytest.mark.parametrize("text", ["many", "-1", "110%", "1.5", ""])
def test_anything_else_is_no_amount(text: str) -> None:
    with pytest.raises(UsageError):
        amount(text, 3)


names = st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1, max_size=12, unique=True)


@given(names, st.randoms(use_true_random=False), st.text(), st.integers(1, 12))
def test_the_choice_is_the_same_in_whatever_order_the_inventory_comes(
    found: list[str], shuffle: object, seed: str, many: int
) -> None:
    inventory = [Member(name=name, group="g") for name in found]
    other = inventory[:]
    shuffle.shuffle(other)  # type: ignore[attr-defined]
    assert pick(inventory, str(many), seed) == pick(other, str(many), seed)


@given(st.integers(1, 9), st.sets(st.integers(1, 9)), st.sets(st.integers(1, 9), min_size=1), st.booleans())
def test_what_is_let_through_leaves_one_and_a_majority_where_one_is_needed(
    size: int, broken: set[int], hit: set[int], votes: bool
) -> None:
    whole = members(size, votes=votes)
    hits = [member for n, member in enumerate(whole, 1) if n in hit]
    left = size - len({n for n in range(1, size + 1) if n in hit | broken})
    why = why_not(hits, whole, [f"app-{n}" for n in broken])
    if hits and why is None:
        assert left >= 1 and (not votes or 2 * left > size)
    elif hits:
        assert left == 0 or (votes and 2 * left <= size)


def test_the_same_seed_chooses_the_same_in_a_process_with_another_hash_seed() -> None:
    code = (
        "import json; from drkit.chaos.targets import pick; from drkit.model.inventory import Member;"
        "print(json.dumps([m.name for m in pick({Member(name=str(n), group='g') for n in range(50)}, '7', 's')]))"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert said[0] == said[1] and len(json.loads(said[0])) == 7
