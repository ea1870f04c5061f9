"""The whole catalog: everything loads, everything is described, every documented use is valid, no check is fooled."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from catalog_examples import EXAMPLES, LOOKALIKES, Lookalike
from fault_examples import FAULTS, LOOKS

from drkit.catalog import Action, Catalog, Gate
from drkit.model.environment import Environment, Site
from drkit.model.observation import State
from drkit.plan.files import load_runbook
from drkit.plan.resolve import resolve

ROOT = Path(__file__).resolve().parents[2]
CATALOG = Catalog()
ENTRIES = CATALOG.load_all()
ACTIONS = {name: entry for name, entry in ENTRIES.items() if isinstance(entry, Action)}
OURS = {name: entry for name, entry in ACTIONS.items() if entry.module.startswith(("drkit.actions", "drkit.notify"))}
#: Words that an honest action needs when it cannot be taken back.
SENTENCE_WORDS_MIN = 4


def test_everything_that_is_installed_loads() -> None:
    assert len(ENTRIES) > 60
    assert len(ACTIONS) > 30


@pytest.mark.parametrize("name", ENTRIES)
def test_every_entry_says_what_it_does_and_describes_every_parameter(name: str) -> None:
    entry = ENTRIES[name]
    assert entry.doc.strip()
    assert entry.doc.strip().splitlines()[0].endswith(".")
    for key, info in entry.params.model_fields.items():
        assert info.description and info.description.strip(), f"{name}: {key}"
    json.dumps(entry.params.model_json_schema())  # editors and `drkit explain` are given this


@pytest.mark.parametrize("name", ENTRIES)
def test_the_documented_example_loads(name: str) -> None:
    """Every entry has a use, in a shipped runbook or in the table beside this file, and it validates."""
    entry = ENTRIES[name]
    uses = [*EXAMPLES.get(name, []), *LOOKS.get(name, []), *shipped().get(name, [])]
    if (fault := FAULTS.get(name.removesuffix(".heal"))) is not None:
        uses.append(fault.params)
    assert uses or isinstance(entry, Gate), f"{name} is nowhere used and has no example"
    for use in uses:
        entry.params.model_validate_json(json.dumps(use))


@pytest.mark.parametrize("name", ACTIONS)
def test_every_action_says_whether_and_how_it_is_taken_back(name: str) -> None:
    action = ACTIONS[name]
    if action.heal is not None:
        assert action.lease and action.irreversible is None and action.heal.name in ACTIONS
    elif action.irreversible is not None:
        assert len(action.irreversible.split()) >= SENTENCE_WORDS_MIN
    else:
        assert action.undoer is not None and action.undoer.__doc__, f"{name}: undo says nothing"


@pytest.mark.parametrize("name", ACTIONS)
def test_a_fence_is_never_skipped_and_a_promotion_cannot_be_undone(name: str) -> None:
    action = ACTIONS[name]
    assert not (action.fences and action.skippable)
    assert not action.promotes or action.irreversible


@pytest.mark.parametrize("name", [name for name in OURS if name not in ("process.run", "ssh.run")])
def test_every_action_has_look_alikes_that_its_check_must_not_believe(name: str) -> None:
    assert any(case.action == name for case in LOOKALIKES), f"{name}: what could be taken for its effect?"


@pytest.mark.parametrize("case", LOOKALIKES, ids=lambda case: f"{case.action}: {case.what}")
def test_the_real_thing_is_believed_and_a_look_alike_is_not(case: Lookalike) -> None:
    action = ACTIONS[case.action]
    params = action.params.model_validate_json(json.dumps(case.params))
    real = action.observe.answer.model_validate_json(json.dumps(case.real))
    assert action.state(params, real) is State.HOLDS, "the real thing must be believed"
    seeming = action.observe.answer.model_validate_json(json.dumps(merged(case.real, case.but)))
    assert action.state(params, seeming) is not State.HOLDS, case.what


@pytest.mark.parametrize("name", [name for name, action in ACTIONS.items() if action.fault])
def test_a_fault_is_told_from_a_healed_target_and_from_what_is_neither(name: str) -> None:
    fault, example = ACTIONS[name], FAULTS[name]
    params = fault.params.model_validate_json(json.dumps(example.params))
    seen = {"injected": example.injected, "healed": example.healed, **example.neither}
    states = {}
    for what, value in seen.items():
        states[what] = fault.state(params, fault.observe.answer.model_validate_json(json.dumps(value)))
    assert states.pop("injected") is State.HOLDS
    assert states.pop("healed") is State.ABSENT
    assert not {State.HOLDS, State.ABSENT} & set(states.values()), states


@pytest.mark.parametrize("name", OURS)
def test_parameters_survive_being_written_down(name: str) -> None:
    """Plans and journals are JSON: what is read back is what was meant."""
    action = OURS[name]
    for use in [*EXAMPLES.get(name, []), *shipped().get(name, [])]:
        params = action.params.model_validate_json(json.dumps(use))
        again = action.params.model_validate_json(params.model_dump_json())
        assert again == params


@pytest.mark.parametrize("name", ["reliabletech", "reliabletech-core"])
def test_a_shipped_runbook_resolves_and_promotes_only_behind_a_fence(name: str) -> None:
    plan = resolve(load_runbook(ROOT / "runbooks" / f"{name}.yaml"), MADE_UP, CATALOG, source="east", target="west")
    promotions = [step for step in plan.steps if step.promotes]
    fences = {step.id for step in plan.steps if step.fences}
    assert promotions and fences
    for promotion in promotions:
        assert fences & set(ancestors(plan.steps, promotion.id))


def test_no_step_of_a_shipped_runbook_needs_a_control_plane_in_the_source() -> None:
    for name in ("reliabletech", "reliabletech-core"):
        plan = resolve(load_runbook(ROOT / "runbooks" / f"{name}.yaml"), MADE_UP, CATALOG, source="east", target="west")
        assert [step.id for step in plan.steps if step.site == "east" and step.plane == "control"] == []


MADE_UP = Environment(
    name="test",
    kind="sandbox",
    account="123456789012",
    sites=(
        Site(name="east", kind="region"),
        Site(name="west", kind="region"),
        Site(name="onprem", kind="on-prem"),
    ),
    dns={"zone": "shop.example", "authorities": []},
    state_store="file:///nowhere",
)


@cache
def shipped() -> dict[str, list[dict[str, Any]]]:
    """Parameters of every step and probe of the shipped runbooks that needs nothing from other steps."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted((ROOT / "runbooks").glob("*.yaml")):
        plan = resolve(load_runbook(path), MADE_UP, CATALOG, source="east", target="west")
        uses = [(step.uses, step.params) for step in plan.steps]
        for name, params in [*uses, *((probe.uses, probe.params) for probe in plan.probes.values())]:
            if "${" not in json.dumps(params):
                found.setdefault(name, []).append(params)
    return found


def ancestors(steps: Any, id: str) -> Iterator[str]:
    """Everything that must end before this step."""
    needs = {step.id: step.needs for step in steps}
    todo = [*needs[id]]
    while todo:
        one = todo.pop()
        yield one
        todo += needs[one]


def merged(real: dict[str, Any], but: dict[str, Any]) -> dict[str, Any]:
    """The real observation with some fields changed; in lists of things the first one is changed."""
    result: dict[str, Any] = json.loads(json.dumps(real))
    for key, value in but.items():
        if isinstance(value, dict) and isinstance(result.get(key), list):
            result[key][0] = merged(result[key][0], value)
        elif isinstance(value, dict) and isinstance(result.get(key), dict) and result[key].keys() & value.keys():
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


def test_the_table_of_look_alikes_names_only_what_exists() -> None:
    assert {case.action for case in LOOKALIKES} <= set(ACTIONS)
    assert set(EXAMPLES) | set(FAULTS) | set(LOOKS) <= set(ENTRIES)
