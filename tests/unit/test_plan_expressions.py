"""Expressions: what is refused at load, and the three outcomes in a run."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from plan_fakes import Replicas

from drkit.errors import Unobservable
from drkit.model.observation import Verdict
from drkit.plan.expressions import check, evaluate, names, render, roots
from drkit.plan.kinds import Kind, kind_of_fields, kind_of_model, kind_of_value

KINDS = {
    "now": kind_of_model(Replicas, "the answer"),
    "params": kind_of_value({"replicas": 3, "a-b": "x"}),
    "probes": kind_of_fields({"web-1": kind_of_model(Replicas)}),
}
NOW: dict[str, Any] = {
    "desired": 3, "ready": 3, "state": "running", "lag": 200.0, "lag_s": 2.0, "images": {"web": "v1"}, "zones": ["a"],
}  # fmt: skip


def problems(text: str) -> list[str]:
    return [f"{p.offset} {p.message}" + (f" | {p.hint}" if p.hint else "") for p in check(text, KINDS)]


@pytest.mark.parametrize(
    "text",
    [
        "now.ready == now.desired && now.state == 'running'",
        "now.lag < duration('5m') && now.lag_s < 30.0 && now.lag_s < duration('30s')",
        "now.zones.all(zone, zone in ['a', 'b']) || size(now.zones) == 0",
        "has(now.lag) ? now.lag < duration('1h30m') : false",
        "now.images.web.startsWith('v') && now.images['web'] != ''",
        "probes.web-1.ready > params.replicas - 1 && params.a-b == 'x'",
        "now.answered_by == null || now.answered_by.matches('^[0-9.]+$')",
        "now.ready > 2.5 && now.ready * 2 >= 6 && -now.ready < 0",
        "timestamp('2026-11-23T03:07:12Z') - timestamp('2026-11-22T03:07:12Z') == duration('24h')",
        "// is it up\nnow.ready > 0",
    ],
)
def test_what_is_right_is_not_complained_about(text: str) -> None:
    assert problems(text) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now.ready == 3 || nope", ['18 unknown name "nope" | known: now, params, probes']),
        ("now.redy == 3", ['4 the answer has no "redy" | did you mean ready?']),
        ("now.ready == '3'", ["13 cannot compare now.ready with '3': a whole number and text"]),
        ("now.state == 'runing'", ["13 cannot compare now.state with 'runing': \"runing\" is not one of running,"
                                   " starting | did you mean running?"]),
        ("now.lag < 30", ["10 cannot compare now.lag with 30: a duration and a whole number | write duration('5m')"]),
        ("now.lag < duration('5 minuts')", ['19 "5 minuts" is not a duration | write 90s, 5m or 1h']),
        ("now.ready", ["0 now.ready is a whole number, and true or false is needed"]),
        ("now.ready && true", ["4 now.ready is a whole number, and true or false is needed"]),
        ("now.state.contains(3)", ["19 3 is a whole number: contains is used as text.contains('x')"]),
        ("foo(1) == 1", ["0 there is no function \"foo\" | known: all, contains, double, duration, endsWith, exists,"
                         " exists_one, filter and 8 more"]),
        ("now.zones.all(now, now == 'a')", ['10 "now" already means something here | choose another name']),
        ("now.zones[0].x == 1", ["13 now.zones[0] is text and has no x"]),
        ("now.ready < now.zones", ["16 cannot compare now.ready with now.zones: a whole number and a list"]),
        ("now.zones < now.zones", [f"{at} now.zones is a list, which has no order" for at in (4, 16)]),
        ("params.replicas-1 > 0", ['7 params has no "replicas-1" | put spaces around the minus: params.replicas - 1']),
        ("now.state.matches('(')", ["18 not a pattern: missing ): ("]),
        ("now.ready &&", ["10 this is not an expression from here on | drkit help expressions"]),
        ("{'a': 1}['a'] == 1", ["1 this is not supported in expressions | drkit help expressions"]),
        ("now.ready == 3u", ["13 unsigned numbers are not supported"]),
        ("  ", ["0 the expression is empty"]),
        ("(" * 200 + "true" + ")" * 200, ["40 the expression is nested more than 40 deep"]),
        ("!" * 60 + "now.ok", ["60 the expression is nested more than 40 deep"]),
        ("now.ready == 1 && " * 300 + "true", ["0 the expression is longer than 4000 characters"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_found_at_load(text: str, expected: list[str]) -> None:
    assert problems(text) == expected


@pytest.mark.parametrize(
    ("text", "verdict", "reason"),
    [
        ("now.ready == 3", Verdict.PASS, "now.ready is 3"),
        ("now.ready > 3 || now.state == 'up'", Verdict.FAIL, 'now.ready is 3, now.state is "running"'),
        ("now.lag < duration('5m')", Verdict.PASS, "now.lag is 200"),
        ("now.gone == 3", Verdict.UNKNOWN, "now.gone is missing"),
        ("now.gone == 3 || now.ready == 3", Verdict.PASS, "now.ready is 3"),
        ("now.gone == 3 && now.ready == 4", Verdict.FAIL, "now.ready is 3"),
        ("now.ready == 'x' || nope", Verdict.UNKNOWN, "cannot compare a number with text"),
        ("now.state == 'x' || nope", Verdict.UNKNOWN, "nope is not known here"),
        ("now.nothing == null", Verdict.UNKNOWN, "now.nothing is missing"),
        ("has(now.nothing)", Verdict.FAIL, "now.nothing"),
        ("has(nope.a.b)", Verdict.FAIL, "nope.a.b"),
        ("now.ready / 0 == 1", Verdict.UNKNOWN, "a division by zero"),
        ("now.zones[3] == 'a'", Verdict.UNKNOWN, "now.zones has no entry 3"),
        ("now.zones.exists(z, z == 'a')", Verdict.PASS, ""),
        ("now.ready", Verdict.UNKNOWN, "now.ready is neither true nor false"),
        ("now.ready ===", Verdict.UNKNOWN, "now.ready ===: this is not an expression from here on"),
    ],
)
def test_three_outcomes(text: str, verdict: Verdict, reason: str) -> None:
    answer = evaluate(text, {"now": NOW})
    assert (answer.verdict, reason in answer.reason) == (verdict, True), answer


def test_null_is_missing_but_can_be_asked_for() -> None:
    scope = {"now": {"lag": None}}
    assert evaluate("now.lag == null", scope).verdict is Verdict.PASS
    assert evaluate("now.lag != null && now.lag < duration('1m')", scope).verdict is Verdict.FAIL
    assert evaluate("now.lag < duration('1m')", scope) == evaluate("now.lag == duration('1m')", scope)
    assert evaluate("now.lag < duration('1m')", scope).reason == "now.lag is missing"


def test_what_was_asked_for_counts_as_there() -> None:
    from drkit.plan.expressions import check_reference

    assert check_reference("now.lag", KINDS).kind.optional
    assert not check_reference("has(now.lag) ? now.lag : duration('1s')", KINDS).kind.optional
    assert not check_reference("now.lag != null && now.ready > 0 ? now.lag : duration('1s')", KINDS).kind.optional
    assert check_reference("has(now.lag) ? duration('1s') : now.lag", KINDS).kind.optional


def test_render_keeps_kinds_and_makes_text_beside_text() -> None:
    scope = {"steps": {"a-b": {"n": 3, "share": 2.0, "ok": True, "list": [1], "none": None}}, "params": {"x": "y"}}
    params = {
        "n": "${ steps.a-b.n }", "list": "${ steps.a-b.list }", "none": "${ steps.a-b.none }",
        "text": "n=${steps.a-b.n} ${ steps.a-b.share } ${ steps.a-b.ok } ${ params.x } $${HOME}",
        "sum": "${ steps['a-b'].n + 1 }", "deep": [{"x": "${ steps.a-b.n }"}], "plain": 5,
    }  # fmt: skip
    assert render(params, scope) == {  # type: ignore[arg-type]
        "n": 3, "list": [1], "none": None, "text": "n=3 2 true y ${HOME}", "sum": 4, "deep": [{"x": 3}], "plain": 5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("${ steps.b.n }", "steps has no b"),
        ("x ${ steps.a.list }", "is a list, which cannot stand inside a text"),
        ("x ${ steps.a.none }", "is nothing, which cannot stand inside a text"),
        ("${ steps.a.n / 0 }", "a division by zero"),
        ("${ steps.a. }", "this is not an expression"),
    ],
)
def test_what_cannot_be_rendered_is_unobservable_never_empty(value: str, why: str) -> None:
    with pytest.raises(Unobservable, match=why):
        render({"x": value}, {"steps": {"a": {"list": [1], "none": None, "n": 1}}})


def test_names_and_roots() -> None:
    text = "probes.web-1.ready > 1 && probes['users'].ok && steps.a.b == params.x && now.all(p, p > 1)"
    assert names(text, "probes") == {"web-1", "users"}
    assert roots(text) == {"probes", "steps", "params", "now"}


def test_an_optional_result_is_marked() -> None:
    kind: Kind = KINDS["now"]
    lag = kind.field("lag")
    assert lag is not None
    assert (lag.name, lag.optional) == ("duration", True)


def test_plain_references_do_not_load_the_parser() -> None:
    code = (
        "import sys\n"
        "from drkit.plan import resolve, files, expressions\n"
        "assert expressions.render({'a': '${ params.x } y'}, {'params': {'x': 1}}) == {'a': '1 y'}\n"
        "assert expressions.roots('steps.a.b') == {'steps'}\n"
        "print([name for name in ('celpy', 'lark', 're2', 'ruamel.yaml', 'boto3') if name in sys.modules])\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"
