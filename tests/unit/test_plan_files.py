"""Files: every mistake at once, each with its place and a hint."""

from __future__ import annotations

from pathlib import Path

import pytest
from plan_fakes import GOOD, HEAD, catalog, environment, write

from drkit.errors import Exit, FileError, UsageError
from drkit.plan import files
from drkit.plan.resolve import resolve


def told(error: FileError) -> list[str]:
    return [f"{m.line}:{m.column} {m.message}" + (f" | {m.hint}" if m.hint else "") for m in error.mistakes]


def mistakes(tmp_path: Path, text: str) -> list[str]:
    """What the whole way from file to plan says."""
    with pytest.raises(FileError) as error:
        resolve(
            files.read_runbook(write(tmp_path, text)), environment(), catalog(), source="us-east-1", target="us-west-2"
        )
    return told(error.value)


def test_a_good_runbook_loads(tmp_path: Path) -> None:
    loaded = files.load_runbook(write(tmp_path, GOOD))
    assert loaded.runbook.metadata.name == "checkout"
    assert loaded.digest.startswith("sha256:")
    assert loaded.positions["steps", 0, "id"] == (13, 10)
    assert loaded.runbook.objectives.rto == 900


def test_five_different_mistakes_are_all_reported(tmp_path: Path) -> None:
    text = HEAD + (
        "steps:\n"
        "  - {id: scale, uses: k8s.scale, with: {deployment: checkout, too: 24, to: 24}, timeot: 5m}\n"
        "  - {id: promote, uses: db.promote, with: {cluster: checkout, region: target}}\n"
        "  - {id: smoke, uses: k8s.replica, with: {deployment: checkout}, timeout: 5 minuts}\n"
        '  - {id: check, uses: k8s.replicas, with: {deployment: x}, verify: "now.redy == 24"}\n'
    )
    assert mistakes(tmp_path, text) == [
        '12:63 unknown key "too" | did you mean to?',
        '12:81 unknown key "timeot" | did you mean timeout?',
        "13:25 promote promotes, and no fence is certain to be done before it"
        " | let it need a fence: no optional or skippable step may stand between them",
        '14:23 there is no action, probe or gate "k8s.replica" | did you mean k8s.replicas?',
        '14:75 timeout "5 minuts" is not a duration | write 90s, 5m or 1h',
        '15:73 the answer of k8s.replicas has no "redy" | did you mean ready?',
    ]  # fmt: skip


def test_mistakes_of_form(tmp_path: Path) -> None:
    text = (
        "apiVersion: drkit/v1\n"
        "kind: Runbook\n"
        "metadata: {name: Bad Name, owner: me, region: [a]}\n"
        "objectives: {rto: 15, rpo: 30x}\n"
        "steps:\n"
        "  - {id: a, uses: k8s.replicas, with: {deployment: x, deployment: y}}\n"
        "  - {id: b, uses: k8s.replicas, with: {deployment: x}, needs: [1, a]}\n"
        "  - {uses: foo}\n"
        '  - {id: d, uses: 3, optional: "true", on_failure: skp, retry: {times: 0}}\n'
        "  - foo\n"
        "  - {id: e, uses: k8s.replicas, with: {deployment: x}, hold: 10, needs: a}\n"
    )
    assert mistakes(tmp_path, text) == [
        '3:18 name "Bad Name" does not fit ^[a-z0-9][a-z0-9_.-]*$ | use small letters, digits, - and _',
        '3:39 unknown key "region" | did you mean regions?',
        "4:19 rto 15 has no unit | write 90s, 5m or 1h",
        '4:28 rpo "30x" is not a duration | write 90s, 5m or 1h',
        '6:55 "deployment" stands twice: in line 6 and in line 6',
        '7:64 entry 1 of needs must be text, not 1 | write "1"',
        '8:5 "id" is missing',
        '9:19 uses must be text, not 3 | write "3"',
        '9:32 optional must be true or false, not "true" | write it without quotes',
        "9:52 on_failure \"skp\" is not one of 'pause', 'retry', 'skip', 'rollback' or 'abort' | did you mean skip?",
        "9:72 times 0 must be greater than or equal to 1 | write 1 or more",
        '10:5 entry 5 of steps must be a mapping, not "foo"',
        "11:62 hold 10 has no unit | write 90s, 5m or 1h",
        '11:73 needs must be a list, not "a" | write [a]',
    ]


