"""One event, said in one line: what `--plain`, pipes and `drkit logs` show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drkit.cli.screen import summary

if TYPE_CHECKING:
    from drkit.cli.settings import Settings
    from drkit.engine.state import RunState
    from drkit.model.events import Row


def words(row: Row, state: RunState) -> list[str]:
    """`03:10:09 OK    promote  12.3 s  lag_s 0`; nothing for events that people need not see."""
    told = _told(row, state)
    if told is None:
        return []
    mark, step, text = told
    number = f"{state.steps[step].plan.number or '':>2} " if step in state.steps else ""
    return [f"{row.at[11:19]} {mark:<5} {number}{step}{'  ' if step else ''}{text}".rstrip()]


def tell(settings: Settings, row: Row, state: RunState) -> None:
    """Print an event as it happens: a line for people, itself with `-o jsonl`, nothing with `-o json` (one result)."""
    if settings.output == "jsonl":
        from drkit.cli.say import write
        from drkit.model.values import canonical

        write(canonical(row.to_json()).decode())
    elif settings.output == "text" and settings.verbosity >= 0:
        for text in words(row, state):
            settings.say.line(text)


def _told(row: Row, state: RunState) -> tuple[str, str, str] | None:
    from drkit.model import events as e

    fact = row.fact
    if isinstance(fact, e.Opened):
        plan = state.plan
        return (
            "RUN",
            "",
            f"{plan.runbook} {fact.run}  FROM {plan.source} -> TO {plan.target}  {plan.environment.upper()}",
        )
    if isinstance(fact, e.Began):
        return "GO", "", f"by {_who(fact.by)}" + (f", confirmed {fact.confirmed}" if fact.confirmed else "")
    if isinstance(fact, e.Resumed):
        return "RUN", "", f"resumed by {_who(fact.by)} on {fact.host}"
    if isinstance(fact, e.Prepared):
        return "RUN", fact.step, f"attempt {fact.attempt}: {_title(state, fact.step)}"
    if isinstance(fact, e.AlreadySo):
        return "SKIP", fact.step, f"already so: {summary(fact.seen.get('value'))}"
    if isinstance(fact, e.Done):
        value = fact.after.get("value") if fact.after else None
        return "OK", fact.step, f"{_took(state, fact.step)}{summary(value)}" + ("  (adopted)" if fact.adopted else "")
    if isinstance(fact, e.Failed):
        return "FAIL", fact.step, fact.error
    if isinstance(fact, e.Uncertain):
        return "?", fact.step, f"outcome unknown: {fact.reason}"
    if isinstance(fact, e.Asked):
        return "ASK", fact.step, f"waits for people: drkit approve {state.run} {fact.step} --reason ..."
    if isinstance(fact, e.Fired):
        return _time(fact.timer, state)
    if isinstance(fact, e.Answered):
        return (
            "YES" if fact.answer == "approve" else "NO",
            fact.step,
            f"{fact.answer} by {_who(fact.by)}: {fact.reason}",
        )
    if isinstance(fact, e.Ordered):
        return "ORDER", fact.step or "", f"{fact.verb} by {_who(fact.by)}" + (f": {fact.reason}" if fact.reason else "")
    if isinstance(fact, e.Refusal):
        return "NO", fact.step or "", f"{fact.verb} by {_who(fact.by)} refused: {fact.why}"
    if isinstance(fact, e.Noted):
        return "NOTE", "", f"{_who(fact.by)}: {fact.text}"
    if isinstance(fact, e.LeaseChanged):
        return "LOCK", "", f"{fact.state}" + (f": {fact.detail}" if fact.detail else "")
    if isinstance(fact, e.Copied) and fact.error is not None:
        return "WARN", "", f"state store: {fact.error}"
    if isinstance(fact, e.FaultChanged):
        return "FAULT", "", f"{fact.fault} {fact.id}: {fact.state}"
    if isinstance(fact, e.Finished):
        return "END", "", fact.outcome + (f": {fact.why}" if fact.why else "")
    return None


def _time(timer: str, state: RunState) -> tuple[str, str, str] | None:
    """What came due, where people must know it."""
    from drkit.engine.timers import DEADLINE

    if timer == DEADLINE and state.overdue:
        return "PAUSE", "", f"{state.paused.reason if state.paused else 'its deadline has passed'}: nothing new starts"
    verb, _, rest = timer.partition(" ")
    found = state.steps.get(rest.partition(" ")[0])
    if verb == "escalate" and found is not None and found.ask is not None and found.ask.escalated:
        return (
            "ASK",
            found.id,
            f"nobody has answered: {found.ask.escalated[-1]} is asked too",
        )
    return None


def _who(by: object) -> str:
    return str(by.get("name", "?")) if isinstance(by, dict) else "?"


def _title(state: RunState, step: str) -> str:
    return state.steps[step].plan.title or state.steps[step].plan.uses if step in state.steps else ""


def _took(state: RunState, step: str) -> str:
    from drkit.model.values import show_duration

    found = state.steps.get(step)
    if found is None or found.started_t is None or found.finished_t is None:
        return ""
    return f"{show_duration(found.finished_t - found.started_t)}  "
