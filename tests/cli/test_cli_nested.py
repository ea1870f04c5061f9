"""What users see of nested runbooks, lists, escalation and a deadline: a real run with all of them, on every screen."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest
from cli_lab import Lab, end_runners, status, until

GO = ("failover", "--region", "us-west-2", "--confirm", "us-west-2", "--detach")
HEAD = "apiVersion: drkit/v1\nkind: Runbook\nmetadata: {{name: %s, owner: %s}}\n"
WALK = (
    HEAD % ("walk", "nobody")
    + """
deadline: 2s
probes:
  start: {{uses: process.exists, with: {{creates: "{folder}/go"}}}}
decide: "probes.start.exists"
steps:
  - {{id: look, uses: process.proof, with: {{proof: [printf, stock]}}, verify: "now.exit_code == 0"}}
  - id: databases
    title: Restore every database
    uses: runbook/restore
    for_each: "${{ ['orders', 'carts', steps.look.output] }}"
    at_once: 2
    with: {{name: "${{ each }}"}}
  - id: agree
    uses: gate.approve
    needs: []
    with: {{role: boss, question: "Go on?", escalate: [{{after: 1s, role: incident-commander}}]}}
  - id: zones
    uses: process.run
    for_each: [West 1, West 2]
    needs: [agree]
    with: {{creates: "{folder}/made/zone-${{ index }}", argv: [touch, "{folder}/made/zone-${{ index }}"]}}
  - {{id: last, uses: runbook/check, when: "params.more", with: {{what: orders}}, needs: [databases, zones]}}
parameters: {{more: {{default: true}}}}
"""
)
RESTORE = (
    HEAD % ("restore", "dba")
    + """
parameters: {{name: {{default: none, description: Which database}}}}
steps:
  - id: load
    title: Load it
    uses: process.run
    with:
      creates: "{folder}/made/${{ params.name }}"
      argv: [sh, -c, "test ${{ params.name }} != carts -o -e {folder}/mended && touch {folder}/made/${{ params.name }}"]
  - {{id: check, uses: runbook/check, with: {{what: "${{ params.name }}"}}}}
"""
)
CHECK = (
    HEAD % ("check", "dba")
    + """
parameters: {{what: {{default: none}}}}
steps:
  - {{id: there, uses: process.exists, with: {{creates: "{folder}/made/${{ params.what }}"}}, verify: "now.exists"}}
