"""What must hold after every history: one function each, named for the rule, its docstring the sentence.

Each yields what broke it, in words; nothing means that it holds. A module holds those of one subject.
"""

from __future__ import annotations

from simulation.history import History
from simulation.invariants import compensation, effects, healing, holding, journal, lease, lists, order, people
from simulation.invariants.aftermath import Aftermath, Invariant

INVARIANTS: tuple[Invariant, ...] = (
    journal.the_run_ends,
    journal.the_chain_is_unbroken,
    journal.replay_decides_the_same,
    journal.secrets_stay_out,
    order.an_intent_is_durable_before_its_effect,
    order.what_was_before_is_recorded_once,
    order.nothing_completed_is_sent_again,
    order.needs_have_ended,
    order.what_must_not_be_repeated_takes_a_word,
    order.retries_have_a_limit,
    order.who_is_turned_away_knocks_for_as_long_as_the_step_may_take,
    order.copied_before_it_is_final,
    lists.only_entries_of_a_seen_list_are_begun,
    lists.each_entry_has_its_own,
    lists.no_more_at_once_than_asked,
    lists.what_is_not_needed_is_not_begun,
    lists.conditions_are_asked,
    lists.nothing_is_left_out,
    effects.effects_are_as_the_journal_says,
    effects.what_is_called_absent_stays_absent,
    lease.one_holder,
    lease.sent_under_a_lease,
    lease.stale_holders_change_nothing,
    lease.one_writable_side,
    lease.users_go_where_one_can_write,
    compensation.compensations_run_once_and_backwards,
    compensation.due_compensations_are_known,
    compensation.the_state_store_knows_of_a_rollback_first,
    healing.what_was_broken_is_healed,
    healing.a_heal_follows_its_fault,
    people.approvals_are_real,
    people.approvals_are_not_skipped_with_others,
    people.answers_fit_their_question,
    people.an_escalation_is_heard,
    people.fences_are_seen_or_passed_by_two,
    holding.a_pause_holds,
    holding.a_deadline_holds,
    holding.a_deadline_is_told,
)


def broken(history: History) -> list[str]:
    """`rule: how it was broken`, for each rule that was; the first way only."""
    aftermath = Aftermath(history)
    found = ((rule.__name__, next(rule(aftermath), None)) for rule in INVARIANTS)
    return [f"{name}: {how}" for name, how in found if how is not None]


__all__ = ["INVARIANTS", "broken"]
