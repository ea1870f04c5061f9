"""What screens say, from made-up states: pure."""

from __future__ import annotations

import pytest

from drkit.cli.asking import confirmed, despite
from drkit.cli.closest import closest
from drkit.cli.doctor import needed_in
from drkit.cli.evidence import Evidence, judge
from drkit.cli.gating import loss_seen
from drkit.cli.screen import Line, fitting, header, lines, next_words
from drkit.cli.settings import Settings
from drkit.engine.fold import Run
from drkit.errors import Refused, UsageError
from drkit.model import events as e
from drkit.model.environment import Environment, Site, Witness
from drkit.model.plan import Plan, PlanProbe, PlanStep
from drkit.model.values import Json

ME: dict[str, Json] = {"name": "dana", "uid": 7, "how": "terminal"}


def plan(**more: object) -> Plan:
    steps = (
        PlanStep(id="scale", number=1, uses="k8s.scale", kind="action", repeat="safe", site="b"),
        PlanStep(id="go", number=2, uses="gate.approve", kind="gate", params={"role": "ic"}, needs=("scale",)),
        PlanStep(
            id="promote", number=3, uses="pg.promote", kind="action", irreversible="it is", needs=("go",), site="b",
        ),
    )  # fmt: skip
    known = {
        "runbook": "checkout", "runbook_digest": "sha256:9f", "environment": "live", "environment_kind": "staging",
        "account": "x", "source": "a", "target": "b", "catalog": "sha256:0", "drkit": "0", "steps": steps,
    }  # fmt: skip
    return Plan.model_validate({"schema": "drkit.plan/1", **known, **more})


def begun(kind: str = "failover") -> Run:
    run = Run(plan())
    run.take(
        e.Opened(
            run="k7qd", run_kind=kind, plan=run.plan.model_dump(mode="json", by_alias=True), plan_hash=run.plan.hash,
            drkit="0", catalog="", by=ME, host="h", wall=1_000_000.0,
        )
    )  # fmt: skip
    run.take(e.LeaseChanged(state="held", token=1))
    run.take(e.Began(by=ME))
    return run


def test_the_header_says_from_where_to_where_in_what_and_who() -> None:
    told = header(begun().state, 1_000_000.0)
    for word in ("checkout k7qd", "FROM a -> TO b", "LIVE", "by dana", "13:46:40 UTC"):
        assert word in told


def test_a_failed_step_says_why_and_what_to_type() -> None:
    run = begun()
    run.take(e.Failed(step="scale", attempt=1, error="quota reached", world="untouched"))
    marks = {line.step: (line.mark, line.detail) for line in lines(run.state, 1.0)}
    assert marks["scale"] == ("FAIL", "quota reached")
    assert marks["promote"][0] == "-" and "POINT OF NO RETURN" in marks["promote"][1]
    assert next_words(run.state, alive=True)[-1] == "Next: drkit retry k7qd scale"
    assert next_words(run.state, alive=False)[-1].startswith("Next: drkit resume k7qd")


def test_a_low_screen_keeps_what_matters_and_says_what_it_leaves_out() -> None:
    many = [Line("OK", str(n), f"s{n}", "", "") for n in range(30)]
    many += [Line("RUN", "30", "now", "", "")] + [Line("-", str(n), f"s{n}", "", "") for n in range(31, 47)]
    shown = fitting(many, 12)
    assert len(shown) == 12 and any(line.step == "now" for line in shown)
    assert shown[-1].detail.startswith("26 above (26 ended), 10 below")
    assert fitting(many, 60) == many


def test_a_low_screen_tells_what_ended_well_by_its_heading_alone() -> None:
    ended = [Line("OK", "", f"all/{n}", "", "", depth=1, over=True) for n in range(30)]
    many = [Line("OK", "1", "all", "", "30 of 30 entries"), *ended, Line("RUN", "2", "now", "", "")]
    assert [line.step for line in fitting(many, 12)] == ["all", "now"]
    assert fitting(many, 60) == many
    assert many[1].cells[2] == "  all/0"  # below its heading, under the name that is typed


def test_evidence_that_cannot_be_had_is_no_go() -> None:
    asked = plan(decide="probes.lag.loss_s < 5.0 && probes.region.failing >= 2",
                 probes={"lag": PlanProbe(uses="pg.lag"), "region": PlanProbe(uses="measure.impairment")})  # fmt: skip
    good = judge(asked, {"lag": {"loss_s": 1.0}, "region": {"failing": 3}}, {})
    assert good.go and [term.verdict for term in good.terms] == ["GO", "GO"]
    bad = judge(asked, {"lag": {"loss_s": 9.0}, "region": {"failing": 3}}, {})
    assert (bad.verdict, [term.verdict for term in bad.terms]) == ("NO-GO", ["NO-GO", "GO"])
    silent = judge(asked, {"lag": None, "region": {"failing": 3}}, {"lag": "no answer within 6 s"})
    assert silent.verdict == "?" and "no answer within 6 s" in silent.reason
    assert judge(plan(), {}, {}).verdict == "?"


def test_a_healthy_source_takes_its_own_name_and_a_planned_move_does_not() -> None:
    nobody, no = Settings(ask=False), Evidence("NO-GO", "all is well", (), {}, {})
    with pytest.raises(Refused, match="does not say go"):
        despite(nobody, plan(), no, None)
    with pytest.raises(Refused, match="was not named"):
        despite(nobody, plan(), no, "b")
    assert despite(nobody, plan(), no, "a") == "a"
    assert despite(nobody, plan(mode="graceful"), no, None) is None
    with pytest.raises(UsageError, match="must be confirmed"):
        confirmed(nobody, "b is activated", "b", "--confirm", None)


def test_the_loss_to_expect_is_unknown_never_zero() -> None:
    assert loss_seen({"lag": {"loss_s": None}}, 0.0) == ("lag", None)
    assert loss_seen({"lag": {"canary_age_s": None}}, 60.0) == ("lag", None)
    assert loss_seen({"x": {"y": 1}, "lag": {"loss_s": 2}}, 0.0) == ("lag", 2.0)
    assert loss_seen({"lag": None}, 0.0) is None


def test_an_outage_makes_a_canary_older_and_what_is_lost_no_less() -> None:
    assert loss_seen({"lag": {"canary_age_s": 100.0}}, 0.0) == ("lag", 100.0), "they may still write"
    assert loss_seen({"lag": {"canary_age_s": 100.0}}, 60.0) == ("lag", 40.0)
    assert loss_seen({"lag": {"canary_age_s": 59.0}}, 60.0) == ("lag", 0.0)
    assert loss_seen({"positions": {"loss_s": 40.0}}, 60.0) == ("positions", 40.0), "that does not grow in an outage"


def test_doctor_names_what_stands_in_the_region_that_may_be_lost() -> None:
    sites = (Site(name="a", kind="region"), Site(name="b", kind="region"))
    witness = Witness(name="w", site="a", url="http://127.0.0.1", term_s=3, margin_s=1)
    bad = Environment(name="live", kind="staging", account="x", sites=sites, witness=witness, state_store="s3://s/p",
                      state_store_site="a")  # fmt: skip
    assert [verdict for verdict, _ in needed_in(bad, "a")] == ["FAIL", "FAIL"]
    assert [verdict for verdict, _ in needed_in(bad, "b")] == ["OK"]


def test_closest_is_quiet_when_nothing_is_close() -> None:
    assert closest("zzzz", ["us-west-2"]) == []
