"""No step of reliabletech ends done when it did nothing, or when what it needs is broken; and it says which and why.

A few rows of the sabotage table run in a world that was recovered already; the whole table, in the runbook's order and
in a world of its own, is in `make soak`. By hand: `python -m tests.drills.sabotage --list`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sabotage_table import STEPS, Case, carry_out, cases, markdown, name, summary
from sabotage_walk import Outcome, Walk, walk
from worlds import Struck, world

#: Rows that leave a world in use as they found it, and need nothing of what came before.
QUICK = {
    "announce: its effect is a no-op",
    "announce: the mail server takes nothing",
    "access: another machine answers for a server",
    "preflight: a quota is lower than needed",
    "keys: there is no key of that name",
    "secrets: a secret is stale",
    "certificates: the certificate is for other names",
    "images: an image's digest is missing",
    "prove-data: one confirmed write is missing in the middle",
    "sessions: its effect is a no-op",
}
Outcomes = dict[str, Outcome]


@pytest.fixture(scope="module")
def recovered(struck: Struck) -> Iterator[Walk]:
    """The world that others have already had recovered."""
    with walk(struck.world.folder, recovered=True) as going:
        yield going


@pytest.mark.parametrize("case", [case for case in cases() if name(case) in QUICK], ids=name)
def test_a_sabotaged_step_is_not_done_and_is_named(recovered: Walk, case: Case) -> None:
    found = carry_out(recovered, case)
    assert found.complaint is None, found.complaint


def test_every_step_of_the_runbook_has_rows_and_says_what_is_real() -> None:
    assert len(STEPS) == 47
    assert all(len(step.rows) >= 2 and step.real and step.users for step in STEPS)
    names = [name(case) for case in cases()]
    assert len(names) == len(set(names)) and set(names) >= QUICK


def test_every_action_is_made_to_do_nothing_once() -> None:
    from sabotage_walk import RUNBOOK

    from drkit.catalog import Action, Catalog
    from drkit.plan.files import load_runbook

    actions = {step.id for step in load_runbook(RUNBOOK).spec.steps if isinstance(Catalog().find(step.uses), Action)}
    assert {step.step for step in STEPS if any(row.idle for row in step.rows)} == actions


def test_the_table_prints_a_line_for_every_row() -> None:
    lines = [line for line in markdown().splitlines() if line.startswith("|")]
    assert len(lines) == 2 + sum(len(step.rows) for step in STEPS)


@pytest.fixture(scope="module")
def going(request: pytest.FixtureRequest, outcomes: Outcomes) -> Iterator[Walk]:
    """A world of its own on its way through the runbook."""
    with world() as made, walk(made.folder) as begun:
        yield begun
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\n{summary(outcomes)}")


@pytest.fixture(scope="module")
def outcomes() -> Outcomes:
    """How each row ended, by its name."""
    return {}


@pytest.mark.soak
@pytest.mark.parametrize("case", list(cases()), ids=name)
def test_the_whole_table(going: Walk, outcomes: Outcomes, case: Case) -> None:
    found = outcomes[name(case)] = carry_out(going, case)
    assert found.complaint is None, found.complaint
