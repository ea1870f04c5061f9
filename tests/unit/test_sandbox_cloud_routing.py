"""Routing controls: the safety rule, all-or-nothing updates, and a state that survives its process."""

from __future__ import annotations

from pathlib import Path

import pytest

from drkit.sandbox.parts._routing_state import CELLS, StateFile, control_arn, initial, read_states, rule_arn

REGIONS = ["us-east-1", "us-west-2"]


@pytest.fixture
def state(tmp_path: Path) -> StateFile:
    return StateFile(tmp_path / "routing.json", initial(REGIONS, "us-east-1"))


def test_cells_add_up_to_all_traffic_and_start_on_one_side(state: StateFile) -> None:
    assert sum(CELLS.values()) == 100
    assert {name for name, on in state.states().items() if on} == {f"{cell}/us-east-1" for cell in CELLS}


def test_the_last_side_of_a_cell_cannot_be_turned_off_unless_the_rule_is_overridden(state: StateFile) -> None:
    off = {"cell-10/us-east-1": False}
    assert state.update(off, []) == [rule_arn("cell-10")]
    assert state.states()["cell-10/us-east-1"]
    assert state.update(off, [rule_arn("cell-40")]) == [rule_arn("cell-10")]
    assert state.update(off, [rule_arn("cell-10")]) == []
    assert not state.states()["cell-10/us-east-1"]


def test_a_refused_update_changes_nothing_of_what_came_with_it(state: StateFile) -> None:
    before = state.states()
    assert state.update({"cell-40/us-west-2": True, "cell-10/us-east-1": False}, [])
    assert state.states() == before


def test_one_update_may_swap_the_sides_of_a_cell(state: StateFile) -> None:
    assert state.update({"cell-50/us-east-1": False, "cell-50/us-west-2": True}, []) == []


def test_a_dark_cell_does_not_keep_the_others_from_moving(state: StateFile) -> None:
    state.update({"cell-10/us-east-1": False}, [rule_arn("cell-10")])
    assert state.update({"cell-40/us-west-2": True}, []) == []


def test_unknown_controls_are_refused(state: StateFile) -> None:
    with pytest.raises(KeyError):
        state.update({"cell-99/us-east-1": True}, [])


def test_states_are_durable_and_a_new_process_goes_on_from_them(tmp_path: Path) -> None:
    path = tmp_path / "routing.json"
    StateFile(path, initial(REGIONS, "us-east-1")).update({"cell-10/us-west-2": True}, [])
    assert read_states(path)["cell-10/us-west-2"]
    assert StateFile(path, initial(REGIONS, "us-east-1")).states()["cell-10/us-west-2"]


def test_arns_are_the_same_in_every_world() -> None:
    arn = control_arn("cell-10/us-west-2")
    assert arn.startswith("arn:aws:route53-recovery-control::123456789012:controlpanel/")
    assert len({control_arn(f"{cell}/{region}") for cell in CELLS for region in REGIONS}) == 6
    assert arn == control_arn("cell-10/us-west-2")