def test_mistaken_entries_do_not_move_the_places_of_those_after_them(tmp_path: Path) -> None:
    text = HEAD + (
        "steps:\n"
        "  - {id: a}\n"
        "  - {id: b, uses: k8s.replicas, with: {deployment: 5}, needs: []}\n"
    )  # fmt: skip
    assert mistakes(tmp_path, text) == [
        '12:5 "uses" is missing',
        '13:52 deployment must be text, not 5 | write "5"',
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: Scenario\n", "1:7 this is a Scenario, and a Runbook is needed here | drkit chaos run"),
        ("kind: Runbok\n", '1:7 kind "Runbok" is not known | did you mean Runbook?'),
        ("kind: 3\n", "1:7 kind 3 is not Runbook or Scenario"),
        ("- a\n", "1:1 the file must be a mapping of keys to values"),
        ("kind: Runbook\napiVersion: drkit/v1\nmetadata: {name: a, owner: b}\n", '1:1 "steps" is missing'),
    ],
)
def test_a_file_of_another_kind_is_one_mistake(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(FileError) as error:
        files.load_runbook(write(tmp_path, text))
    assert [line.startswith(message) for line in told(error.value)] == [True]
    assert error.value.exit_code == Exit.USAGE


def test_an_unknown_version_is_one_mistake_among_others(tmp_path: Path) -> None:
    text = HEAD.replace("drkit/v1", "drkit/v2") + "steps:\n  - {id: a, uses: k8s.replicas, with: {}}\n"
    assert mistakes(tmp_path, text) == [
        "1:13 apiVersion \"drkit/v2\" is not one of 'drkit/v1' | did you mean drkit/v1?",
        '12:39 "deployment" is missing',
    ]


def test_loading_a_file_of_bad_form_tells_of_bad_meaning_too(tmp_path: Path) -> None:
    text = HEAD.replace("k8s.replicas", "measure.users").replace("deployment: checkout, region: target", "") + (
        "steps:\n"
        "  - {id: look, uses: postgres.writer, with: {databse: orders, site: source}}\n"
        "  - {id: promote, uses: postgres.promote, with: {database: orders, site: target}, timeot: 5m}\n"
        "  - {id: users, uses: measure.user, timeout: 5 minuts, needs: [promot]}\n"
    )
    with pytest.raises(FileError) as error:
        files.load_runbook(write(tmp_path, text))
    assert [line.split(" ", 1)[1] for line in told(error.value)] == [
        'the answer of measure.users has no "ready"' + told(error.value)[0].partition('"ready"')[2],
        '"database" is missing',
        'unknown key "databse" | did you mean database?',
        "promote promotes, and no fence is certain to be done before it"
        " | let it need a fence: no optional or skippable step may stand between them",
        'unknown key "timeot" | did you mean timeout?',
        'there is no action, probe or gate "measure.user" | did you mean measure.users?',
        'timeout "5 minuts" is not a duration | write 90s, 5m or 1h',
        'there is no step "promot" | did you mean promote?',
    ]


def test_load_is_strict_and_read_is_not(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + "extra: 1\n")
    with pytest.raises(FileError, match='unknown key "extra"'):
        files.load_runbook(path)
    assert len(files.read_runbook(path).mistakes) == 1


def test_check_needs_no_environment(tmp_path: Path) -> None:
    files.check(write(tmp_path, GOOD), catalog=catalog())
    moved = GOOD.replace("deployment: checkout, to", 'deployment: "${ environment.service.hostname }", to')
    files.check(write(tmp_path, moved), catalog=catalog())
    with pytest.raises(FileError, match='an environment has no "servce"'):
        files.check(write(tmp_path, moved.replace("service", "servce")), catalog=catalog())


def test_the_shipped_files_are_right() -> None:
    root = Path(__file__).parents[2]
    shipped = [*(root / "runbooks").glob("*.yaml"), *(root / "scenarios").glob("*.yaml")]
    assert shipped
    for path in shipped:
        files.check(path)


def test_missing_runbook_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        files.load_runbook(tmp_path / "nope.yaml")
