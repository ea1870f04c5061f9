"""Loss equals a recount with nothing but sets, whatever survives."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drkit.measure.loss import Coverage, loss
from drkit.model.measurements import Write

Fates = st.lists(
    st.tuples(st.booleans(), st.booleans(), st.floats(0.001, 3.0)), max_size=60
)  # acknowledged, present, seconds since the one before


@given(Fates)
def test_loss_equals_a_recount(fates: list[tuple[bool, bool, float]]) -> None:
    t, writes, present = 10.0, [], set()
    for number, (acknowledged, there, gap) in enumerate(fates):
        t += gap
        writes.append(Write(f"canary:{number}", t, "", acknowledged, "east", number))
        present |= {f"canary:{number}"} if there else set()
    found = loss(writes, present, coverage=Coverage([0.0, t + 1], silence_s=1e9), outage_started_t=5.0, fenced_t=t)
    promised = {w.id: w.t for w in writes if w.acknowledged}
    lost = [id for id in promised if id not in present]
    assert (found.acknowledged, found.survived, found.lost) == (len(promised), len(promised) - len(lost), len(lost))
    assert list(found.lost_ids) == lost
    assert found.unacknowledged_present == len(present - promised.keys())
    survivors = [t for id, t in promised.items() if id in present and lost and t < promised[lost[0]]]
    if promised and not lost:
        assert found.window_seconds == 0
    elif lost and survivors:
        assert found.window_seconds is not None
        assert abs(found.window_seconds - (promised[lost[-1]] - max(survivors))) < 1e-5
    else:
        assert found.window_seconds is None and found.reason
