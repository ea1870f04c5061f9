"""Experiment files: every mistake with its place, nothing imported, misspellings refused, oddities said."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from toolkit_lab import experiment, process, python, written

from drkit.chaos.toolkit import functions, reading
from drkit.errors import FileError, UsageError

FINE = process("look", "true", "probe")


def mistakes(folder: Path, said: dict[str, Any] | str, name: str = "experiment.json") -> list[str]:
    """What is wrong with this file, as `line:column  message`."""
    with pytest.raises(FileError) as error:
        reading.load(written(folder, said, name))
    return [f"{each.line}:{each.column}  {each.message}" for each in error.value.mistakes]


def bad(**parts: Any) -> dict[str, Any]:
    return experiment(**parts)


def probe(**more: Any) -> dict[str, Any]:
    return {**FINE, **more}


def provider(**said: Any) -> dict[str, Any]:
    return bad(method=[{"type": "probe", "name": "p", "provider": said}])


BAD_INPUT: dict[str, tuple[dict[str, Any] | str, str]] = {
    "empty file": ("", "the file is empty"),
    "not JSON": ('{"title": }', "this is not JSON"),
    "a list": ("[]", "an experiment is a mapping"),
    "nothing in it": ("{}", "an experiment is a mapping"),
    "no title": ({"description": "d", "method": []}, '"title" is missing'),
    "empty description": (bad(description=""), "description must not be empty"),
    "no method": ({"title": "t", "description": "d"}, '"method" is missing'),
    "method is a mapping": (bad(method={}), "method must be a list"),
    "misspelt rollbacks": (bad(rolbacks=[]), 'unknown key "rolbacks"'),
    "misspelt hypothesis": (bad(steady_state_hypothesis={}), 'unknown key "steady_state_hypothesis"'),
    "misspelt tolerance": (bad(probes=[probe(tolerence=True)]), 'unknown key "tolerence"'),
    "misspelt background": (bad(method=[probe(backgroud=True)]), 'unknown key "backgroud"'),
    "empty activity": (bad(method=[{}]), "an activity is a mapping"),
    "no type": (bad(method=[{"name": "x", "provider": FINE["provider"]}]), '"type" is missing'),
    "odd type": (bad(method=[probe(type="check")]), "type 'check' is neither probe nor action"),
    "no name": (bad(method=[probe(name="")]), "name must not be empty"),
    "no provider": (bad(method=[{"type": "probe", "name": "x"}]), 'an activity needs a "provider"'),
    "odd provider": (provider(type="ssh"), "a provider's type is python, process or http"),
    "no such command": (provider(type="process", path="no-such"), 'the command "no-such" cannot be found'),
    "no path": (provider(type="process"), 'a process needs "path"'),
    "no url": (provider(type="http"), 'a request needs "url"'),
    "headers are a list": (provider(type="http", url="http://x", headers=[]), "headers must be a mapping"),
    "no such module": (provider(type="python", module="no_such", func="f"), 'there is no Python module "no_such"'),
    "no such function": (provider(type="python", module="os.path", func="nope"), "os.path has no function nope"),
    "a class": (provider(type="python", module="fractions", func="Fraction"), "is a class"),
    "missing argument": (
        provider(type="python", module="os.path", func="exists"), 'required argument "path" is missing',
    ),
    "argument too many": (
        provider(type="python", module="os.path", func="exists", arguments={"path": "/", "deep": 1}),
        'argument "deep" is none of exists(path)',
    ),
    "a bound method": (provider(type="python", module="random", func="choice"), "is a method of an object"),
    "background is text": (bad(method=[probe(background="yes")]), "background must be true or false"),
    "odd pause": (bad(method=[probe(pauses={"before": "soon"})]), "a pause is seconds"),
    "negative pause": (bad(method=[probe(pauses={"after": -1})]), "a pause cannot be negative"),
    "odd timeout": (bad(method=[probe(timeout="1m")]), "timeout must be seconds"),
    "no tolerance": (bad(probes=[FINE]), 'a probe of the hypothesis needs a "tolerance"'),
    "fractional tolerance": (bad(probes=[probe(tolerance=1.5)]), "tolerance must be true or false"),
    "odd tolerance": (bad(probes=[probe(tolerance={"type": "about"})]), 'tolerance type "about"'),
    "regex without pattern": (bad(probes=[probe(tolerance={"type": "regex"})]), 'a regex tolerance needs a "pattern"'),
    "broken regex": (bad(probes=[probe(tolerance={"type": "regex", "pattern": "("})]), "no regular expression"),
    "range of three": (bad(probes=[probe(tolerance={"type": "range", "range": [1, 2, 3]})]), "two numbers"),
    "hypothesis without title": (bad(**{"steady-state-hypothesis": {}}), 'it needs "title"'),
    "ref to nobody": (bad(method=[{"ref": "nobody"}]), 'there is no activity "nobody"'),
    "rollback ref to nobody": (bad(rollbacks=[{"ref": "nobody"}]), 'there is no activity "nobody"'),
    "variable not set": (bad(configuration={"a": {"type": "env", "key": "NOT_SET_HERE"}}), "NOT_SET_HERE is not set"),
    "secret not set": (bad(secrets={"a": {"b": {"type": "env", "key": "NOT_SET_HERE"}}}), "NOT_SET_HERE is not set"),
    "secret without target": (bad(secrets={"token": "x"}), "a secret stands under a target"),
    "env without key": (bad(configuration={"a": {"type": "env"}}), 'type env needs "key"'),
    "odd env_var_type": (
        bad(configuration={"a": {"type": "env", "key": "PATH", "env_var_type": "date"}}), "env_var_type is none of",
    ),
    "control without provider": (bad(controls=[{"name": "c"}]), 'a control needs a "provider"'),
    "control of odd scope": (
        bad(controls=[{"name": "c", "scope": "during", "provider": {"type": "python", "module": "json"}}]),
        "scope is before or after",
    ),
    "control ref to nobody": (
        bad(controls=[{"name": "c", "ref": "d", "provider": {"type": "python", "module": "json"}}]), "no control",
    ),
    "odd strategy": (bad(runtime={"rollbacks": {"strategy": "sometimes"}}), "strategy is none of"),
    "twice the same key": ('{"title": "a", "title": "b", "description": "d", "method": []}', '"title" stands twice'),
    "not a number": ('{"title": "a", "description": "d", "method": [], "x": NaN}', "NaN: a number must be finite"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_is_refused_with_its_place(name: str, tmp_path: Path) -> None:
    said, why = BAD_INPUT[name]
    found = mistakes(tmp_path, said)
    assert any(why in each for each in found), found


def test_every_mistake_is_told_at_once_each_with_line_and_column(tmp_path: Path) -> None:
    text = """{
  "title": "t",
  "description": "d",
  "rolbacks": [],
  "method": [
    {"type": "probe", "name": "a", "provider": {"type": "process", "path": "no-such-command"}},
    {"type": "probe", "name": "b", "background": 3,
     "provider": {"type": "python", "module": "os.path", "func": "exists"}}
  ]
}"""
    assert mistakes(tmp_path, text) == [
        '4:3  unknown key "rolbacks"',
        '6:76  the command "no-such-command" cannot be found',
        "7:50  background must be true or false",
        '8:18  required argument "path" is missing',
    ]


def test_yaml_has_places_too_and_reads_words_as_chaos_toolkit_does(tmp_path: Path) -> None:
    text = """
