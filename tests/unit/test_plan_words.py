"""What is made for people and editors from the catalog and a plan: schema, explain, the plan on paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from plan_fakes import GOOD, HEAD, approve, catalog, cut, environment, promote, scale, write, writer
from test_plan_scenarios import GOOD as SCENARIO

from drkit.catalog import Action, Catalog, Probe
from drkit.errors import UsageError
from drkit.plan import files, yaml
from drkit.plan.explain import example, explain
from drkit.plan.manual import manual
from drkit.plan.resolve import resolve
from drkit.plan.schema import schema


def complaints(kind: str, text: str, known: Catalog | None = None) -> list[str]:
    validator = jsonschema.Draft202012Validator(schema(kind, known or catalog()))
    found = validator.iter_errors(yaml.parse(text.encode(), "x").data)
    return ["/".join(str(part) for part in error.path) for error in found]


@pytest.mark.parametrize("kind", ["runbook", "scenario"])
def test_schemas_are_schemas_without_tuples(kind: str) -> None:
    made = schema(kind, catalog())
    jsonschema.Draft202012Validator.check_schema(made)
    assert "prefixItems" not in str(made)
    assert made["$schema"].endswith("2020-12/schema")


def test_an_unknown_kind_of_file() -> None:
    with pytest.raises(UsageError) as error:
        schema("runbok")
    assert error.value.hint == "did you mean runbook?"


def test_the_schema_permits_what_loads() -> None:
    assert complaints("runbook", GOOD) == []
    assert complaints("scenario", SCENARIO) == []


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ('to: "${ params.replicas }"', "to: many", "steps/0/with/to"),
        ('to: "${ params.replicas }"', "to: 3, too: 4", "steps/0/with"),
        ("uses: db.fence", "uses: db.fenc", "steps/2/uses"),
        ("with: {cluster: checkout, region: source}", "", "steps/2"),
        ("timeout: 5m", "timeout: 5", "steps/1/with/timeout"),
        ("uses: k8s.replicas, with: {deployment: checkout, region: target}", "uses: k8s.scale", "probes/web/uses"),
        ("rto: 15m", "rtoo: 15m", "objectives"),
        ("needs: [promote, scale]", "needs: promote", "steps/4/needs"),
    ],
)
def test_the_schema_refuses_what_does_not(old: str, new: str, where: str) -> None:
    assert old in GOOD
    assert where in complaints("runbook", GOOD.replace(old, new))


def test_references_are_permitted_at_every_leaf() -> None:
    step = '  - {id: x, uses: k8s.scale, with: {deployment: "${ a.b }", to: "${ a.b }", wait: "${ a.b }", %s}}\n'
    for leaf in ('labels: {a: "${ a.b }"}', 'zones: ["${ a.b }"]', 'zones: "${ a.b }"', 'region: "${ a.b }"'):
        assert complaints("runbook", HEAD + "steps:\n" + step % leaf) == [], leaf


def test_a_fault_is_no_step_and_a_step_is_no_fault() -> None:
    assert "steps/2/uses" in complaints("runbook", GOOD.replace("db.fence", "db.cut"))
    assert "method/0/inject" in complaints("scenario", SCENARIO.replace("db.cut", "db.promote"))


def test_the_schema_of_what_is_installed_takes_the_shipped_files() -> None:
    root = Path(__file__).parents[2]
    for kind in ("runbook", "scenario"):
        for path in (root / f"{kind}s").glob("*.yaml"):
            assert complaints(kind, path.read_text(), Catalog()) == [], path


# Explain


def test_explain_says_what_an_author_and_an_operator_need() -> None:
    assert (
        explain(scale)
        == """\
k8s.scale   action

Scale a deployment and wait until that many replicas are ready.

Send the wanted number.

  touches      the site its parameter names
  needs        only what already runs (data plane)
  observed by  k8s.replicas
  repeat       safe: may be sent again: however often it runs, the final state is the same
  undo         yes
  timeout      90 s unless the step says otherwise
  unfenced     its target cannot refuse a command from a run that has lost its lease

