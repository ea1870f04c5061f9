from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from drkit.measure.recovery import Terms, phases, recovery
from drkit.model.measurements import Journey, Outage, Recovery
from drkit.model.values import utc

CLIENTS = 20
W5 = Terms(window_s=5.0)


def log(
    seconds: float, good: Callable[[float, int], bool], *, failing: str = "error", interval_s: float = 0.1
) -> list[Journey]:
    """One journey a tick; `good(t, client)` says which are served, and `failing` how the others end."""
    journeys = []
    for number in range(round(seconds / interval_s)):
        t, client = round(number * interval_s, 6), number % CLIENTS
        kind = "order" if (number + number // CLIENTS) % 2 else "browse"
        outcome = "ok" if good(t, client) else failing
        journeys.append(Journey(number, kind, client, t, utc(1e9 + t), outcome))  # type: ignore[arg-type]
    return journeys


def between(*stretches: tuple[float, float]) -> Callable[[float, int], bool]:
    return lambda t, client: not any(a - 1e-9 <= t < b - 1e-9 for a, b in stretches)


def span(found: Recovery | Outage) -> tuple[float | None, float | None]:
    started_t = found.outage_started_t if isinstance(found, Recovery) else found.started_t
    return started_t, found.recovered_t


@pytest.mark.parametrize("failing", ["error", "timeout", "pending"])
def test_a_hard_outage_is_timed_from_first_failure_to_first_good_probe_however_it_fails(failing: str) -> None:
    found = recovery(log(60, between((10, 31.4)), failing=failing), W5)
    assert span(found) == (10, 31.4)
    assert found.seconds == pytest.approx(21.4)
    assert found.failed_probes == 214
    assert found.outage_started_at == utc(1e9 + 10)
    assert found.recovered_at == utc(1e9 + found.recovered_t) if found.recovered_t else False
    assert (found.reason, found.relapses) == (None, ())
    assert found.largest_gap_s == pytest.approx(0.1)


def test_flapping_for_less_than_the_window_is_one_outage() -> None:
    found = recovery(log(60, between((10, 15), (18, 22), (26, 30))), W5)
    assert span(found) == (10, 30)
    assert found.failed_probes == 130


def test_good_for_the_whole_window_ends_it_and_what_follows_is_a_relapse() -> None:
    found = recovery(log(60, between((10, 15), (21, 23))), W5)
    assert span(found) == (10, 15)
    assert [span(outage) for outage in found.relapses] == [(21, 23)]


def test_serving_ten_percent_of_the_clients_is_not_recovery() -> None:
    found = recovery(log(60, lambda t, client: t < 10 or t >= 40 or (t >= 20 and client < 2)), W5)
    assert span(found) == (10, 40)


def test_leaving_ten_percent_of_the_clients_behind_is_not_recovery() -> None:
    found = recovery(log(60, lambda t, client: t < 10 or t >= 40 or (t >= 20 and client >= 2)), W5)
    assert found.recovered_t is not None and found.recovered_t >= 38.0  # no failing client is due after its last turn
    assert found.outage_started_t == pytest.approx(10)


def test_reading_without_writing_is_not_recovery() -> None:
    journeys = [
        Journey(
            j.number,
            j.kind,
            j.client,
            j.sent_t,
            j.sent_at,
            "error" if 10 <= j.sent_t < 40 and j.kind == "order" else "ok",
        )
        for j in log(60, lambda t, client: True)
    ]
    found = recovery(journeys, W5)
    assert found.outage_started_t == pytest.approx(10.1, abs=0.11)
    assert found.recovered_t == pytest.approx(40, abs=0.21)


def test_a_good_period_needs_a_write_that_succeeds() -> None:
    """With a low objective half of the journeys may fail: if those are all the writes, nothing is recovered."""
    journeys = [
        Journey(
            j.number, j.kind, j.client, j.sent_t, j.sent_at, "ok" if j.sent_t < 10 or j.kind == "browse" else "error"
        )
        for j in log(60, lambda t, client: True)
    ]
    found = recovery(journeys, Terms(window_s=5.0, objective=0.51))
    assert found.outage_started_t is not None and found.recovered_t is None


def test_one_failure_among_hundreds_is_within_the_objective_and_no_outage() -> None:
    found = recovery(log(120, between((60, 60.1))), Terms(window_s=30.0))
    assert (found.seconds, found.reason) == (None, "no outage: the success rate never fell below the objective")


def test_the_recovered_probe_is_a_good_one_even_if_the_objective_would_forgive_it() -> None:
    """Two bad probes before 28 good seconds are 99.3 % of 30 s; the clock still stops at the first good one."""
    found = recovery(log(120, between((20, 50))), Terms(window_s=30.0))
    assert found.recovered_t == pytest.approx(50)


def test_the_outage_that_matters_is_the_first_not_over_when_the_run_began() -> None:
    journeys = log(100, between((10, 11), (40, 55), (80, 82)))
    assert recovery(journeys, W5).outage_started_t == pytest.approx(10)
    found = recovery(journeys, Terms(window_s=5.0, since_t=45.0))
    assert span(found) == (40, 55)
    assert len(found.relapses) == 1


@pytest.mark.parametrize(
    ("journeys", "terms", "reason"),
    [
        ([], W5, "the readings hold no journey"),
        (log(30, between((10, 99))), W5, "not recovered"),
        (log(30, between((10, 26))), W5, "not recovered"),
        (log(30, between((0, 10))), W5, "had begun before the readings"),
        (log(30, between((10, 12))), Terms(window_s=1.0), "shorter than one round"),
        (log(30, between((10, 12))), Terms(window_s=5.0, since_t=99.0), "end before the run began"),
        ([j for j in log(30, between((10, 12))) if j.kind == "browse"], W5, "no write journey"),
        ([j for j in log(60, between((10, 30))) if not 15 < j.sent_t < 25], W5, "nobody looked for"),
    ],
)
def test_what_cannot_be_measured_is_none_and_says_why(journeys: Iterable[Journey], terms: Terms, reason: str) -> None:
    found = recovery(journeys, terms)
    assert found.seconds is None
    assert found.reason is not None and reason in found.reason


def test_a_stretch_in_which_nobody_looked_confirms_nothing() -> None:
    journeys = [j for j in log(60, between((10, 20))) if not 21 < j.sent_t < 40]
    found = recovery(journeys, Terms(window_s=5.0, blind_s=100.0))
    assert found.recovered_t is not None and found.recovered_t >= 40


def test_what_was_sent_last_and_not_yet_answered_is_left_out_by_until() -> None:
    journeys = log(26, between((10, 20)))
    journeys[-3:] = [Journey(j.number, j.kind, j.client, j.sent_t, j.sent_at, "pending") for j in journeys[-3:]]
    assert recovery(journeys, Terms(window_s=5.0, until_t=journeys[-4].sent_t)).recovered_t == pytest.approx(20)
    assert recovery(journeys, W5).relapses[0].recovered_t is None


def test_phases_add_up_to_the_recovery_time() -> None:
    found = recovery(log(60, between((10, 31.4))), W5)
    split = phases(found, detected_t=11.2, decided_t=11.6, executed_t=30.2)
    assert split is not None
    assert (split.detect, split.decide, split.execute, split.converge) == (1.2, 0.4, 18.6, 1.2)


def test_phases_outside_the_outage_are_cut_at_its_edges_and_unknown_ones_stay_none() -> None:
    found = recovery(log(60, between((10, 31.4))), W5)
    late = phases(found, detected_t=5.0, decided_t=11.0, executed_t=50.0)
    assert late is not None and (late.detect, late.decide, late.execute, late.converge) == (0.0, 1.0, 20.4, 0.0)
    gap = phases(found, detected_t=11.0, decided_t=None, executed_t=30.0)
    assert gap is not None and (gap.detect, gap.decide, gap.execute) == (1.0, None, None)
    assert gap.converge == pytest.approx(1.4)
    assert phases(recovery([], W5), detected_t=1.0, decided_t=2.0, executed_t=3.0) is None
