"""What a report's timeline tells of questions that nobody answered."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from report_made_up import chained

from drkit.model.events import Answered, Asked, Fact, Fired
from drkit.model.measurements import Findings
from drkit.model.plan import PlanStep
from drkit.report.timeline import moments

GATE = PlanStep(
    id="agree", number=1, uses="gate.approve", kind="gate",
    params={"role": "boss", "escalate": [{"after": 1.0, "role": "ic"}, {"after": 2.0, "role": "cto"}]},
)  # fmt: skip
ASKED = Asked(t=0.0, step="agree", purpose="gate", shown={}, shown_hash="h")
REJECTED = Answered(
    t=0.5, step="agree", answer="reject", by={"name": "dana"}, role="boss", reason="no", plan_hash="p", shown_hash="h"
)  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "asked_too"),
    [
        ([ASKED, Fired(t=1.0, timer="escalate agree 1 0"), Fired(t=2.0, timer="escalate agree 1 1")], ["ic", "cto"]),
        ([ASKED, REJECTED, Fired(t=1.0, timer="escalate agree 1 0")], []),
        ([ASKED, Fired(t=0.9, timer="ask agree 1"), Fired(t=1.0, timer="escalate agree 1 0")], []),
        ([Fired(t=1.0, timer="retry agree 1")], []),
    ],
)
def test_who_is_asked_too_is_told_while_the_question_stands(facts: list[Fact], asked_too: list[str]) -> None:
    step = SimpleNamespace(plan=GATE, finished_t=None, status="waiting")
    run = SimpleNamespace(
        plan=SimpleNamespace(deadline_s=None), steps={"agree": step}, overrides=[], point_of_no_return=None,
        overdue=False, wall=lambda t: t,
    )  # fmt: skip
    told = moments(chained(facts), cast(Any, run), Findings(), ())
    assert [m.detail.split()[0] for m in told if m.what == "Nobody has answered: agree"] == asked_too
