"""The gate as authors of runbooks see it."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from drkit.catalog import Catalog, Gate
from drkit.engine.gates import Approve, policy_answer, same_person


def test_the_gate_is_found_under_its_name_and_described() -> None:
    entry = Catalog().entry("gate.approve")
    assert isinstance(entry, Gate)
    assert entry.doc.startswith("Wait until people")
    assert all(info.description for info in entry.params.model_fields.values())


def test_its_parameters_are_strict() -> None:
    assert Approve(role="ic", timeout="10m").timeout == 600.0  # type: ignore[arg-type]
    for wrong in ({"role": 3}, {"role": "ic", "approvals": 3}, {"role": "ic", "shown": {}}):
        with pytest.raises(ValidationError):
            Approve.model_validate(wrong)


def test_the_same_unix_user_is_one_person_and_so_is_the_same_name() -> None:
    assert same_person({"name": "dana", "uid": 1}, {"name": "root", "uid": 1})
    assert same_person({"name": "dana", "uid": None}, {"name": "dana", "uid": 7})
    assert not same_person({"name": "dana", "uid": None}, {"name": "lee", "uid": None})


def test_a_policy_answers_only_what_it_says() -> None:
    assert policy_answer({"name": "n", "ic": "approve"}, "ic") == ("approve", "n", "recorded for drills")
    assert policy_answer({"ic": {"answer": "reject", "reason": "rehearsed"}}, "ic") == ("reject", "drill", "rehearsed")
    assert policy_answer({"name": "n", "ic": "maybe"}, "ic") is None
    assert policy_answer({"name": "n", "*": "approve"}, None) is None
    assert policy_answer(None, "ic") is None
