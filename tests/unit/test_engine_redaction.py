"""Secrets are taken out of facts, wherever they stand."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from drkit.engine.redaction import redacted
from drkit.model import events as e
from drkit.model.values import Json
from drkit.providers.secrets import Secrets


class Hides:
    """Knows two secrets, one of digits alone."""

    def get(self, ref: object) -> str:
        raise AssertionError("nothing is resolved here")

    def redact(self, text: str) -> str:
        return re.sub(r"hunter2|(?<!\w)4711(?!\w)", "[redacted]", text)


def clean(fact: e.Fact) -> e.Fact:
    return redacted(fact, fact.to_text(), Hides())


def prepared(**params: Json) -> e.Prepared:
    return e.Prepared(step="s", attempt=4711, params=dict(params), before={"value": {"count": 3}})


def test_a_fact_without_secrets_is_left_as_it_is() -> None:
    fact = prepared(name="web", to=3, on=True, nothing=None)
    assert clean(fact) == fact


def test_secrets_go_from_texts_keys_and_lists_at_any_depth() -> None:
    fact = clean(prepared(deep=[{"at": {"hunter2": "user:hunter2@db"}}], note="plain"))
    assert isinstance(fact, e.Prepared)
    assert fact.params == {"deep": [{"at": {"[redacted]": "user:[redacted]@db"}}], "note": "plain"}
    assert fact.before == {"value": {"count": 3}}


def test_a_number_that_is_a_secret_becomes_text_and_the_fact_stays_one() -> None:
    fact = clean(prepared(pin=4711, port=5432, on=True))
    assert isinstance(fact, e.Prepared)
    assert fact.params == {"pin": "[redacted]", "port": 5432, "on": True}
    assert fact.attempt == 4711, "what the engine counts is no secret"


def test_errors_hints_and_what_was_seen_are_redacted_and_the_step_keeps_its_name() -> None:
    failed = e.Failed(step="hunter2", attempt=1, error="no hunter2", world="unknown", hint="try hunter2", seen=None)
    fact = clean(failed)
    assert isinstance(fact, e.Failed)
    assert (fact.step, fact.error, fact.hint) == ("hunter2", "no [redacted]", "try [redacted]")


def test_the_plan_of_a_run_is_left_as_people_agreed_to_it() -> None:
    fact = e.Opened(
        run="r", run_kind="run", plan={"title": "hunter2"}, plan_hash="", drkit="", catalog="", by={}, host="", wall=0.0
    )
    assert clean(fact) == fact


WORD = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=12)


@given(WORD, WORD, WORD)
@example('a"b', "\n", "\n")
@example("ab", "\n", "\t")
@example("ab", "\x1f", "")
@example('first line of it\n  the "second" line of it', "", "")
def test_a_secret_that_a_text_would_lose_alone_it_loses_inside_a_fact_too(secret: str, left: str, right: str) -> None:
    secrets = Secrets()
    secrets.hide(secret)
    for text in (left + secret + right, *(left + secret + right).splitlines()):
        fact = e.Noted(text=text, by={})
        assert _noted(redacted(fact, fact.to_text(), secrets)) == secrets.redact(text)


def _noted(fact: e.Fact) -> str:
    assert isinstance(fact, e.Noted)
    return fact.text
