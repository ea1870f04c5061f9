"""What a run looks like on a screen: header, clock, a line per step, what to do next. Pure: state in, text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from drkit.cli.say import now_twice

if TYPE_CHECKING:
    from drkit.engine.state import Ask, RunState, StepState
    from drkit.model.outline import Place

MARKS = {
    "pending": "-", "waiting": "ASK", "running": "RUN", "skipped": "SKIP", "done": "OK", "failed": "FAIL",
    "cancelled": "STOP", "compensated": "UNDO", "uncertain": "?",
}  # fmt: skip
BAR = 15


@dataclass(frozen=True, slots=True)
class Line:
    """One step on the screen."""

    mark: str
    number: str
    step: str
    took: str
    detail: str
    depth: int = 0
    """How many headings it stands below."""
    over: bool = False
    """So does everything right around it: its heading has ended well."""

    @property
    def cells(self) -> tuple[str, ...]:
        """As table cells."""
        return (self.mark, self.number, "  " * self.depth + self.step, self.took, self.detail)


def header(state: RunState, wall: float) -> str:
    """Where from, where to, in what, which run: on every screen, because the wrong terminal tab is common."""
    plan = state.plan
    drill = "  DRILL" if state.drill else ""
    who = (state.opened_by or {}).get("name", "?")
    incident = f"   {state.incident}" if state.incident else ""
    return (
        f"{plan.runbook} {state.run}   FROM {plan.source} -> TO {plan.target}   {plan.environment.upper()}{drill}   "
        f"{plan.account}   by {who}{incident}   {now_twice(wall)}"
    )


def clock(state: RunState, t: float, outage_s: float | None) -> str:
    """Progress, and how much of the RTO is spent: from the outage's start where users' probes know it."""
    steps = [step for step in state.steps.values() if step.undoes is None]
    over = sum(step.status.value in ("done", "skipped", "compensated", "cancelled") for step in steps)
    bar = "#" * round(BAR * over / max(1, len(steps)))
    spent_s = t - state.began_t if state.began_t is not None else 0.0
    parts = [f"{state.phase}   {over} of {len(steps)} steps  [{bar:-<{BAR}}]   {_took(spent_s)} since go"]
    if outage_s is not None:
        parts.append(f"users affected for {_took(outage_s)}")
    if state.plan.rto_s is not None:
        parts.append(f"RTO {_took(state.plan.rto_s)}")
    if state.plan.deadline_s is not None:
        parts.append(f"deadline {_deadline(state, t, state.plan.deadline_s)}")
    return "   ".join(parts)


def lines(state: RunState, t: float) -> list[Line]:
    """One line per step, each below what stands for it; compensations last."""
    from drkit.model.outline import outline, standings

    places = outline(state.steps)
    stand = standings(places, {id: step.status.value for id, step in state.steps.items()})
    spans = _spans(state, places, t)
    ended_well = {id for place in places if stand[place.id] in ("done", "skipped") for id in place.below}
    return [_line(state, place, stand, spans, t, over=place.id in ended_well) for place in places]


def fitting(lines: Sequence[Line], height: int) -> list[Line]:
    """At most `height` lines: what is under way or went wrong, the last that ended, the next to come.

    Where there are too many, what ended well is told by its heading alone.
    """
    if len(lines) <= height:
        return list(lines)
    lines = [line for line in lines if not line.over]
    if len(lines) <= height:
        return lines
    urgent = {i for i, line in enumerate(lines) if line.mark in ("RUN", "ASK", "FAIL", "?")}
    first = min(urgent, default=_first_pending(lines))
    # Around the first that matters: a third of the room for what was, the rest for what comes.
    begin = max(0, min(first - height // 3, len(lines) - height + 1))
    shown = list(lines[begin : begin + height - 1])
    above, below = begin, len(lines) - begin - len(shown)
    done = sum(line.mark in ("OK", "SKIP") for line in lines[:begin])
    more = f"{above} above ({done} ended), {below} below: drkit status shows all"
    return [*shown, Line("", "", "...", "", more)]


def next_words(state: RunState, alive: bool) -> list[str]:
    """What keeps the run from going on, and what to type; the most important line last."""
    if state.outcome is not None:
        why = f": {state.why}" if state.why else ""
        return [f"Run {state.run} ended: {state.outcome}{why}"]
    said = [f"{block.step + ': ' if block.step else ''}{block.reason}" for block in state.blocks()]
    commands = list(dict.fromkeys(_typed(block.command) for block in state.blocks()))
    if not alive:
        said.append(f"The runner of {state.run} is gone; the journal has everything it did.")
        commands = [f"drkit resume {state.run}", *(c for c in commands if not c.startswith("drkit resume"))]
    if commands:
        said.append("Next: " + "      ".join(commands[:3]))
    return said


def t_now(state: RunState, wall: float) -> float:
    """The run's clock now; a run that has ended stands still."""
    return state.t if state.outcome is not None else max(state.t, state.t + wall - state.wall(state.t))


