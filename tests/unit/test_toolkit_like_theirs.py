"""Tolerances, substitution, verdicts and statuses are Chaos Toolkit's own, where it is installed to compare with.

Its test fixtures are not part of what pip installs: `tests/contract/test_toolkit_fixtures.py` fetches them.
"""

from __future__ import annotations

import json
import logging
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from toolkit_lab import experiment, process, python, run, written

from drkit.chaos.toolkit import reading
from drkit.chaos.toolkit.tolerance import within
from drkit.chaos.toolkit.values import Values
from drkit.errors import FileError

chaoslib = pytest.importorskip("chaoslib", reason="needs the extra [chaostoolkit]")

words = st.sampled_from(["", "a", "ok", "12", "3.5", "${n}", "$n and ${m}", "status", "true", '{"a": [1, 2]}', "[3]"])
scalars = st.none() | st.booleans() | st.integers(-5, 600) | st.floats(-5, 600, allow_nan=False) | words
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["status", "body", "stdout", "a"]), inner, max_size=3)
    ),
    max_leaves=6,
)
numbers = st.integers(-5, 600) | st.floats(-5, 600, allow_nan=False)
target = st.sampled_from([None, "status", "body", "stdout"])
tolerances = st.one_of(
    st.booleans(),
    st.integers(-5, 600),
    words,
    st.lists(scalars, max_size=3),
    st.builds(
        lambda p, t: {"type": "regex", "pattern": p, "target": t}, st.sampled_from(["a", "o.", "^[0-9]+$"]), target
    ),
    st.builds(lambda low, high, t: {"type": "range", "range": [low, high], "target": t}, numbers, numbers, target),
    st.builds(
        lambda path, more, t: {"type": "jsonpath", "path": path, "target": t} | more,
        st.sampled_from(["$.a", "$.a[*]", "$[0]", "$.status", "$.*"]),
        st.sampled_from([{}, {"count": 1}, {"count": 0}, {"expect": 1}, {"expect": [1, 2]}, {"expect": "ok"}]),
        target,
    ),
)


@settings(deadline=None)  # theirs is imported by the first example
@example(tolerance=200, value={"status": 200})
@example(tolerance=200, value={"status": 201})
@example(tolerance=[200, 404], value={"status": 302})
@example(tolerance=[1, 3], value=2)
@example(tolerance=[1, 2, 3], value=4)
@example(tolerance={"type": "regex", "pattern": "o.", "target": "body"}, value={"body": "ok"})
@example(tolerance={"type": "range", "range": [1, 2], "target": "body"}, value={"body": "1.5"})
@example(
    tolerance={"type": "jsonpath", "path": "$.a[*]", "expect": [1], "target": "body"}, value={"body": '{"a": [1]}'}
)
@example(tolerance={"type": "jsonpath", "path": "$.a[*]", "count": 1}, value={"a": [1, 2]})
@given(tolerance=tolerances, value=values)
def test_a_value_is_within_a_tolerance_exactly_when_theirs_says_so(tolerance: Any, value: Any) -> None:
    from chaoslib.hypothesis import within_tolerance

    try:
        theirs = bool(within_tolerance(deepcopy(tolerance), deepcopy(value), configuration={}, secrets={}))
    except Exception:  # noqa: BLE001 - where theirs trips, the value is out of tolerance here
        theirs = False
    assert bool(within(tolerance, value)) is theirs


@settings(deadline=None)
@given(data=values, configuration=st.dictionaries(st.sampled_from(["n", "m"]), scalars, max_size=2))
def test_values_are_filled_in_as_theirs_are(data: Any, configuration: dict[str, Any]) -> None:
    secrets = {"target": {"m": "hidden"}}
    theirs = chaoslib.substitute(deepcopy(data), configuration, secrets)
    assert Values(configuration, secrets).fill(data) == theirs


def theirs_of(said: dict[str, Any]) -> tuple[bool, list[Any] | None, dict[str, Any]]:
    """Whether Chaos Toolkit accepts it; status and deviation of a run with every rollback; its journal."""
    from chaoslib.experiment import ensure_experiment_is_valid, run_experiment

    logging.disable(logging.CRITICAL)
    try:
        try:
            ensure_experiment_is_valid(deepcopy(said))
        except Exception:  # noqa: BLE001 - however it trips, it does not accept it
            return False, None, {}
        settings = {"runtime": {"rollbacks": {"strategy": "always"}}}
        journal = run_experiment(json.loads(json.dumps(said)), settings=settings)
        return True, [journal["status"], journal["deviated"]], journal
    finally:
        logging.disable(logging.NOTSET)


