"""Secrets are taken out of facts, wherever they stand."""

from __future__ import annotations

import re

from drkit.engine.redaction import redacted
from drkit.model import events as e
from drkit.model.values import Json


class Hides:
    """Knows two secrets, one of digits alone."""

    def get(self, ref: object) -> str:
        raise AssertionError("nothing is resolved here")

    def redact(self, text: str) -> str:
        return re.sub(r"hunter2|(?<!\w)4711(?!\w)", "[redacted]", text)


def prepared(**params: Json) -> e.Prepared:
    return e.Prepared(step="s", attempt=4711, params=dict(params), before={"value": {"count": 3}})


def test_a_fact_without_secrets_is_left_as_it_is() -> None:
    fact = prepared(name="web", to=3, on=True, nothing=None)
    assert redacted(fact, Hides()) is fact


def test_secrets_go_from_texts_keys_and_lists_at_any_depth() -> None:
    fact = redacted(prepared(deep=[{"at": {"hunter2": "user:hunter2@db"}}], note="plain"), Hides())
    assert isinstance(fact, e.Prepared)
    assert fact.params == {"deep": [{"at": {"[redacted]": "user:[redacted]@db"}}], "note": "plain"}
    assert fact.before == {"value": {"count": 3}}


def test_a_number_that_is_a_secret_becomes_text_and_the_fact_stays_one() -> None:
    fact = redacted(prepared(pin=4711, port=5432, on=True), Hides())
    assert isinstance(fact, e.Prepared)
    assert fact.params == {"pin": "[redacted]", "port": 5432, "on": True}
    assert fact.attempt == 4711, "what the engine counts is no secret"


def test_errors_hints_and_what_was_seen_are_redacted_and_the_step_keeps_its_name() -> None:
    failed = e.Failed(step="hunter2", attempt=1, error="no hunter2", world="unknown", hint="try hunter2", seen=None)
    fact = redacted(failed, Hides())
    assert isinstance(fact, e.Failed)
    assert (fact.step, fact.error, fact.hint) == ("hunter2", "no [redacted]", "try [redacted]")