def _typed(command: str) -> str:
    """As it can be typed: an answer needs its reason."""
    return f'{command} --reason "..."' if command.startswith("drkit approve") else command


def summary(value: object, room: int = 60) -> str:
    """An observation in a few words: its plain fields."""
    if not isinstance(value, Mapping):
        return str(value) if value is not None else ""
    words: list[str] = []
    for key, item in value.items():
        if item is None or isinstance(item, Mapping) or key == "answered_by":
            continue
        text = _short(item)
        if text:
            words.append(f"{key} {text}")
    told = ", ".join(words)
    return told if len(told) <= room else told[: room - 3] + "..."


def as_json(state: RunState, alive: bool) -> dict[str, Any]:
    """A run's state as scripts read it (`drkit.status/1`)."""
    from drkit.model.values import utc

    def at(t: float | None) -> str | None:
        return None if t is None else utc(state.wall(t))

    plan = state.plan
    return {
        "schema": "drkit.status/1", "run": state.run, "kind": state.kind, "drill": state.drill,
        "runbook": plan.runbook, "environment": plan.environment, "source": plan.source, "target": plan.target,
        "phase": state.phase, "outcome": state.outcome, "why": state.why, "runner_alive": alive,
        "began_at": at(state.began_t), "finished_at": at(state.finished_t), "events": state.seq,
        "point_of_no_return": state.point_of_no_return, "overdue": state.overdue,
        "deadline_at": at(_deadline_t(state)),
        "steps": [
            {
                "id": step.id, "status": step.status.value, "owner": step.plan.owner, "attempts": step.attempt,
                "started_at": at(step.started_t), "finished_at": at(step.finished_t), "error": step.error,
                "why": step.reason, "result": step.result,
            }
            for step in state.steps.values()
        ],
        "waiting_for": [
            {"step": block.step, "reason": block.reason, "command": block.command} for block in state.blocks()
        ],
    }  # fmt: skip


def _line(
    state: RunState, place: Place, stand: Mapping[str, str], spans: Mapping[str, tuple[float, float]], t: float, *,
    over: bool,
) -> Line:  # fmt: skip
    step = state.steps[place.id]
    status = step.status.value
    took = _took(max(0.0, spans[step.id][1] - spans[step.id][0])) if step.id in spans else ""
    if took and status == "running":
        took += f" / {_took(step.plan.timeout_s)}"
    number = "" if step.undoes is not None or not step.plan.number else str(step.plan.number)
    detail = _detail(step, state, [stand[id] for id in place.below if state.steps[id].plan.kind != "when"], t)
    return Line(MARKS[status], number, step.id, took, detail, place.depth, over)


def _spans(state: RunState, places: Sequence[Place], t: float) -> dict[str, tuple[float, float]]:
    """When each step began and ended (or now); a heading's time is that of what it stands for."""
    found: dict[str, tuple[float, float]] = {}
    for place in reversed(places):
        step = state.steps[place.id]
        below = [found[id] for id in place.below if id in found]
        if below:
            ended = max(end for _, end in below) if step.finished_t is not None else t
            found[place.id] = (min(begin for begin, _ in below), ended)
        elif step.started_t is not None and step.plan.kind != "join":
            found[place.id] = (step.started_t, step.finished_t if step.finished_t is not None else t)
    return found


