"""What the checker lets through evaluates; and where CEL's own evaluator has an answer, ours is the same."""

from __future__ import annotations

from typing import Any, Literal

import celpy
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from drkit.model.observation import Verdict
from drkit.model.values import Duration, parse_duration
from drkit.plan import cel
from drkit.plan.evaluator import Unknown
from drkit.plan.evaluator import evaluate as evaluate_tree
from drkit.plan.expressions import check, evaluate
from drkit.plan.kinds import kind_of_model
from drkit.plan.references import Reference, fill, pieces


class Item(BaseModel):
    name: str
    count: int


class Seen(BaseModel):
    ok: bool
    count: int
    share: float
    lag_s: float
    age: Duration
    state: Literal["up", "down"]
    name: str
    numbers: list[int]
    items: list[Item]
    labels: dict[str, str]


CEL = celpy.Environment()
KINDS = {"now": kind_of_model(Seen)}
small = st.integers(-5, 5)
seen = st.builds(
    Seen, ok=st.booleans(), count=small, share=small.map(lambda n: n / 2), lag_s=small.map(float),
    age=small.map(float), state=st.sampled_from(["up", "down"]), name=st.sampled_from(["", "a", "ab"]),
    numbers=st.lists(small, max_size=3), labels=st.just({"a": "b"}),
    items=st.lists(st.builds(Item, name=st.sampled_from(["a", "b"]), count=small), max_size=2),
).map(lambda model: {"now": model.model_dump(mode="json")})  # fmt: skip

leaves = st.sampled_from([
    "now.ok", "now.count", "now.share", "now.lag_s", "now.age", "now.state", "now.name", "now.numbers", "now.items",
    "now.nope", "nope", "true", "false", "1", "0", "2.5", "'up'", "'a'", "duration('1m')", "[1, 2]", "size(now.name)",
    "size(now.numbers)", "now", "x",
])  # fmt: skip


def grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    binary = st.tuples(
        inner, st.sampled_from(["&&", "||", "==", "!=", "<", "<=", ">", ">=", "+", "-", "*", "in"]), inner
    )
    return st.one_of(
        binary.map(lambda parts: f"({parts[0]} {parts[1]} {parts[2]})"),
        inner.map(lambda text: f"!({text})"),
        st.tuples(inner, inner, inner).map(lambda parts: f"(({parts[0]}) ? ({parts[1]}) : ({parts[2]}))"),
        st.tuples(st.sampled_from(["all", "exists", "exists_one"]), inner).map(
            lambda parts: f"now.numbers.{parts[0]}(x, {parts[1]})"
        ),
        inner.map(lambda text: f"now.items.exists(x, x.count > 0 && {text})"),
        inner.map(lambda text: f"has({text})"),
        st.tuples(inner, inner).map(lambda parts: f"now.name.startsWith({parts[0]})"),
    )


texts = st.recursive(leaves, grown, max_leaves=6)


# Well-formed conditions, of what CEL's own evaluator supports too: no durations beside numbers, no int beside double.

numbers = st.recursive(
    st.sampled_from(["now.count", "1", "3", "size(now.numbers)", "size(now.name)"]),
    lambda inner: st.tuples(inner, st.sampled_from("+-*/%"), inner).map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
    max_leaves=3,
)
comparisons = st.one_of(
    st.tuples(numbers, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), numbers).map(" ".join),
    numbers.map(lambda number: f"{number} in now.numbers"),
    st.sampled_from(["now.ok", "now.state == 'up'", "now.name < 'b'", "now.name.contains('b')", "true", "false",
                     "now.numbers.all(x, x > 0)", "now.items.exists(i, i.count > 1 && i.name == 'a')",
                     "now.numbers.exists_one(x, x == 1)", "size(now.items.filter(i, i.count > 0)) == 1",
                     "now.numbers.map(x, x * 2) == [2]", "now.name.matches('^a')", "'a' in now.labels"]),
)  # fmt: skip
conditions = st.recursive(
    comparisons,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["&&", "||"]), inner).map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
        inner.map(lambda text: f"!({text})"),
        st.tuples(inner, inner, inner).map(lambda p: f"(({p[0]}) ? ({p[1]}) : ({p[2]}))"),
    ),
    max_leaves=4,
)


