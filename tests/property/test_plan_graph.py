"""A fence is certain to come first exactly if no way of things going wrong lets the promotion start without one."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from drkit.plan.graph import ancestors, certain, cycle, unguarded

STEPS = ("a", "b", "c", "d", "e", "p")
Needs = dict[str, tuple[str, ...]]


@st.composite
def graphs(draw: st.DrawFn) -> Needs:
    """Steps that need some of those before them."""
    return {
        step: tuple(need for need in STEPS[:index] if draw(st.booleans()))
        for index, step in enumerate(STEPS)
    }  # fmt: skip


def runs(needs: Needs, dispensable: set[str]) -> list[set[str]]:
    """What is done when `p` starts, for every way in which steps may fail. Brute force.

    A step whose needs are satisfied is tried and is done or fails; a need is satisfied by being done, or by being
    dispensable and never going to be done.
    """
    found: list[set[str]] = []
    for luck in product((True, False), repeat=len(STEPS) - 1):
        done: set[str] = set()
        for step, lucky in zip(STEPS[:-1], luck, strict=True):
            if lucky and all(need in done or need in dispensable for need in needs[step]):
                done.add(step)
        if all(need in done or need in dispensable for need in needs["p"]):
            found.append(done)
    return found


@given(graphs(), st.sets(st.sampled_from(STEPS[:-1])), st.sets(st.sampled_from(STEPS[:-1])))
def test_certain_is_what_every_run_has_done(needs: Needs, dispensable: set[str], fences: set[str]) -> None:
    outcomes = runs(needs, dispensable)
    assert certain(needs, "p", dispensable) == set.intersection(*outcomes)
    alone = any(not done & fences for done in outcomes)
    assert unguarded(needs, ["p"], fences, dispensable) == (["p"] if alone else [])


def paths(needs: Needs, step: str) -> set[str]:
    return {step}.union(*(paths(needs, need) for need in needs[step]))


@given(graphs())
def test_ancestors_are_what_lies_on_some_path(needs: Needs) -> None:
    assert cycle(needs) is None
    for step, before in ancestors(needs).items():
        assert before == paths(needs, step) - {step}


@given(graphs(), st.sampled_from(STEPS), st.sampled_from(STEPS))
def test_a_cycle_is_found_and_named_in_order(needs: Needs, early: str, late: str) -> None:
    back = needs | {early: (*needs[early], late)}
    around = cycle(back)
    assert (around is not None) == (early == late or early in paths(needs, late))
    if around is not None:
        for step, need in zip(around, (*around[1:], around[0]), strict=True):
            assert need in back[step]
