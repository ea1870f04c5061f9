"""The witness grants one lease at a time, on its own clock, also after it was restarted or lost its state."""

from __future__ import annotations

from pathlib import Path

import pytest

from drkit.sandbox.parts import witness
from drkit.sandbox.parts._memory import AgentMemory
from drkit.sandbox.parts.witness import Register

TERM_S, MARGIN_S = 3.0, 1.0
NOBODY = '{"holder": null, "site": null, "epoch": 0, "released": false, "revoked": null}'


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(witness, "boot_time", clock)
    return clock


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "witness.json"
    path.write_text(NOBODY)
    return path


def test_a_lease_is_granted_once_until_term_and_margin_have_passed(clock: Clock, state: Path) -> None:
    register = Register(state, TERM_S, MARGIN_S)
    granted, status = register.acquire("a", "east", None)
    assert (status, granted["epoch"], granted["expired"]) == (200, 1, False)
    for elapsed in (0.0, TERM_S, TERM_S + MARGIN_S):
        clock.now = 1000 + elapsed
        refused, status = register.acquire("b", "west", None)
        assert (status, refused["refused"]) == (409, "held")
    clock.now = 1000 + TERM_S + MARGIN_S + 0.001
    assert register.shown()["expired"]
    assert register.acquire("b", "west", None)[0]["epoch"] == 2


def test_a_renewal_starts_the_wait_anew_and_only_the_holder_may_renew(clock: Clock, state: Path) -> None:
    register = Register(state, TERM_S, MARGIN_S)
    epoch = register.acquire("a", "east", None)[0]["epoch"]
    clock.now += 2.9
    assert register.renew("a", epoch)[1] == 200
    assert register.renew("b", epoch)[1] == 409
    assert register.renew("a", epoch + 1)[1] == 409
    clock.now += 2.9
    assert register.acquire("b", "west", None)[1] == 409


def test_a_release_frees_at_once_and_the_released_lease_cannot_be_renewed(clock: Clock, state: Path) -> None:
    register = Register(state, TERM_S, MARGIN_S)
    epoch = register.acquire("a", "east", None)[0]["epoch"]
    assert register.release("b", epoch)[1] == 409
    assert register.release("a", epoch)[1] == 200
    assert register.renew("a", epoch)[1] == 409
    assert register.acquire("b", "west", None)[1] == 200


def test_a_revoked_lease_is_not_renewed_and_is_still_waited_out(clock: Clock, state: Path) -> None:
    register = Register(state, TERM_S, MARGIN_S)
    epoch = register.acquire("a", "east", None)[0]["epoch"]
    register.revoke("failover")
    refused, status = register.renew("a", epoch)
    assert (status, refused["refused"]) == (409, "revoked")
    assert register.acquire("b", "west", None)[1] == 409, "its holder may not have heard of it"
    clock.now += TERM_S + MARGIN_S + 0.001
    refused, status = register.acquire("a", "east", None)
    assert (status, refused["refused"]) == (409, "revoked"), "a fence is not undone by waiting"
    granted, _ = register.acquire("b", "west", None)
    assert (granted["epoch"], granted["revoked"]) == (2, None)


def test_somebody_who_wrote_under_an_older_epoch_is_superseded(clock: Clock, state: Path) -> None:
    register = Register(state, TERM_S, MARGIN_S)
    register.acquire("a", "east", None)
    clock.now += 10
    register.acquire("b", "west", None)
    clock.now += 10
    refused, status = register.acquire("a again", "east", expect_epoch=1)
    assert (status, refused["refused"]) == (409, "superseded")
    assert register.acquire("b again", "west", expect_epoch=2)[1] == 200


def test_a_restarted_witness_waits_a_full_term_before_it_grants(clock: Clock, state: Path) -> None:
    epoch = Register(state, TERM_S, MARGIN_S).acquire("a", "east", None)[0]["epoch"]
    clock.now += 100  # while it was down the holder could not renew; it cannot know since when
    again = Register(state, TERM_S, MARGIN_S)
    assert again.acquire("b", "west", None)[1] == 409
    assert again.renew("a", epoch)[1] == 200
    clock.now += TERM_S + MARGIN_S + 0.001
    assert again.acquire("b", "west", None)[0]["epoch"] == epoch + 1


def test_a_witness_without_any_state_behaves_as_if_there_had_been_a_holder(clock: Clock, tmp_path: Path) -> None:
    register = Register(tmp_path / "nothing.json", TERM_S, MARGIN_S)
    assert register.acquire("a", "east", None)[1] == 409
    clock.now += TERM_S + MARGIN_S + 0.001
    assert register.acquire("a", "east", None)[1] == 200


