"""The set that delta debugging finds, against trying out every set."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from drkit.chaos.shrink import Attempt, Search, unfinished

FAULTS = tuple("abcdef")
ALL_SETS = [frozenset(some) for size in range(1, len(FAULTS) + 1) for some in combinations(FAULTS, size)]

Sets = frozenset[frozenset[str]]


def search(fails: Callable[[frozenset[str]], bool], runs_max: int = 1000) -> Search:
    found = Search()

    def attempt(some: tuple[str, ...]) -> Attempt:
        return Attempt(some, f"r{len(found.attempts)}", "fails" if fails(frozenset(some)) else "holds")

    found.go(FAULTS, attempt, runs_max)
    return found


def smallest(found: Search) -> frozenset[str]:
    assert found.smallest is not None
    return frozenset(found.smallest.faults)


any_sets = st.frozensets(st.sampled_from(ALL_SETS)).map(lambda some: some | {frozenset(FAULTS)})


@settings(max_examples=100, deadline=None)
@given(any_sets)
def test_whatever_fails_what_is_found_fails_and_without_any_one_of_it_does_not(failing: Sets) -> None:
    found = search(lambda some: some in failing)
    assert found.minimal and smallest(found) in failing
    assert not [one for one in smallest(found) if smallest(found) - {one} in failing]
    assert [attempt.faults for attempt in search(lambda some: some in failing).attempts] == [
        attempt.faults for attempt in found.attempts
    ]
    tried = [frozenset(attempt.faults) for attempt in found.attempts]
    assert len(tried) == len(set(tried)) and frozenset() not in tried


@settings(max_examples=100, deadline=None)
@given(st.frozensets(st.sampled_from(ALL_SETS), min_size=1))
def test_where_more_faults_never_mend_anything_no_smaller_set_of_it_fails(cores: Sets) -> None:
    def fails(some: frozenset[str]) -> bool:
        return any(core <= some for core in cores)

    found = smallest(search(fails))
    assert [some for some in ALL_SETS if some <= found and fails(some)] == [found]
    if len(cores) == 1:
        assert {found} == cores


@settings(max_examples=100, deadline=None)
@given(any_sets, st.integers(1, 8))
def test_when_the_budget_is_out_the_smallest_so_far_is_known(failing: Sets, runs_max: int) -> None:
    whole, found = search(lambda some: some in failing), search(lambda some: some in failing, runs_max)
    assert found.attempts == whole.attempts[:runs_max]
    assert found.minimal == (len(whole.attempts) <= runs_max)
    assert smallest(found) in failing


def test_what_does_not_fail_again_as_a_whole_is_not_searched() -> None:
    found = search(lambda some: len(some) < len(FAULTS))
    assert [attempt.faults for attempt in found.attempts] == [FAULTS]
    assert found.smallest is None and not found.minimal


@settings(max_examples=100, deadline=None)
@given(any_sets, st.integers(0, 30))
def test_a_search_that_was_cut_off_goes_on_to_the_same_end_and_tries_nothing_twice(failing: Sets, after: int) -> None:
    whole = search(lambda some: some in failing)
    before, found, tried = whole.attempts[:after], Search(), list[tuple[str, ...]]()

    def attempt(some: tuple[str, ...]) -> Attempt:
        tried.append(some)
        return Attempt(some, f"r{len(found.attempts)}", "fails" if frozenset(some) in failing else "holds")

    found.go(FAULTS, attempt, 1000, before)
    assert (found.attempts, found.minimal) == (whole.attempts, True)
    assert not {each.faults for each in before} & set(tried)
    assert unfinished(FAULTS, before) == (0 < after < len(whole.attempts))
