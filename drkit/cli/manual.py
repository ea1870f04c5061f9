"""The plan on paper: what is done and what remains, for people who carry on without drkit. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drkit.engine.state import RunState
    from drkit.model.plan import Plan, PlanStep

BOX = {"done": "[x]", "skipped": "[x]", "running": "[>]", "waiting": "[>]", "failed": "[!]", "uncertain": "[?]"}


def page(plan: Plan, state: RunState | None = None) -> str:
    """A checklist in Markdown; with a state, done steps are ticked and the others say where they stand."""
    head = [
        f"# {plan.runbook}: {plan.source} -> {plan.target}, {plan.environment.upper()} ({plan.account})",
        "",
        "Carry out the steps in order; a step may begin when those it waits for are done.",
        "[x] done   [ ] to do   [>] under way when this was written: look first   [!] failed   [?] outcome unknown",
        "",
    ]
    return "\n".join(head + [line for step in plan.steps for line in _step(step, state)])


def _step(step: PlanStep, state: RunState | None) -> list[str]:
    status = state.steps[step.id].status.value if state is not None else "pending"
    box = BOX.get(status, "[ ]")
    waits = f" after {', '.join(step.needs)}" if step.needs else ""
    lines = [f"{box} {step.number}. {step.title or step.id}  ({step.id}; {step.owner or 'no owner'}{waits})"]
    if status in ("done", "skipped"):
        return lines
    if state is not None and state.steps[step.id].error:
        lines.append(f"      stands: {status}: {state.steps[step.id].error}")
    lines.append(f"      do:    {step.uses} {json.dumps(step.params, ensure_ascii=False)}")
    if step.kind == "action":
        lines.append(f"      check: its own observation{f', and {step.verify}' if step.verify else ''}")
    elif step.verify:
        lines.append(f"      check: {step.verify}" + (f", held for {step.hold_s:g} s" if step.hold_s else ""))
    if step.irreversible:
        lines.append(f"      CANNOT BE UNDONE: {step.irreversible}")
    if step.fences:
        lines.append("      FENCE: go on only when it was seen that the old side cannot write")
    if step.simulated:
        lines.append(f"      simulated here: {step.simulated}")
    return lines
