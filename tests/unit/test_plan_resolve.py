"""Resolving: what a plan says, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from plan_fakes import GOOD, HEAD, catalog, environment, write

from drkit.errors import FileError, UsageError
from drkit.model.plan import Plan
from drkit.plan.files import read_runbook
from drkit.plan.resolve import resolve

FENCE = "  - {id: fence, uses: db.fence, with: {cluster: c, region: source}, needs: []%s}\n"
PROMOTE = "  - {id: promote, uses: db.promote, with: {cluster: c, region: target}%s}\n"
SCALE = "  - {id: %s, uses: k8s.scale, with: {deployment: d, to: 1}%s}\n"


def plan(folder: Path, text: str, **more: Any) -> Plan:
    around = more.pop("around", environment())
    return resolve(
        read_runbook(write(folder, text)), around, catalog(), **{"source": "us-east-1", "target": "us-west-2"} | more
    )


def messages(folder: Path, steps: str, **more: Any) -> list[str]:
    with pytest.raises(FileError) as error:
        plan(folder, HEAD + "steps:\n" + steps, **more)
    return [mistake.message for mistake in error.value.mistakes]


def test_written_order_is_the_order_unless_needs_say_otherwise(tmp_path: Path) -> None:
    needs = {step.id: step.needs for step in plan(tmp_path, GOOD).steps}
    assert needs == {
        "scale": (), "go": (), "fence": ("go",), "promote": ("fence",), "smoke": ("promote", "scale"),
        "more": ("smoke",),
    }  # fmt: skip


def test_roles_become_names_and_failback_is_the_same_file_turned_round(tmp_path: Path) -> None:
    there, back = (plan(tmp_path, GOOD, source=a, target=b) for a, b in (("us-east-1", "us-west-2"),
                                                                         ("us-west-2", "us-east-1")))  # fmt: skip
    assert (there.step("fence").params["region"], there.step("fence").site) == ("us-east-1", "us-east-1")
    assert (back.step("fence").params["region"], back.step("fence").site) == ("us-west-2", "us-west-2")
    assert there.step("scale").params["region"] == "us-west-2"  # the default of the parameter is a role
    assert there.step("scale").site == "us-west-2"
    assert there.probes["web"].params["region"] == "us-west-2"
    assert there.hash != back.hash


def test_references_are_put_in_place_and_those_to_steps_stay(tmp_path: Path) -> None:
    steps = plan(tmp_path, GOOD).step
    assert steps("scale").params["to"] == 24
    assert steps("more").params["to"] == "${ steps.smoke.ready }"
    assert steps("more").params["deployment"] == "web-${ steps.scale.ready }"
    assert steps("more").params["wait"] == 30.0
    assert steps("smoke").hold_s == 600.0


def test_mixed_references_keep_only_what_steps_will_answer(tmp_path: Path) -> None:
    text = GOOD + '  - {id: last, uses: k8s.scale, with: {deployment: "$${X}-${ mode }-${steps.more.ready}", to: 1}}\n'
    made = plan(tmp_path, text)
    assert made.step("last").params["deployment"] == "$${X}-ungraceful-${ steps.more.ready }"


def test_a_plain_dollar_brace_survives_planning_and_rendering(tmp_path: Path) -> None:
    from drkit.plan.expressions import render

    text = GOOD + '  - {id: last, uses: k8s.scale, with: {deployment: "$${HOME}/x", to: 1}}\n'
    made = plan(tmp_path, text)
    assert render(made.step("last").params, {})["deployment"] == "${HOME}/x"


def test_what_the_code_declares_is_in_the_plan(tmp_path: Path) -> None:
    steps = plan(tmp_path, GOOD).step
    assert (steps("fence").fences, steps("fence").skippable, steps("fence").unfenced) == (True, False, False)
    assert (steps("promote").promotes, steps("promote").irreversible) == (True, "there is no way back")
    assert (steps("promote").timeout_s, steps("scale").timeout_s, steps("go").timeout_s) == (300.0, 90.0, 300.0)
    assert [steps(id).kind for id in ("scale", "go", "smoke")] == ["action", "gate", "probe"]
    assert steps("smoke").repeat == "safe"


def test_overrides_are_shown_with_their_origin(tmp_path: Path) -> None:
    around = environment(parameters={"hold": "5s", "other": 1}, rto="60s", simulated={"k8s.scale": "no cluster"})
    made = plan(tmp_path, GOOD, around=around, parameters={"replicas": 2}, changed_by="scenario")
    assert [(each.name, each.default, each.value, each.by) for each in made.changed_parameters] == [
        ("hold", "10m", "5s", "environment"),
        ("replicas", 24, 2, "scenario"),
    ]
    assert made.step("smoke").hold_s == 5.0
    assert (made.rto_s, made.rpo_s) == (60.0, 30.0)
    assert made.step("scale").simulated == "no cluster"
    assert made.step("fence").simulated is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"replcas": 3}, 'there is no parameter "replcas"; did you mean replicas?'),
        ({"replicas": "3"}, "parameter replicas (--set): '3' does not fit: it is text, and a whole number is needed"),
        ({"hold": "5 x"}, 'parameter hold (--set): "5 x" is not a duration; write 90s, 5m or 1h'),
        ({"a": 1, "b": 2}, 'there is no parameter "a"; known: hold, replicas\nthere is no parameter "b"'),
    ],
)
def test_parameters_that_do_not_fit(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        plan(tmp_path, GOOD, parameters=given)
    assert error.value.message.startswith(message)


@pytest.mark.parametrize(
    ("sides", "message", "hint"),
    [
        ({"target": "us-wst-2"}, 'lab has no region "us-wst-2"', "did you mean us-west-2?"),
        ({"source": "onprem"}, "onprem is not a region", "known: us-east-1, us-west-2"),
        (
            {"target": "us-east-1"},
            "source and target are both us-east-1: there is nothing to move", "--region us-west-2",
        ),
    ],
)  # fmt: skip
def test_regions_that_do_not_fit(tmp_path: Path, sides: dict[str, str], message: str, hint: str) -> None:
    with pytest.raises(UsageError) as error:
        plan(tmp_path, GOOD, **sides)
    assert (error.value.message, error.value.hint) == (message, hint)


def test_a_region_the_runbook_does_not_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="us-west-2 is not among them"):
        plan(tmp_path, GOOD.replace("[us-east-1, us-west-2]", "[us-east-1, eu-west-1]"))


# Fences


def test_a_promotion_behind_a_fence_is_permitted(tmp_path: Path) -> None:
    steps = FENCE % "" + SCALE % ("mid", "") + PROMOTE % ""
    assert plan(tmp_path, HEAD + "steps:\n" + steps).step("promote").needs == ("mid",)


@pytest.mark.parametrize(
    "steps",
    [
        PROMOTE % "",
        PROMOTE % "" + FENCE % "",
        FENCE % "" + PROMOTE % ", needs: []",
        FENCE % "" + SCALE % ("mid", ", optional: true") + PROMOTE % "",
        FENCE % "" + SCALE % ("mid", ', when: "true"') + PROMOTE % "",
        FENCE % "" + SCALE % ("mid", ", on_failure: skip") + PROMOTE % "",
    ],
    ids=["none", "afterwards", "beside", "behind optional", "behind a condition", "behind skip"],
)
def test_a_promotion_without_a_certain_fence_is_refused(tmp_path: Path, steps: str) -> None:
    assert messages(tmp_path, steps) == ["promote promotes, and no fence is certain to be done before it"]


@pytest.mark.parametrize("escape", [", optional: true", ', when: "true"', ", on_failure: skip"])
def test_a_fence_is_never_optional_conditional_or_skipped(tmp_path: Path, escape: str) -> None:
    found = messages(tmp_path, FENCE % escape + PROMOTE % "")
    assert found == ["fence is a fence: it is never optional, conditional or skipped"]


def test_a_mistyped_need_is_not_also_a_missing_fence(tmp_path: Path) -> None:
    assert messages(tmp_path, FENCE % "" + PROMOTE % ", needs: [fnce]") == ['there is no step "fnce"']
    mistyped = FENCE.replace("db.fence", "db.fenc") % ""
    assert messages(tmp_path, mistyped + PROMOTE % "") == ['there is no action, probe or gate "db.fenc"']


# Consent

CONSENT = "  - {id: yes, uses: gate.approve, with: {role: %s, approvals: %s, question: May we?, timeout: 1h}}\n"
BREAKS = [
    "{id: b, uses: db.cut, with: {cluster: c, region: source, original: true}}",
    "{id: b, uses: db.cut, for_each: [c], with: {cluster: c, region: source, original: true}}",
    "{id: b, uses: db.lose, with: {cluster: c, region: source}}",
]


@pytest.mark.parametrize("breaks", BREAKS)
@pytest.mark.parametrize("before", ["", CONSENT % ("chaos-owner", 1), CONSENT % ("incident-commander", 2)])
def test_what_takes_two_persons_consent_is_refused_without_it(tmp_path: Path, breaks: str, before: str) -> None:
    (found,) = messages(tmp_path, before + f"  - {breaks}\n")
    assert found.endswith("breaks what takes two persons' consent, and nobody is asked before")


@pytest.mark.parametrize("breaks", BREAKS)
def test_behind_their_consent_it_is_permitted(tmp_path: Path, breaks: str) -> None:
    steps = CONSENT % ("chaos-owner", 2) + f"  - {breaks}\n"
    assert "b" in {step.id for step in plan(tmp_path, HEAD + "steps:\n" + steps).steps}


def test_a_copy_takes_nobodys_consent(tmp_path: Path) -> None:
    steps = "  - {id: b, uses: db.cut, with: {cluster: c, region: source}}\n"
    assert plan(tmp_path, HEAD + "steps:\n" + steps).step("b").needs == ()


# Other refusals


def test_what_must_not_be_repeated_is_not_retried(tmp_path: Path) -> None:
    for repeats in (", retry: {times: 2}", ", on_failure: retry"):
        assert messages(tmp_path, FENCE % "" + PROMOTE % repeats) == [
            "db.promote must not be repeated without asking: its effect could happen twice"
        ]


def test_a_cycle_is_named(tmp_path: Path) -> None:
    steps = SCALE % ("a", ", needs: [c]") + SCALE % ("b", "") + SCALE % ("c", "")
    assert messages(tmp_path, steps) == ["these steps wait for each other: a -> c -> b -> a"]
    assert messages(tmp_path, SCALE % ("a", ", needs: [a]")) == ["a needs itself"]


def test_two_steps_of_one_id(tmp_path: Path) -> None:
    assert messages(tmp_path, SCALE % ("a", "") + SCALE % ("a", "")) == ['"a" is the id of the step in line 12 already']


def test_references_are_checked_against_the_parameter_they_are_meant_for(tmp_path: Path) -> None:
    steps = (
        SCALE % ("a", "")
        + '  - {id: b, uses: k8s.scale, with: {deployment: "${ steps.a.state }", to: "${ steps.a.state }"}}\n'
        + '  - {id: c, uses: k8s.scale, with: {deployment: x, to: "${ steps.d.ready }", wait: "${ steps.a.lag }"}}\n'
        + '  - {id: d, uses: k8s.scale, with: {deployment: "${ steps.a.zones } x", to: "${ steps.z.ready }"}}\n'
        + '  - {id: e, uses: k8s.scale, with: {deployment: "${ steps.a.redy }", to: "${ steps.go.x }"}}\n'
    )
    assert messages(tmp_path, steps) == [
        "steps.a.state does not fit to: it is text, and a whole number is needed",
        "d need not have ended by then",
        "steps.a.lag does not fit wait: it may be missing",
        "steps.a.zones does not fit deployment: it is a list and cannot stand inside a text",
        'there is no step "z"',
        'the answer of k8s.replicas has no "redy"',
        'there is no step "go"',
    ]


def test_what_may_be_skipped_needs_a_way_out(tmp_path: Path) -> None:
    optional = SCALE % ("a", ", optional: true")
    use = '  - {id: b, uses: k8s.scale, with: {deployment: x, to: "%s"}}\n'
    assert messages(tmp_path, optional + use % "${ steps.a.ready }") == [
        "steps.a.ready does not fit to: it may be missing"
    ]
    guarded = use % "${ has(steps.a.ready) ? steps.a.ready : 1 }"
    made = plan(tmp_path, HEAD + "steps:\n" + optional + guarded)
    assert made.step("b").params["to"] == "${ has(steps.a.ready) ? steps.a.ready : 1 }"


def test_gates_observe_nothing(tmp_path: Path) -> None:
    gate = '  - {id: go, uses: ask.approve, with: {role: x}, verify: "true", retry: {}, hold: 1s}\n'
    read = '  - {id: a, uses: k8s.scale, with: {deployment: x, to: "${ steps.go.answer }"}}\n'
    assert messages(tmp_path, gate + read) == [
        "ask.approve observes nothing, so nothing can be verified",
        "ask.approve waits for people: it has no retry",
        "ask.approve waits for people: it has no hold",
        "go is a gate and observes nothing",
    ]


def test_a_value_that_is_not_there_is_a_mistake_of_the_file(tmp_path: Path) -> None:
    found = messages(tmp_path, SCALE.replace("d,", '"${ environment.dns.zone }",') % ("a", ""))
    assert found == ["${ environment.dns.zone }: environment.dns has no zone"]


def test_values_and_sites_of_the_wrong_kind(tmp_path: Path) -> None:
    steps = (
        '  - {id: a, uses: k8s.scale, with: {deployment: "${ params.replicas }", to: -1, wait: 30}}\n'
        "  - {id: b, uses: k8s.scale, with: {deployment: x, to: 1, region: onprm}}\n"
        '  - {id: c, uses: k8s.scale, with: {deployment: x, to: "24", labels: {a: 1}}}\n'
    )
    assert messages(tmp_path, steps) == [
        "deployment must be text, not 24 (${ params.replicas })",
        "to -1 must be greater than or equal to 0",
        "wait 30 has no unit",
        'there is no site "onprm" in lab',
        'to must be a whole number, not "24"',
        "a must be text, not 1",
    ]


def test_a_hold_reference_must_be_a_duration(tmp_path: Path) -> None:
    for reference, message in (
        ("${ params.replicas }", None),
        ("${ params.nope }", 'params has no "nope"'),
        ("x ${ params.hold }", "text and references cannot be mixed here"),
        ("${ mode }", 'mode: "ungraceful" is not a duration'),
    ):
        steps = SCALE % ("a", f', hold: "{reference}"')
        if message is None:
            assert messages(tmp_path, steps) == ["params.replicas is a whole number, not a duration"]
        else:
            assert messages(tmp_path, steps) == [message]


# Warnings


def test_warnings(tmp_path: Path) -> None:
    text = (
        "apiVersion: drkit/v1\nkind: Runbook\nmetadata: {name: x, owner: y}\nsteps:\n"
        + "  - {id: freeze, uses: cloud.freeze, with: {cluster: c, region: source}}\n"
        + FENCE % "" + PROMOTE % ""
        + "  - {id: late, uses: ask.approve, with: {role: auditor}}\n"
    )  # fmt: skip
    assert list(plan(tmp_path, text).warnings) == [
        "late waits for a person after the point of no return (promote): users wait in the outage until it is answered",
        "freeze (cloud.freeze) needs the control plane of us-east-1, which may be what is down",
        "unfenced: freeze and promote: their targets cannot refuse a command from a run that has lost its lease",
        "nobody in lab has the role auditor, which late needs an answer from",
        "no recovery time objective is set: the recovery time has nothing to be compared with",
        "no data-loss objective is set: the loss has nothing to be compared with",
        "recovered_when is not set: that the service is back is not confirmed",
    ]
    tolerant = text.replace("region: source}}\n", "region: source}, optional: true}\n", 1)
    assert not any("control plane" in warning for warning in plan(tmp_path, tolerant).warnings)


def test_the_same_file_makes_the_same_plan(tmp_path: Path) -> None:
    assert plan(tmp_path, GOOD).hash == plan(tmp_path, GOOD).hash
    again = Plan.model_validate_json(plan(tmp_path, GOOD).model_dump_json(by_alias=True))
    assert again.hash == plan(tmp_path, GOOD).hash
