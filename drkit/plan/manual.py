"""A plan on paper: what is done and what remains, with owner, command and check, for people who go on without drkit.

Pure. Secrets are named, never shown.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from pydantic import ValidationError

from drkit.catalog import Action, Catalog, Entry, Gate, Probe
from drkit.model.environment import Environment
from drkit.model.outline import bare, outline, with_bodies
from drkit.model.paper import Paper
from drkit.model.plan import Join, Plan, PlanScope, PlanStep
from drkit.model.values import Json, duration_text, show_duration
from drkit.plan.fanning import ANY_ENTRY, begun_by, is_below
from drkit.plan.handwork import preparation
from drkit.plan.hints import listed
from drkit.plan.references import fill, strings

_BOXES = {"done": "[x]", "skipped": "[-]", "running": "[>]", "waiting": "[?]", "failed": "[!]", "uncertain": "[!]"}
_REMAINS = {
    "uncertain": "outcome unknown: run the check first; only if it does not hold, do it (again)",
    "failed": "failed: run the check first, then do it again or mend what stands in its way",
    "running": "was under way when this was written: run the check first",
    "waiting": "waits for the person named",
    "cancelled": "was cancelled",
    "compensated": "was undone",
}
_HOW = """\
How to read this. Carry on with any step whose `after` steps are all done; steps that do not wait for each other can be
done side by side. `do` is what changes the world: paste it whole into bash, one step at a time, by the owner named.
`check` changes nothing: paste it, and compare with `must be`. A step is done when its check holds, not when its command
ended. Write the time beside the box. Lines that begin with # are words. <…> is to be filled in, from the step named.
No answer is no proof: what does not answer may still be writing."""


def manual(
    plan: Plan,
    catalog: Catalog,
    *,
    environment: Environment | None = None,
    statuses: Mapping[str, str] | None = None,
    rendered: Mapping[str, Mapping[str, Json]] | None = None,
    steps: Iterable[PlanStep] | None = None,
) -> str:
    """The whole page. `statuses` by step (none: nothing is done yet); `rendered`: parameters that are known by now.

    `steps` as a run knows them, with those that came into being while it went on; None: those of the plan.
    """
    statuses = statuses or {}
    known = _in_order(plan.steps if steps is None else steps)
    real = [step for step in known if ANY_ENTRY not in step.id]
    drill = plan.scenario is not None
    paper = Paper(environment, plan.source, plan.target) if environment else None
    done = [step.id for step in real if statuses.get(step.id) in ("done", "skipped")]
    parts = [
        f"{plan.runbook}   FROM {plan.source} -> TO {plan.target}   {plan.environment.upper()}   {plan.account}",
        f"{len(done)} of {len(real)} steps are done.{_next(real, statuses)}",
        *(["THIS IS A DRILL. Say so in everything that is sent."] if drill else []),
        "[x] done  [-] skipped  [>] under way  [?] waits for a person  [!] look first  [ ] not begun",
        *_objectives(plan),
        "",
        _HOW,
        *(["", *preparation(environment)] if environment else []),
        "",
    ]
    for step in known:
        parts += _step(step, plan, catalog.find(step.uses), paper, statuses, rendered or {})
    if plan.recovered_when:
        parts += ["", f"The service is back when this holds:  {plan.recovered_when}"]
        for name, probe in plan.probes.items():
            if f"probes.{name}" in plan.recovered_when:
                parts += _block("look", shell_lines(probe.params, catalog.find(probe.uses), paper))
    return "\n".join(parts) + "\n"


def _objectives(plan: Plan) -> list[str]:
    told = [f"{name} {show_duration(value)}" for name, value in (("RTO", plan.rto_s), ("RPO", plan.rpo_s)) if value]
    lines = [f"Objectives: {', '.join(told)}, counted from the beginning of the outage."] if told else []
    if plan.deadline_s is not None:
        limit = show_duration(plan.deadline_s)
        lines.append(f"Deadline: {limit} after the go. What is not over by then is begun only if somebody decides so.")
    return lines


def _in_order(steps: Iterable[PlanStep]) -> list[PlanStep]:
    """Headings first. What is done for any entry of a list is told as long as nobody knows the entries."""
    named = {step.id: step for step in steps}
    for step in list(named.values()):
        if step.join is None or step.join.over is None:
            continue
        if any(is_below(id, step.id) for id in named):
            named[step.id] = step.model_copy(update={"join": step.join.model_copy(update={"over": None})})
        else:
            named |= {each.id: each for each in with_bodies(begun_by(step, step.join.body, f"{step.id}/{ANY_ENTRY}"))}
    return [named[place.id] for place in outline(named)]


def _next(steps: Sequence[PlanStep], statuses: Mapping[str, str]) -> str:
    over = {step.id for step in steps if statuses.get(step.id) in ("done", "skipped")}
    ready = [
        f"{step.number or ''} {step.id}".lstrip()
        for step in steps
        if step.id not in over and over.issuperset(step.needs) and (step.join is None or step.join.over is not None)
    ]
    return f" Next: {', '.join(ready)}." if ready else ""


def _step(
    step: PlanStep,
    plan: Plan,
    entry: Entry | None,
    paper: Paper | None,
    statuses: Mapping[str, str],
    rendered: Mapping[str, Mapping[str, Json]],
) -> list[str]:
    status = statuses.get(step.id, "pending")
    head = f"{_BOXES.get(status, '[ ]')} {f'{step.number}. ' if step.number else ''}{step.title or step.id}"
    facts = [f"id {step.id}", f"owner {step.owner or 'nobody named'}"]
    facts += [f"at {step.site}"] if step.site else []
    needs = [need for need in step.needs if not is_below(need, step.id)]
    facts += [f"after {listed(needs)}"] if needs else []
    lines = [f"{head}   ({', '.join(facts)})"]
    if status in ("done", "skipped"):
        return lines
    params = {**step.params, **rendered.get(step.id, {})}
    lines += [f"      now    {_REMAINS[status]}"] if status in _REMAINS else []
    lines += [f"      when   {step.when}"] if step.when else []
    if step.promotes:
        guards = [each.id for each in plan.steps if each.fences]
        lines.append(f"      ONLY AFTER the fence ({listed(guards)}) was seen to hold: two writers lose data")
    if step.irreversible:
        lines.append(f"      POINT OF NO RETURN: {step.irreversible}")
    if step.simulated:
        lines.append(f"      here   {step.simulated}")
    if step.join is not None:
        return [*lines, *_stands_for(step, step.join, plan.scopes.get(step.id)), ""]
    return [*lines, *_command(step, params, entry, paper), *_check(step, params, entry, paper), ""]


def _command(step: PlanStep, params: dict[str, Json], entry: Entry | None, paper: Paper | None) -> list[str]:
    if step.kind == "gate":
        asked = [f"ask    {params.get('role', 'who is in charge')}: {params.get('question') or step.title or step.id}"]
        asked += [f"then   {_also(each)}" for each in _list(params.get("escalate"))]
        asked += [f"need   {params['approvals']} different persons"] if params.get("approvals") not in (None, 1) else []
        asked += [f"show   {_flat(params['show'])}"] if params.get("show") else []
        return [f"      {line}" for line in [*asked, "write  who answered, what, and when"]]
    if step.kind == "when":
        return ["      ask    is this runbook needed? If not, skip every step of it"]
    verb = "look" if step.kind == "probe" else "do"
    exact = shell_lines(params, entry, paper)
    if exact:
        return _block(verb, exact)
    return [f"      {verb:6} {_told(entry)}", f"      with   {step.uses} {_flat(params)}"]


def _also(later: Json) -> str:
    """Who is asked too, and when."""
    told = later if isinstance(later, dict) else {}
    return f"{told.get('role')} may answer too, when nobody has after {duration_text(told.get('after'))}"


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _stands_for(step: PlanStep, join: Join, scope: PlanScope | None) -> list[str]:
    """That the steps below are what is to be done: all of them, or all of them for each entry of a list."""
    lines = ["      done   when all steps below it are done"]
    if join.over is not None:
        at_once = f", for no more than {join.at_once} at once" if join.at_once is not None else ""
        lines = [
            f"      do     what {step.id}/{ANY_ENTRY} says below, for each entry of {bare(join.over)}{at_once};",
            "             write down each entry, and when it is done",
        ]
    for name, value in (scope.later if scope is not None else {}).items():
        lines.append(f"      where  params.{name} is {value if isinstance(value, str) else _flat(value)}")
    return lines


def shell_lines(params: Mapping[str, Json], entry: Entry | None, paper: Paper | None) -> str | None:
    """The shell lines, where the entry's author gave some; what another step will say is left to be filled in."""
    if entry is None or isinstance(entry, Gate) or entry.commander is None or paper is None:
        return None
    known = {name: value for name, value in params.items() if name in entry.params.model_fields}
    open_ones = any(True for _ in strings(dict(known)))
    given = fill(dict(known), lambda reference: f"<{reference.text.removeprefix('steps.')}>") if open_ones else known
    try:
        return entry.commander(entry.params.model_validate_json(json.dumps(given)), paper)
    except (ValidationError, KeyError):
        return None  # the environment lacks what the command would name; what to do is still told in words


def _check(step: PlanStep, params: dict[str, Json], entry: Entry | None, paper: Paper | None) -> list[str]:
    lines = []
    if isinstance(entry, Action):
        lines.append(f"      check  {entry.observe.name}: {_told(entry.observe)}")
        lines += _block("", shell_lines(params, entry.observe, paper))
        if entry.checker is not None and entry.checker.__doc__:
            lines.append(f"      must   be: {_first(entry.checker.__doc__)}")
    if step.verify:
        lines.append(f"      check  {step.verify}")
    if lines and step.hold_s:
        lines.append(f"      hold   it must stay so for {show_duration(step.hold_s)}")
    return lines


def _block(verb: str, text: str | None) -> list[str]:
    """Shell lines behind a word; the rest stands below the first."""
    first, *rest = (text or "").splitlines() or [""]
    return [f"      {verb:6} {first}", *(f"             {line}" for line in rest)] if text else []


def _told(entry: Probe | Action | Gate | None) -> str:  # type: ignore[type-arg]
    return _first(entry.doc) if entry is not None else "(this action is not installed here)"


def _first(doc: str) -> str:
    return " ".join(doc.split("\n\n")[0].split())


def _flat(params: Json) -> str:
    return json.dumps(params, ensure_ascii=False)
