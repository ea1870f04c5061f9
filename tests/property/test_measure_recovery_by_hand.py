"""The figure equals that of a calculation that shares nothing with it, over logs that flap, hang and half serve."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from drkit.measure.recovery import Terms, phases, recovery
from drkit.model.measurements import Journey

INTERVAL, WINDOW, CLIENTS = 0.1, 3.0, 10
Logs = list[tuple[float, bool, bool]]


def by_hand(log: Logs, objective: float) -> tuple[int | None, int | None]:
    """Straight from the definition: (index of the first probe of the outage, index of the first one after it)."""

    def rates(i: int) -> list[float]:
        inside = [ok for t, ok, _ in log if log[i][0] <= t < log[i][0] + WINDOW]
        return [sum(inside[: n + 1]) / (n + 1) for n in range(len(inside))]

    def good_period(i: int) -> bool:
        covered = log[-1][0] + INTERVAL >= log[i][0] + WINDOW
        wrote = any(ok and write for t, ok, write in log if log[i][0] <= t < log[i][0] + WINDOW)
        return covered and wrote and all(rate >= objective - 1e-9 for rate in rates(i))

    start = next((i for i in range(len(log)) if not log[i][1] and rates(i)[-1] < objective - 1e-9), None)
    if start is None:
        return None, None
    return start, next((i for i in range(start + 1, len(log)) if good_period(i)), None)


@st.composite
def stretches(draw: st.DrawFn) -> list[Journey]:
    """A log made of stretches: up, down, hung, a tenth of the clients served, or a coin for each journey."""
    journeys: list[Journey] = []
    for kind in ["up", *draw(st.lists(st.sampled_from(["up", "down", "hang", "tenth", "coin", "reads"]), max_size=7))]:
        length = draw(st.integers(min_value=1, max_value=60))
        coins = draw(st.lists(st.booleans(), min_size=length, max_size=length)) if kind == "coin" else []
        for step in range(length):
            number = len(journeys)
            client, order = number % CLIENTS, bool((number + number // CLIENTS) % 2)
            served = {
                "up": True, "down": False, "hang": False, "tenth": client == 0, "reads": not order,
                "coin": bool(coins) and coins[step],
            }[kind]  # fmt: skip
            outcome = "ok" if served else ("pending" if kind == "hang" else "error")
            what = "order" if order else "browse"
            journeys.append(Journey(number, what, client, round(number * INTERVAL, 6), "", outcome))  # type: ignore[arg-type]
    return journeys


@settings(max_examples=250, deadline=None)
@given(stretches(), st.sampled_from([0.5, 0.9, 0.99]))
def test_recovery_equals_the_calculation_by_hand(journeys: list[Journey], objective: float) -> None:
    found = recovery(journeys, Terms(window_s=WINDOW, objective=objective, interval_s=INTERVAL))
    start, back = by_hand([(j.sent_t, j.ok, j.kind == "order") for j in journeys], objective)
    assert found.outage_started_t == (None if start is None else journeys[start].sent_t)
    assert found.recovered_t == (None if back is None else journeys[back].sent_t)
    if start is not None:
        assert found.failed_probes == sum(not j.ok for j in journeys[start:back])
    measurable = back is not None and start != 0 and any(j.kind == "order" for j in journeys)
    assert (found.seconds is not None) == measurable
    assert (found.reason is None) == measurable


@settings(max_examples=60, deadline=None)
@given(stretches(), st.randoms(use_true_random=False))
def test_the_order_in_which_answers_came_changes_nothing(journeys: list[Journey], random: object) -> None:
    terms = Terms(window_s=WINDOW, interval_s=INTERVAL)
    shuffled = list(journeys)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert recovery(shuffled, terms) == recovery(journeys, terms)


@settings(max_examples=100, deadline=None)
@given(stretches(), st.tuples(*[st.floats(-5, 60)] * 3))
def test_phases_are_never_negative_and_add_up(journeys: list[Journey], at: tuple[float, float, float]) -> None:
    found = recovery(journeys, Terms(window_s=WINDOW, interval_s=INTERVAL))
    split = phases(found, detected_t=at[0], decided_t=at[1], executed_t=at[2])
    assert (split is None) == (found.seconds is None)
    if split is not None and found.seconds is not None:
        parts = [split.detect, split.decide, split.execute, split.converge]
        assert all(part is not None and part >= 0 for part in parts)
        assert abs(sum(part or 0 for part in parts) - found.seconds) < 1e-4
