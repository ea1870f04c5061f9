"""A plan on paper: what is done and what remains, with owner, command and check, for people who go on without drkit.

Pure. Secrets are named, never shown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from pydantic import ValidationError

from drkit.catalog import Action, Catalog, Entry
from drkit.model.environment import Environment
from drkit.model.plan import Plan, PlanStep
from drkit.model.values import Json, show_duration
from drkit.plan.hints import listed
from drkit.plan.references import strings

_BOXES = {"done": "[x]", "skipped": "[-]", "running": "[>]", "waiting": "[?]", "failed": "[!]", "uncertain": "[!]"}
_REMAINS = {
    "uncertain": "outcome unknown: look at the check before doing it again",
    "failed": "failed: look at the check, then do it again or mend what stands in its way",
    "running": "was under way when this was written: look at the check first",
    "waiting": "waits for the person named",
    "cancelled": "was cancelled",
    "compensated": "was undone",
}


def manual(
    plan: Plan,
    catalog: Catalog,
    *,
    environment: Environment | None = None,
    statuses: Mapping[str, str] | None = None,
    rendered: Mapping[str, Mapping[str, Json]] | None = None,
) -> str:
    """The whole page. `statuses` by step (none: nothing is done yet); `rendered`: parameters of steps that began."""
    statuses = statuses or {}
    done = [step.id for step in plan.steps if statuses.get(step.id) in ("done", "skipped")]
    parts = [
        f"{plan.runbook}   FROM {plan.source} -> TO {plan.target}   {plan.environment.upper()}   {plan.account}",
        f"{len(done)} of {len(plan.steps)} steps are done. Carry on with those whose needs are all done, in any order.",
        "[x] done  [-] skipped  [>] under way  [?] waits for a person  [!] look first  [ ] not begun",
        *_objectives(plan),
        "",
    ]
    for step in plan.steps:
        parts += _step(step, plan, catalog.find(step.uses), environment, statuses, rendered or {})
    if plan.recovered_when:
        parts += ["", f"The service is back when this holds:  {plan.recovered_when}"]
    return "\n".join(parts) + "\n"


def _objectives(plan: Plan) -> list[str]:
    told = [f"{name} {show_duration(value)}" for name, value in (("RTO", plan.rto_s), ("RPO", plan.rpo_s)) if value]
    return [f"Objectives: {', '.join(told)}, counted from the beginning of the outage."] if told else []


def _step(
    step: PlanStep,
    plan: Plan,
    entry: Entry | None,
    environment: Environment | None,
    statuses: Mapping[str, str],
    rendered: Mapping[str, Mapping[str, Json]],
) -> list[str]:
    status = statuses.get(step.id, "pending")
    head = f"{_BOXES.get(status, '[ ]')} {step.number}. {step.title or step.id}"
    facts = [f"id {step.id}", f"owner {step.owner or 'nobody named'}"]
    facts += [f"at {step.site}"] if step.site else []
    facts += [f"after {listed(step.needs)}"] if step.needs else []
    lines = [f"{head}   ({', '.join(facts)})"]
    if status in ("done", "skipped"):
        return lines
    params = {**step.params, **rendered.get(step.id, {})}
    lines += [f"      now    {_REMAINS[status]}"] if status in _REMAINS else []
    lines += [f"      when   {step.when}"] if step.when else []
    lines += _command(step, params, entry, environment)
    lines += _check(step, entry)
    if step.irreversible:
        lines.append(f"      POINT OF NO RETURN: {step.irreversible}")
    if step.promotes:
        guards = [each.id for each in plan.steps if each.fences]
        lines.append(f"      ONLY AFTER the fence ({listed(guards)}) was seen to hold: two writers lose data")
    return lines


def _command(
    step: PlanStep, params: dict[str, Json], entry: Entry | None, environment: Environment | None
) -> list[str]:
    if step.kind == "gate":
        asked = [f"ask    {params.get('role', 'who is in charge')}: {params.get('question') or step.title or step.id}"]
        return [
            f"      {line}" for line in [*asked, *([f"show   {_flat(params['show'])}"] if params.get("show") else [])]
        ]
    exact = _exact(params, entry, environment)
    if exact:
        first, *rest = exact.splitlines()
        return [f"      do     {first}", *(f"             {line}" for line in rest)]
    verb = "look  " if step.kind == "probe" else "do    "
    return [f"      {verb} {_told(entry)}", f"      with   {step.uses} {_flat(params)}"]


def _exact(params: dict[str, Json], entry: Entry | None, environment: Environment | None) -> str | None:
    """The shell command, where the action's author gave one and every parameter is known."""
    if not isinstance(entry, Action) or entry.commander is None or environment is None:
        return None
    if any(True for _ in strings(params)):
        return None
    try:
        return entry.commander(entry.params.model_validate_json(json.dumps(params)), environment)
    except (ValidationError, KeyError):
        return None  # the environment lacks what the command would name; what to do is still told in words


def _check(step: PlanStep, entry: Entry | None) -> list[str]:
    lines = []
    if isinstance(entry, Action):
        lines.append(f"      check  {entry.observe.name}: {_told(entry.observe)}")
    if step.verify:
        lines.append(f"      check  {step.verify}")
    if lines and step.hold_s:
        lines.append(f"      hold   it must stay so for {show_duration(step.hold_s)}")
    return lines


def _told(entry: Entry | None) -> str:
    return " ".join(entry.doc.split("\n\n")[0].split()) if entry is not None else "(this action is not installed here)"


def _flat(params: Json) -> str:
    return json.dumps(params, ensure_ascii=False)