def test_an_agent_remembers_epoch_and_fence_and_a_clone_makes_it_forget(tmp_path: Path) -> None:
    path = tmp_path / "agent.json"
    memory = AgentMemory(path)
    assert (memory.epoch, memory.fenced) == (None, None)
    memory.hold(3)
    memory.fence("the lease ran out")
    memory.fence("asked to")
    again = AgentMemory(path)
    assert again.epoch == 3
    assert again.fenced is not None and again.fenced["reason"] == "the lease ran out", "the first reason stands"
    again.forget()
    assert (AgentMemory(path).epoch, AgentMemory(path).fenced) == (None, None)


def test_a_writer_that_began_by_override_is_adopted_above_whoever_held_a_lease_before(
    clock: Clock, state: Path
) -> None:
    register = Register(state, TERM_S, MARGIN_S)
    old = register.acquire("a", "east", None)[0]["epoch"]
    again = Register(state, TERM_S, MARGIN_S)  # it was away, and has heard of nothing
    adopted, status = again.adopt("b", "west", old + 1, token=7)
    assert (status, adopted["epoch"], adopted["site"], adopted["expired"]) == (200, 2, "west", False)
    assert again.renew("a", old)[0]["refused"] == "not the holder"
    assert again.acquire("a again", "east", old)[0]["refused"] == "superseded"
    assert again.adopt("b", "west", old + 1, token=7)[0]["epoch"] == 2, "a lost answer is asked for again"
    assert again.adopt("b restarted", "west", old + 1, token=7)[0]["epoch"] == 3, "a restarted agent is somebody else"
    assert again.renew("b restarted", 3)[1] == 200


def test_an_override_counts_even_if_the_old_writer_came_back_first(clock: Clock, state: Path) -> None:
    register = Register(state, TERM_S, MARGIN_S)
    register.acquire("a", "east", None)
    clock.now += 10
    register.acquire("a again", "east", 1)
    assert register.adopt("b", "west", 2, token=7)[0]["epoch"] == 3
    assert register.renew("a again", 2)[1] == 409


def test_of_two_overrides_the_later_runs_counts_and_an_old_one_never_comes_back(clock: Clock, state: Path) -> None:
    register = Register(state, TERM_S, MARGIN_S)
    assert register.adopt("nobody", "west", 1, token=0)[1] == 409, "it comes with a run's fencing token"
    register.adopt("b", "west", 1, token=8)
    assert register.adopt("a", "east", 5, token=7)[0]["refused"] == "superseded"
    assert register.adopt("a", "east", 5, token=8)[0]["refused"] == "superseded", "one run, one target"
    clock.now += 10
    register.acquire("a", "east", None)  # a failback, witnessed
    assert Register(state, TERM_S, MARGIN_S).adopt("b", "west", 1, token=8)[1] == 409
    assert register.adopt("c", "west", 1, token=9)[0]["epoch"] == 3


def test_an_override_that_is_over_is_known_and_puts_nobody_out(clock: Clock, state: Path) -> None:
    register = Register(state, TERM_S, MARGIN_S)
    register.acquire("a", "east", None)
    over, _ = register.adopt("b", "west", 2, token=7, ended=True)
    assert (over["epoch"], over["released"]) == (2, True)
    assert register.acquire("a again", "east", 1)[0]["refused"] == "superseded", "it lacks what b acknowledged"
    assert register.acquire("b again", "west", 2)[0]["epoch"] == 3
    assert register.adopt("c", "east", 3, token=9, ended=True)[1] == 409
    assert register.renew("b again", 3)[1] == 200


def test_an_override_is_for_one_promotion_and_outlives_only_what_was_written_under_it(tmp_path: Path) -> None:
    path = tmp_path / "agent.json"
    memory = AgentMemory(path)
    memory.witnessed(4)
    memory.permit({"by": ["dana", "lee"], "run": "k7qd", "token": 7, "loss_s": 30.0})
    memory.lapse()
    assert AgentMemory(path).override is None

    memory.permit({"by": ["dana", "lee"], "run": "k7qd", "token": 7, "loss_s": 30.0})
    assert memory.begun is None
    memory.fence("the promotion failed")
    assert AgentMemory(path).override is None
    memory.unfence()

    memory.permit({"by": ["dana", "lee"], "run": "k7qd", "token": 7, "loss_s": 30.0})
    assert memory.begin() == 5
    memory.fence("asked to")
    begun = AgentMemory(path).begun
    assert begun is not None and (begun["epoch"], begun["by"]) == (5, ["dana", "lee"]), "a witness has to know"
    memory.reported(6)
    assert (AgentMemory(path).epoch, AgentMemory(path).override) == (6, None)
    assert AgentMemory(path).fenced is not None
