"""The members of a recorded plan are hit again, in its order, or the replay is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drkit.chaos.again import chosen_again
from drkit.errors import Refused
from drkit.model.inventory import Inventory, Member
from drkit.model.scenario import Target

TARGET = Target.model_validate({"uses": "host.inventory", "pick": 1})


def inventory(names: list[str]) -> Inventory:
    return Inventory(members=tuple(Member(name=name, group="g") for name in names))


@given(st.permutations(["a", "b", "c", "d"]), st.permutations(["a", "b", "c"]))
def test_the_recorded_members_and_their_order_count_not_the_inventorys(found: list[str], hit: list[str]) -> None:
    assert [m.name for m in chosen_again("t", TARGET, inventory(found), (), hit)] == hit


def test_who_is_gone_is_named_and_what_is_broken_already_still_counts() -> None:
    with pytest.raises(Refused, match="has no b any more"):
        chosen_again("t", TARGET, inventory(["a", "c"]), (), ["b"])
    with pytest.raises(Refused, match="nothing of g would be left"):
        chosen_again("t", TARGET, inventory(["a", "b"]), ("b",), ["a"])