Parameters
  deployment  text          required          Its name.
  region      site          default "target"  Where it runs.
  to          whole number  required          Replicas wanted.
  wait        duration      default 30.0 s    How long one attempt waits.
  labels      mapping       default {}        Labels to set.
  zones       list of text  default []        Zones to spread over.

Answer (what `now` and `${ steps.ID. }` have)
  answered_by  text                 may be missing  Identity of who answered, where that can be had.
  desired      whole number
  ready        whole number
  state        running or starting
  lag          duration             may be missing
  lag_s        seconds
  images       mapping
  zones        list of text

Example
  - {id: my-step, uses: k8s.scale, with: {deployment: deployment, to: 1}}"""
    )


def test_explain_says_what_cannot_be_undone_and_what_a_promotion_needs() -> None:
    said = explain(promote)
    assert "undo         no: there is no way back" in said
    assert "repeat       ask: is never sent again by itself" in said
    assert "promotes     a fence must be certain to be done before it" in said
    assert explain(writer).startswith("db.writer   probe")
    assert explain(cut).startswith("db.cut   fault")
    assert "Answer" not in explain(approve)


def test_every_example_of_what_is_installed_loads(tmp_path: Path) -> None:
    for entry in Catalog().load_all().values():
        if isinstance(entry, Action) and entry.fault:
            continue
        guard = "  - {id: fence, uses: postgres.fence, with: {database: orders, site: source}}\n"
        text = HEAD.replace("k8s.replicas", "measure.users").replace(
            ", with: {deployment: checkout, region: target}", ""
        )
        text = text.replace("probes.web.ready >= 1", "true") + "steps:\n" + guard + f"  {example(entry)}\n"
        files.check(write(tmp_path, text))
        assert explain(entry)
        assert isinstance(entry, Probe) or entry.doc


# The plan on paper


def paper(folder: Path, **more: Any) -> str:
    around = environment()
    made = resolve(
        files.load_runbook(write(folder, GOOD)), around, catalog(), source="us-east-1", target="us-west-2"
    )  # fmt: skip
    return manual(made, catalog(), environment=around, **more)


def test_the_plan_on_paper_names_owner_command_and_check(tmp_path: Path) -> None:
    text = paper(tmp_path)
    assert text.startswith("checkout   FROM us-east-1 -> TO us-west-2   LAB   lab (..0001)\n0 of 6 steps are done.")
    assert (
        "[ ] 4. promote   (id promote, owner nobody named, at us-west-2, after fence)\n"
        "      ONLY AFTER the fence (fence) was seen to hold: two writers lose data\n"
        "      POINT OF NO RETURN: there is no way back\n"
        "      do     dbctl promote checkout --at us-west-2\n"
        "      check  db.writer: Look who writes.\n"
    ) in text
    assert '      with   k8s.scale {"deployment": "checkout", "region": "us-west-2", "to": 24' in text
    assert "      ask    incident-commander: go\n" in text
    assert "      check  now.ready == params.replicas\n      hold   it must stay so for 10:00\n" in text
    assert "The service is back when this holds:  probes.web.ready >= 1" in text


def test_what_is_done_is_ticked_and_what_is_uncertain_says_look_first(tmp_path: Path) -> None:
    statuses = {"scale": "done", "go": "skipped", "fence": "uncertain", "promote": "waiting"}
    text = paper(tmp_path, statuses=statuses, rendered={"more": {"to": 7, "deployment": "web-24"}})
    assert "2 of 6 steps are done." in text
    assert "[x] 1. scale   (id scale, owner nobody named, at us-west-2)\n[-] 2. go" in text
    assert "[!] 3. fence" in text
    assert "      now    outcome unknown: run the check first; only if it does not hold, do it (again)\n" in text
    assert '{"deployment": "web-24", "region": "us-west-2", "to": 7' in text
