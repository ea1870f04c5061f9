"""Cells of the drill matrix struck in real drills, through the command line: none is wrong."""

from __future__ import annotations

import json

import pytest
from worlds import place


@pytest.mark.soak
@pytest.mark.parametrize("cell", ["promote:during:kill", "keys:during:throttle"])
def test_a_cell_that_is_struck_for_real_is_not_wrong(cell: str) -> None:
    with place() as made:
        seat = made.seat()
        told = seat.expect(
            0, "drill", "matrix", "reliabletech", "--env", "sandbox", "--only", cell, "-o", "json", timeout_s=900
        )
        (result,) = json.loads(told.stdout)["cells"]
        if result["ending"] == "missed":
            pytest.skip(result["why"])
        assert result["ending"] in ("resumed", "safe stop"), result
        assert (result["ending"] == "safe stop") == (result["next"] is not None)
