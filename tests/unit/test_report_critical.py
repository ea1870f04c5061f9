from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from drkit.report.critical import Span, critical_path


def test_the_longest_chain_is_found_and_what_ran_beside_it_is_not_in_it() -> None:
    spans = [
        Span("scale", (), 0.0, 9.0),
        Span("go", (), 0.0, 4.0),
        Span("fence", ("go",), 4.1, 7.0),
        Span("promote", ("fence",), 7.1, 10.0),
        Span("traffic", ("scale", "promote"), 10.1, 12.0),
    ]
    found = critical_path(spans)
    assert found.path == ("go", "fence", "promote", "traffic")
    assert (found.seconds, found.makespan_s) == (11.7, 12.0)


def test_waiting_for_nobody_is_not_on_the_path_but_in_the_makespan() -> None:
    found = critical_path([Span("a", (), 0.0, 1.0), Span("b", ("a",), 50.0, 52.0)])
    assert (found.path, found.seconds, found.makespan_s) == (("a", "b"), 3.0, 52.0)


def test_needs_that_never_ran_are_passed_over_and_nothing_makes_no_path() -> None:
    assert critical_path([Span("b", ("gone",), 1.0, 2.0)]).path == ("b",)
    empty = critical_path([])
    assert (empty.path, empty.seconds, empty.makespan_s) == ((), None, None)


def test_a_very_long_chain_needs_no_deep_stack() -> None:
    spans = [Span(str(n), (str(n - 1),) if n else (), float(n), n + 1.0) for n in range(5000)]
    assert len(critical_path(reversed(spans)).path) == 5000


@st.composite
def graphs(draw: st.DrawFn) -> list[Span]:
    spans: list[Span] = []
    for number in range(draw(st.integers(1, 9))):
        needs = [s for s in spans if draw(st.booleans())]
        start = max((s.finished_t for s in needs), default=0.0) + draw(st.floats(0, 2))
        spans.append(Span(str(number), tuple(s.id for s in needs), start, start + draw(st.floats(0, 5))))
    return draw(st.permutations(spans))


@given(graphs())
def test_no_chain_is_longer_and_none_is_longer_than_the_run(spans: list[Span]) -> None:
    found = critical_path(spans)
    by_id = {s.id: s for s in spans}

    def longest(span: Span) -> float:
        return span.seconds + max((longest(by_id[need]) for need in span.needs), default=0.0)

    assert found.seconds is not None and found.makespan_s is not None
    assert abs(found.seconds - max(map(longest, spans))) < 1e-5
    assert found.seconds <= found.makespan_s + 1e-5
    assert all(a in by_id[b].needs for a, b in pairwise(found.path))
    assert abs(sum(by_id[id].seconds for id in found.path) - found.seconds) < 1e-5