ok = process("ok", "echo ok", "probe", tolerance=0)
SAME: dict[str, dict[str, Any]] = {
    "nothing to do": experiment(),
    "all is well": experiment(probes=[ok], method=[process("act", "true")], rollbacks=[process("undo", "true")]),
    "not steady before": experiment(
        probes=[process("no", "exit 3", "probe", tolerance=0)], method=[process("act", "true")],
    ),
    "a probe of the hypothesis fails": experiment(
        probes=[python("raises", "json", "loads", tolerance=True, arguments={"s": "{"})], method=[process("a", "true")],
    ),
    "deviated": experiment(
        probes=[process("is it there", "test ! -e BROKEN", "probe", tolerance=0)],
        method=[process("break", "touch BROKEN")], rollbacks=[process("mend", "rm -f BROKEN")],
    ),
    "an action that ends with an error": experiment(method=[process("act", "exit 4"), ok]),
    "an activity that raises": experiment(method=[python("raises", "json", "loads", arguments={"s": "{"}), ok]),
    "beside": experiment(method=[process("bg", "sleep 0.1", background=True), ok, {"ref": "ok"}]),
    "configured": experiment(
        configuration={"word": "ok", "code": {"type": "env", "key": "NOT_SET", "default": "0", "env_var_type": "int"}},
        probes=[process("said", "exit ${code}", "probe", tolerance=0)],
        method=[python("there", "os.path", "exists", arguments={"path": "/${word}"})],
    ),
    "tolerance by a probe": experiment(
        probes=[process("x", "echo 5", "probe", tolerance=python("low", "lowness", "low"))], method=[ok],
    ),
    "tolerance by a probe, not met": experiment(
        probes=[process("x", "echo 50", "probe", tolerance=python("low", "lowness", "low"))], method=[ok],
    ),
    "dynamic configuration": experiment(
        configuration={"here": process("where", "echo 7", "probe")},
        method=[process("said", "exit ${here}")],
    ),
    "a control that interrupts": experiment(
        controls=[{"name": "c", "provider": {"type": "python", "module": "interrupting"}}], probes=[ok], method=[ok],
    ),
    "a control that counts": experiment(
        controls=[{"name": "c", "provider": {"type": "python", "module": "counting"}}], probes=[ok], method=[ok, ok],
    ),
    "a float for a tolerance": experiment(probes=[{**ok, "tolerance": 1.5}]),
    "an unknown module": experiment(method=[python("x", "nowhere", "f")]),
    "a tag that is none": experiment(tags=["a", 3]),
    "an extension without a name": experiment(extensions=[{}]),
    "a pattern for a pause": experiment(configuration={"p": 0.01}, method=[{**ok, "pauses": {"after": "${p}"}}]),
}  # fmt: skip

MODULES = {
    "lowness": "def low(value=None):\n    return int(value['stdout']) < 10\n",
    "interrupting": (
        "from chaoslib.exceptions import InterruptExecution\n"
        "def before_activity_control(context, **kwargs):\n    raise InterruptExecution('no')\n"
    ),
    "counting": (
        "n = 0\n"
        "def after_activity_control(context, state, **kwargs):\n"
        "    global n\n    n += 1\n    state['nth'] = n\n"
        "def after_experiment_control(context, state, **kwargs):\n    state['counted'] = n\n"
    ),
}


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with some extensions, where both find them."""
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", SAME)
def test_verdict_status_and_journal_are_theirs(name: str, modules: Path) -> None:
    said = json.loads(json.dumps(SAME[name]).replace("BROKEN", str(modules / "broken")))
    accepted, status, theirs = theirs_of(said)
    path = written(modules, said)
    if not accepted:
        with pytest.raises(FileError):
            reading.load(path)
        return
    ran = run(path)
    assert [ran.ended.status, ran.ended.deviated] == status
    ours = ran.journal
    assert ours.keys() >= theirs.keys()
    for part in ("run", "rollbacks"):
        order = _by_name if name == "beside" else list  # what runs beside others begins when it can
        assert [_named(each) for each in order(ours[part])] == [_named(each) for each in order(theirs[part])]
        for mine, other in zip(order(ours[part]), order(theirs[part]), strict=True):
            assert mine.keys() == other.keys() and mine["output"] == other["output"]
    for when in ("before", "after"):
        mine, other = ours["steady_states"][when], theirs["steady_states"][when]
        assert (mine is None) == (other is None)
        if mine is not None:
            assert mine["steady_state_met"] == other["steady_state_met"]
            met = [[each.get("tolerance_met") for each in told["probes"]] for told in (mine, other)]
            assert met[0] == met[1]
    assert ours.get("counted") == theirs.get("counted")


def _named(entry: dict[str, Any]) -> tuple[str, str]:
    return entry["activity"]["name"], entry["status"]


def _by_name(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(entries, key=lambda entry: str(entry["activity"]["name"]))