"""
)


@pytest.fixture
def nested(lab: Lab, private_state_home: Path) -> Iterator[Lab]:
    """The lab with a runbook that nests two deep."""
    for name, text in (("walk", WALK), ("restore", RESTORE), ("check", CHECK)):
        (lab.folder / "runbooks" / f"{name}.yaml").write_text(text.format(folder=lab.folder))
    yield lab
    end_runners(private_state_home)


def text(lab: Lab, *words: str, code: int = 0) -> str:
    """Result and talk of a command that ends so."""
    found = lab.drkit(*words)
    assert found.returncode == code, found
    assert "Traceback" not in found.stderr
    return found.stdout + found.stderr


def data(lab: Lab, *words: str) -> Any:
    return json.loads(lab.drkit(*words, "-o", "json").stdout)


def row(told: str, id: str) -> str:
    """The line of a table in which this step stands."""
    return next(line for line in told.splitlines() if id in line.split())


def order(told: str, ids: list[str]) -> list[str]:
    """These ids as they come in the lines."""
    return [word for line in told.splitlines() for word in line.split()[:3] if word in ids]


def test_a_plan_tells_what_is_done_for_any_entry_and_who_is_asked_when(nested: Lab) -> None:
    told = text(nested, "plan", "--region", "us-west-2")
    assert order(told, ["databases", "databases/*", "databases/*/load", "zones", "zones/1", "last", "last/there"]) == [
        "databases", "databases/*", "databases/*/load", "zones", "zones/1", "last", "last/there",
    ]  # fmt: skip
    assert "for each of ['orders', 'carts'," in row(told, "databases")
    assert "asks boss; incident-commander too after 1.0 s" in told
    assert "is last needed?" in row(told, "last/_when")
    assert "9 steps, and 4 for each entry of databases: 3 changes, 3 irreversible, 1 approvals." in told.replace(
        "\n", " "
    )
    assert "deadline 2.0 s after the go" in told
    paper = text(nested, "plan", "--region", "us-west-2", "--manual", "-")
    assert "Deadline: 2.0 s after the go" in paper
    assert "what databases/* says below, for each entry of ['orders', 'carts', steps.look.output]" in paper
    assert "params.name is ${ each }" in paper
    assert "incident-commander may answer too, when nobody has after 1.0 s" in paper
    assert "Next: 1 look," in paper


def test_a_graph_unfolds_what_the_file_knows_and_a_run_what_it_found(nested: Lab) -> None:
    told = text(nested, "graph", "walk")
    assert re.search(r'databases\[\["databases: Restore every database, for each of .*, 2 at once"\]\]', told)
    assert 'subgraph zones["zones: process.run"]' in told and 'zones_1["zones/1: process.run"]' in told
    assert told.count("subgraph ") == len(re.findall(r"^ +end$", told, re.MULTILINE)) == 2
    assert text(nested, "graph", "wlak", code=2).count("did you mean walk?") == 1
    known = data(nested, "graph", "walk")
    ids = {step["id"] for step in known["steps"]}
    assert {edge[key] for edge in known["edges"] for key in ("from", "to")} <= ids
    text(nested, *GO, code=0)
    until(lambda: "databases/carts/load" in {block["step"] for block in status(nested)["waiting_for"]})
    run = text(nested, "graph", "last")
    assert 'databases_orders_load["databases/orders/load: Load it (done)"]' in run
    assert 'databases_carts_load["databases/carts/load: Load it (failed)"]' in run


def test_every_screen_of_a_run_that_failed_below_a_list_escalated_and_passed_its_deadline(nested: Lab) -> None:
    text(nested, *GO)
    until(lambda: status(nested)["overdue"])
    told = text(nested, "status")
    ids = ["look", "databases", "databases/orders", "databases/orders/load", "databases/carts/load", "agree", "zones"]
    assert order(told, ids) == ids
    assert "Restore every database: 2 of 3 entries, 1 failed" in row(told, "databases")
    assert "0 of 2 steps, 1 failed" in row(told, "databases/carts")
    assert "role boss or incident-commander" in row(told, "agree")
    assert "West 1: process.run" in row(told, "zones/0")
    assert "deadline 2.0 s, passed" in told
    assert "its deadline of 2.0 s has passed" in told
    assert not re.search(r"^\S+ +0 ", told, re.MULTILINE)  # nothing is number 0
    handed = text(nested, "handover")
    assert "databases: Restore every database: 2 of 3 entries, 1 failed" in handed
    assert "failed: databases/carts/load" in handed
    paper = text(nested, "status", "--manual")
    assert "Next: databases/carts/load, 3 agree." in paper
    assert "databases/*" not in paper and f"{nested.folder}/made/carts" in paper
    assert "databases/stock/load" in text(nested, "logs", "last", "databases")
    logged = text(nested, "logs", "last", "databases/carts")
    assert "FAIL" in logged and "databases/orders" not in logged
    text(nested, "logs", "last", "databases/cart", code=2)
    everything = text(nested, "logs")
    assert "incident-commander is asked too" in everything and "deadline of 2.0 s has passed" in everything


def test_names_that_are_shown_are_names_that_can_be_typed(nested: Lab) -> None:
    text(nested, *GO)
    until(lambda: status(nested)["overdue"])
    stands = status(nested)
    for name in (step["id"] for step in stands["steps"]):
        assert shlex.quote(name) == name  # no shell sees anything in it
    whole = text(nested, "inspect", "last", "databases", code=2)
    assert "drkit inspect" in whole and "databases/carts/load" in whole
    seen = data(nested, "inspect", "last", "databases/carts/check/there")
    assert seen["params"]["creates"] == f"{nested.folder}/made/carts"
    assert "databases/carts/load is failed" in text(nested, "retry", "last", "databases", code=3)
    assert "databases/carts/load" in text(nested, "retry", "last", "databases/carts/laod", code=2)
    assert "only a step whose outcome is unknown" in text(
        nested, "resolve", "last", "databases/carts/load", "--as", "done", code=3
    )
    (nested.folder / "mended").touch()
    # The command that the screen prints, as it prints it.
    command = next(each["command"] for each in stands["waiting_for"] if each["step"] == "databases/carts/load")
    assert shlex.split(command)[0] == "drkit"
    text(nested, "resume", "last", "--detach")
    text(nested, *shlex.split(command)[1:])
    text(nested, "approve", "last", "agree", "--reason", "yes")
    until(lambda: status(nested)["outcome"] == "done")
    assert {"carts", "orders", "stock", "zone-0", "zone-1"} == set(nested.made)
    reported(nested)
    assert data(nested, "replay", "last")["differences"] == 0


def reported(lab: Lab) -> None:
    """The report of the finished run, in each form."""
    told = data(lab, "report", "last", "--format", "json")
    assert told["deadline"] == {"seconds": 2.0, "passed": True}
    ids = [step["id"] for step in told["steps"]]
    assert (
        ids.index("databases") < ids.index("databases/orders") < ids.index("databases/orders/load") < ids.index("agree")
    )
    numbers = {step["id"]: step["number"] for step in told["steps"]}
    assert (numbers["look"], numbers["databases"], numbers["databases/orders/load"], numbers["agree"]) == (
        1,
        2,
        None,
        3,
    )
    # What stands for others takes no time: it is on no path.
    assert not {"databases", "databases/carts", "zones", "last"} & set(told["critical_path"])
    assert told["critical_path"][-1] == "last/there"
    page = text(lab, "report", "last", "--format", "md")
    assert "Restore every database (`databases`) | done |  |  | 3 of 3 entries" in page
    assert "| Nobody has answered: agree | incident-commander is asked too |" in page
    assert "| Deadline passed |" in page and "2 s after the go: passed" in page
    assert '"answered_by": null' not in page  # results of results are for machines
    cases = fromstring(lab.drkit("report", "last", "--format", "junit").stdout).findall("testsuite[2]/testcase")
    assert [case.get("name") for case in cases][:3] == ["1 look", "2 databases", "databases/orders"]
    html = text(lab, "report", "last", "--format", "html")
    assert "3 of 3 entries" in html and "deadline 2 s: passed" in html


def test_what_only_the_run_will_know_cannot_be_left_out_before(nested: Lab) -> None:
    told = text(nested, *GO[:-1], "--dry-run", "--skip", "databases/orders", "--reason", "x", code=2)
    assert "known only when look has ended" in told and "drkit skip RUN databases/ENTRY" in told
    assert "--skip last" in text(nested, *GO[:-1], "--dry-run", "--skip", "last/_when", "--reason", "x", code=3)
    text(nested, *GO[:-1], "--dry-run", "--skip", "zones/1", "--reason", "x")
    assert nested.made == []


def test_a_nested_runbook_explains_what_it_takes(nested: Lab) -> None:
    told = text(nested, "explain", "runbook/restore")
    assert "Which database" in told and "uses: runbook/restore, with: {name: none}" in told and "for_each:" in told
    assert "did you mean restore?" in text(nested, "explain", "runbook/restor", code=2)
    assert "{after, role}" in text(nested, "explain", "gate.approve")


STEP = "uses: process.exists, with: {creates: /x}"
GATE = "uses: gate.approve, with: {role: incident-commander, "


@pytest.mark.parametrize(
    ("lines", "place", "said", "fix"),
    [
        (f"steps:\n  - {{id: a, for_each: orders, {STEP}}}", "5:23", "must be a list", "for_each: [orders"),
        (f"steps:\n  - {{id: a, for_each: {{b: 1}}, {STEP}}}", "5:23", "must be a list", "for_each: [orders"),
        (f"steps:\n  - {{id: a, for_each: , {STEP}}}", "5:13", "names no list", "for_each: [orders"),
        (f'steps:\n  - {{id: a, for_each: "${{ target }}", {STEP}}}', "5:27", "a list is needed", "for_each: [orders"),
        (f"steps:\n  - {{id: b, {STEP}}}\n  - {{id: a, for_each: \"${{ steps.b.exists }}\", {STEP}}}",
         "6:27", "it is true or false, and a list is needed", "for_each: [orders"),
        (f"steps:\n  - {{id: a, for_each: [x], at_once: 0, {STEP}}}", "5:37", "at_once 0 must be", "write 1 or more"),
        (f"steps:\n  - {{id: a, at_once: 2, {STEP}}}", "5:13", "there is none", "leave at_once out"),
        ("steps:\n  - {id: a, uses: runbook/bad}", "5:19", "carry each other out: bad -> bad", "take this step out"),
        ("steps:\n  - {id: a, uses: runbook/chek}", "5:19", 'no runbook "chek"', "did you mean check?"),
        ("steps:\n  - {id: a, uses: runbook/check, timeout: 5m}", "5:34", "timeout belongs", "move timeout"),
        (f"deadline: 5 minuts\nsteps:\n  - {{id: a, {STEP}}}", "4:11", "is not a duration", "write 90s, 5m or 1h"),
        (f"deadline: 5\nsteps:\n  - {{id: a, {STEP}}}", "4:11", "has no unit", "write 90s, 5m or 1h"),
        (f"deadline: 0s\nsteps:\n  - {{id: a, {STEP}}}", "4:11", "must be greater than 0", "write more than 0"),
        (f"steps:\n  - {{id: a, {GATE}escalate: [{{after: 5m, role: incident-comander}}]}}}}",
         "5:95", "nobody in lab has the role incident-comander", "did you mean incident-commander?"),
        (f"steps:\n  - {{id: a, {GATE}escalate: [{{after: 5 minuts, role: incident-commander}}]}}}}",
         "5:85", "is not a duration", "write 90s, 5m or 1h"),
        (f"steps:\n  - {{id: a, {GATE}timeout: 5m, escalate: [{{after: 5m, role: incident-commander}}]}}}}",
         "5:39", "the timeout is 300 s", "ask sooner"),
        (f"steps:\n  - {{id: a, for_each: [x], {STEP}}}\n  - {{id: a/x, {STEP}}}",
         "6:10", 'id "a/x"', "use small letters"),
        (f"steps:\n  - {{id: a, for_each: [x], {STEP}}}\n  - {{id: b, needs: [a/x], {STEP}}}",
         "6:21", 'no step "a/x"', "write a, which ends when all of it has"),
        (f"steps:\n  - {{id: a, for_each: [x], {STEP}}}\n"
         "  - {id: b, uses: process.exists, with: {creates: \"${ steps.a.x.exists }\"}}",
         "6:63", "is a list and has no x", "write steps.a[0].x"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_where_it_stands_with_what_to_write(
    nested: Lab, lines: str, place: str, said: str, fix: str
) -> None:
    path = nested.folder / "runbooks" / "bad.yaml"
    path.write_text((HEAD % ("bad", "me")).format() + lines + "\n")
    told = text(nested, "--env", "lab", "validate", "runbooks/bad.yaml", code=2)
    assert f"runbooks/bad.yaml:{place}  " in told
    assert said in told and fix in told
    assert "1 mistake " in told


def test_the_schema_for_editors_knows_all_of_it(nested: Lab) -> None:
    from drkit.plan.yaml import read

    jsonschema = pytest.importorskip("jsonschema")
    checker = jsonschema.Draft202012Validator(json.loads(text(nested, "schema", "runbook")))
    for name in ("walk", "restore", "check"):
        book = read(nested.folder / "runbooks" / f"{name}.yaml").data
        assert [error.message for error in checker.iter_errors(book)] == []
    good: Any = read(nested.folder / "runbooks" / "walk.yaml").data
    for change in ({"at_once": 0}, {"for_each": "orders"}, {"for_each": None}, {"uses": "runbook/"}):
        steps = [step | change if step["id"] == "databases" else step for step in good["steps"]]
        assert not checker.is_valid(good | {"steps": steps}), change
    assert not checker.is_valid(good | {"deadline": "5 minuts"})