title: t
description: d
method:
- type: probe
  name: in the background
  background: yes
  pauses: {after: 010}
  provider: {type: process, path: "true", arguments: ["yes", 'no']}
"""
    read = reading.load(written(tmp_path, text, "e.yaml"))
    (activity,) = read.experiment.method
    assert activity.background is True and activity.after == 8
    assert activity.raw["provider"]["arguments"] == ["yes", "no"], "what is quoted is text"
    assert [(each.line, each.message) for each in read.warnings] == [
        (7, "yes is read as true, as Chaos Toolkit reads it"),
        (8, "10 is read as 8, as Chaos Toolkit reads it"),
    ]
    found = mistakes(tmp_path, text.replace("name:", "nam:"), "e.yaml")
    assert found == ['5:3  an activity needs "name"', '6:3  unknown key "nam"']


def test_an_unknown_key_is_a_warning_and_a_misspelt_one_a_mistake_with_a_hint(tmp_path: Path) -> None:
    read = reading.load(written(tmp_path, experiment(dry_run=True, method=[{**FINE, "owner": "me"}])))
    assert [each.message for each in read.warnings] == [
        'unknown key "owner": it has no effect', 'unknown key "dry_run": it has no effect',
    ]  # fmt: skip
    with pytest.raises(FileError) as error:
        reading.load(written(tmp_path, experiment(rolbacks=[])))
    assert [each.hint for each in error.value.mistakes] == ["did you mean rollbacks?"]


def test_actions_without_rollbacks_are_warned_of(tmp_path: Path) -> None:
    read = reading.load(written(tmp_path, experiment(method=[process("break", "true")])))
    assert [each.message for each in read.warnings] == ["no rollbacks: what these actions do is undone by nobody"]


def test_nothing_that_a_file_names_is_imported_or_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "trap"
    package.mkdir()
    trap = "from pathlib import Path\nPath(__file__).with_suffix('.sprung').touch()\n"
    (package / "__init__.py").write_text(trap)
    (package / "inner.py").write_text(trap + "def act(what, how='fast', **more): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    said = experiment(
        controls=[{"name": "c", "provider": {"type": "python", "module": "trap.inner"}}],
        method=[python("act", "trap.inner", "act", "action", arguments={"what": 1, "extra": 2})],
        rollbacks=[process("undo", f"touch {tmp_path}/ran")],
    )
    reading.load(written(tmp_path, said))
    wrong = experiment(method=[python("act", "trap.inner", "act", arguments={})])
    assert any('"what" is missing' in each for each in mistakes(tmp_path, wrong))
    assert not list(tmp_path.rglob("*.sprung")) and not (tmp_path / "ran").exists()
    assert "trap" not in sys.modules


def test_functions_are_found_where_imports_lead(tmp_path: Path) -> None:
    (tmp_path / "far.py").write_text("def go(a, b=1, *, c): ...\n")
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("from .inner import go as travel\nfrom .inner import *\n")
    (tmp_path / "pack" / "inner.py").write_text("try:\n    from far import go\nexcept ImportError:\n    go = None\n")
    roots = [str(tmp_path)]
    assert functions.look("pack", "travel", ["a", "c"], roots).verdict == "ok"
    assert functions.look("pack", "go", ["a"], roots).why == 'required argument "c" is missing'
    assert functions.look("pack", "gone", [], roots).verdict == "no function"
    assert functions.look("pack.inner.far", "go", [], roots).verdict == "no module"
    assert functions.look("builtins", "len", [], roots).verdict == "arguments", "len takes nothing by name"


def test_a_ref_may_name_what_comes_later_and_has_a_background_of_its_own(tmp_path: Path) -> None:
    later = process("later", "true", "probe", background=True)
    read = reading.load(written(tmp_path, experiment(method=[{"ref": "later"}, later])))
    first, second = read.experiment.method
    assert (first.name, first.background, second.background) == ("later", False, True)


@pytest.mark.parametrize("name", ["experiment.txt", "missing.json"])
def test_what_is_no_experiment_file_is_said(name: str, tmp_path: Path) -> None:
    (tmp_path / "experiment.txt").write_text(json.dumps(experiment()))
    with pytest.raises(UsageError):
        reading.load(tmp_path / name)