@settings(max_examples=200, deadline=None)
@given(st.one_of(conditions, texts), seen)
def test_what_passes_the_checker_has_an_answer(text: str, scope: dict[str, Any]) -> None:
    assume(not check(text, KINDS))
    answer = evaluate(text, scope)
    assert answer.verdict in (Verdict.PASS, Verdict.FAIL) or answer.reason == "a division by zero", text


@settings(max_examples=100, deadline=None)
@given(texts, seen)
def test_nothing_raises_and_an_unknown_name_is_always_reported(text: str, scope: dict[str, Any]) -> None:
    evaluate(text, scope)
    if "nope" in text:
        assert any("nope" in problem.message for problem in check(text, KINDS))


@settings(max_examples=100, deadline=None)
@given(
    st.one_of(conditions, conditions, texts),
    seen,
    st.sampled_from(["ok", "count", "state", "numbers", "items", "name"]),
)
def test_missing_data_never_turns_an_answer_round(text: str, scope: dict[str, Any], lost: str) -> None:
    """With a field missing the answer is the same or unknown; only `has` may ask after what is not there."""
    assume(not check(text, KINDS) and "has(" not in text)
    whole = evaluate(text, scope).verdict
    fields = {key: value for key, value in scope["now"].items() if key != lost}
    for poorer in (fields, fields | {lost: None}):
        assert evaluate(text, {"now": poorer}).verdict in (whole, Verdict.UNKNOWN)


@settings(max_examples=150, deadline=None)
@given(conditions, seen)
def test_the_answer_is_that_of_another_implementation(text: str, scope: dict[str, Any]) -> None:
    program = CEL.program(CEL.compile(text))
    try:
        expected = bool(program.evaluate({"now": celpy.json_to_cel(scope["now"])}))
    except celpy.CELEvalError:
        assert isinstance(evaluate_tree(cel.read(text), scope), Unknown)
        return
    assert not check(text, KINDS)
    answer = evaluate(text, scope).verdict
    # Where a part cannot be computed, CEL still answers if the other part decides, and so do we.
    assert answer == (Verdict.PASS if expected else Verdict.FAIL), text


# Durations


@given(st.lists(st.tuples(st.integers(0, 999), st.sampled_from(["ms", "s", "m", "h", "d"])), min_size=1, max_size=4))
def test_a_duration_is_the_sum_of_its_parts(parts: list[tuple[int, str]]) -> None:
    seconds = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
    text = "".join(f"{number}{unit}" for number, unit in parts)
    assert abs(parse_duration(text) - sum(number * seconds[unit] for number, unit in parts)) < 1e-6
    assert evaluate_tree(cel.read(f"duration('{text}')"), {}) == parse_duration(text)


@given(st.text(max_size=8))
def test_anything_else_is_not_a_duration(text: str) -> None:
    import re

    assume(not re.fullmatch(r"\s*(\d+(\.\d+)?(ms|s|m|h|d))+\s*", text))
    try:
        parse_duration(text)
    except ValueError as error:
        assert "write 90s, 5m or 1h" in str(error)
    else:
        raise AssertionError(f"{text!r} was read as a duration")


# References


@given(st.lists(st.one_of(st.text(alphabet="ab $'\"\\", max_size=5), st.sampled_from(["${ a.b }", "$${", "${a}"]))))
def test_text_and_references_come_apart_and_together_again(parts: list[str]) -> None:
    text = "".join(parts)
    assume("${" not in "".join(part for part in parts if not part.startswith(("$${", "${"))) and "$$${" not in text)
    again = "".join(
        f"${{ {piece.text} }}" if isinstance(piece, Reference) else piece.replace("${", "$${") for piece in pieces(text)
    )
    assert pieces(again) == pieces(text) or [_bare(p) for p in pieces(again)] == [_bare(p) for p in pieces(text)]
    whole = len(pieces(text)) == 1 and isinstance(pieces(text)[0], Reference)
    assert fill(text, lambda reference: 7) == (7 if whole else "".join(
        "7" if isinstance(piece, Reference) else piece for piece in pieces(text)
    ))  # fmt: skip


def _bare(piece: str | Reference) -> str:
    return piece.text if isinstance(piece, Reference) else piece