def _deadline(state: RunState, t: float, limit_s: float) -> str:
    at_t = _deadline_t(state)
    if state.overdue:
        return f"{_took(limit_s)}, passed"
    if at_t is None or state.outcome is not None:
        return _took(limit_s)
    return f"{_took(limit_s)}, in {_took(max(0.0, at_t - t))}"


def _deadline_t(state: RunState) -> float | None:
    limit_s = state.plan.deadline_s
    return None if limit_s is None or state.began_t is None else state.began_t + limit_s


def entry(step: StepState, state: RunState) -> str:
    """Which entry of a list it is for, where its id tells only the place; else nothing."""
    scope = state.scopes.get(step.id)
    if scope is None or scope.each is None or step.id.rpartition("/")[2] != str(scope.index):
        return ""
    told = _short(scope.each)
    return "" if told == str(scope.index) else told


def _detail(step: StepState, state: RunState, below: Sequence[str], t: float) -> str:
    status = step.status.value
    told = step.plan.title or step.plan.uses
    if own := entry(step, state):
        told = f"{own}: {told}"
    join = step.plan.join
    if join is not None and status in ("pending", "done"):
        from drkit.model.outline import progress

        told = f"{told}: {progress(join, below)}"
    elif status in ("failed", "uncertain"):
        told = step.error or step.reason or told
    elif status == "waiting" and step.ask is not None:
        asked = ", ".join(f"{key} {_short(value)}" for key, value in step.ask.shown.items())
        told = f"{asked or told} ({_asked(step.ask, t)})"
    elif status in ("skipped", "cancelled"):
        told = step.reason or told
    elif status == "done":
        told = _done(step) or told
    elif status == "running" and step.phase.value == "backoff":
        told = f"tries again: {step.error or step.reason or ''}"
    marks = []
    if step.plan.simulated:
        marks.append("simulated")
    if step.adopted:
        marks.append("adopted")
    if step.plan.irreversible and status in ("running", "pending"):
        passed = state.point_of_no_return == step.id
        marks.append("POINT OF NO RETURN" + (" passed" if passed else ""))
    return told + (f"   [{', '.join(marks)}]" if marks else "")


def _done(step: StepState) -> str:
    if step.overridden:
        return f"NOT OBSERVED; overridden by {', '.join(str(person.get('name')) for person in step.overridden)}"
    if step.by_hand:
        return f"done by hand, says {step.by_hand.get('name')}"
    if step.ask is not None and step.ask.answers:
        return "; ".join(
            f"{answer.get('answer')} by {_name(answer.get('by'))}: {answer.get('reason')}"
            for answer in step.ask.answers
        )
    return summary(step.result)


def _asked(ask: Ask, t: float) -> str:
    """In which role it is answered, and who is asked next."""
    told = f"role {' or '.join(ask.roles) or 'any'}"
    if len(ask.escalated) == len(ask.escalation) or ask.asked_t is None:
        return told
    after_s, role = ask.escalation[len(ask.escalated)]
    return f"{told}; {role} too in {_took(max(0.0, ask.asked_t + after_s - t))}"


def _name(by: object) -> str:
    return str(by.get("name")) if isinstance(by, Mapping) else "?"


def _short(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, Mapping):
        told = [(key, item) for key, item in value.items() if item is not None and key != "answered_by"]
        return ", ".join(f"{key} {_short(item)}" for key, item in told[:3])
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"({len(value)})" if len(value) > 3 else ",".join(_short(item) for item in value)
    return str(value)


def _first_pending(lines: Sequence[Line]) -> int:
    return next((i for i, line in enumerate(lines) if line.mark == "-"), len(lines) - 1)


def _took(seconds: float) -> str:
    from drkit.model.values import show_duration

    return show_duration(seconds) if seconds >= 1 else f"{seconds:.1f} s"
