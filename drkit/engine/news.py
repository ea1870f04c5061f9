"""What people must hear of a run: that it began, went on or ended, and whatever keeps it from going on. Pure.

It is decided fact by fact, by the fold's own state, so that whoever replays a journal arrives at the same news with
the same numbers: what was told before a crash is known after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from drkit.engine.board import Render, render_params
from drkit.engine.fold import Run, opening
from drkit.engine.state import Block
from drkit.model import events as e
from drkit.model.events import Command, Fact, Row
from drkit.model.notices import Notice
from drkit.model.plan import Plan

#: Facts after which a run may stand still, or have begun or ended. All others change nothing that people wait for.
_BEARING = frozenset(
    {
        e.Began, e.Resumed, e.LeaseChanged, e.Failed, e.Uncertain, e.Interrupted, e.NotDone, e.Asked, e.Answered,
        e.Ordered, e.Fired, e.Finished,
    }
)  # fmt: skip


class Heard(Run):
    """A run whose news are kept until somebody asks for them."""

    def __init__(self, plan: Plan, *, render: Render = render_params) -> None:
        super().__init__(plan, render=render)
        self._standing: tuple[Block, ...] = ()
        """What kept the run from going on when it was last looked at."""
        self._news: list[tuple[int, str, str, bool]] = []

    def take(self, fact: Fact) -> tuple[Command, ...]:
        """As the fold takes it; what people must hear of it is kept."""
        commands = super().take(fact)
        if type(fact) in _BEARING:
            self._hear(fact, commands)
        return commands

    def news(self, hash_of: Callable[[int], str]) -> list[Notice]:
        """Those not asked for yet. `hash_of`: the hash of a durable event."""
        if not self._news:
            return []
        found, self._news = self._news, []
        state = self.state
        return [
            Notice(
                run=state.run, seq=seq, head=hash_of(seq), drill=state.drill,
                urgency="needs somebody" if urgent else "info", subject=subject, text=text,
                ends=state.outcome is not None and seq == state.seq,
            )
            for seq, subject, text, urgent in found
        ]  # fmt: skip

    def _hear(self, fact: Fact, commands: tuple[Command, ...]) -> None:
        state = self.state
        answered = {command.step for command in commands if command.verb == "answer"}  # by a drill's policy, at once
        now = () if state.outcome is not None else tuple(b for b in state.blocks() if b.step not in answered)
        before = () if isinstance(fact, e.Resumed) else self._standing  # who goes on is told again what is missing
        self._standing = now
        fresh = [block for block in now if block not in before]
        told = _milestone(fact, self)
        if told is None and not fresh:
            return
        first = told or _line(fresh[0])
        lines = [_line(block) for block in (fresh if told is not None else fresh[1:])]
        lines += [f"Next: {block.command}" for block in fresh[:1]] or [f"Next: drkit status {state.run}"]
        urgent = bool(fresh) or (isinstance(fact, e.Finished) and fact.outcome != "done")
        self._news.append((state.seq, f"{_name(self)}: {first}", "\n".join(lines), urgent))


def heard(rows: Iterable[Row]) -> Heard:
    """The run that a journal tells of, with all its news. ValueError if there is no first event."""
    run: Heard | None = None
    for row in rows:
        run = run or Heard(opening(row).plan)
        run.take(row.fact)
    if run is None:
        raise ValueError("the journal is empty")
    return run


def _milestone(fact: Fact, run: Run) -> str | None:
    if isinstance(fact, e.Began):
        return f"begun by {fact.by.get('name', 'somebody')}"
    if isinstance(fact, e.Resumed):
        return f"resumed by {fact.by.get('name', 'somebody')} on {fact.host}"
    if isinstance(fact, e.Finished):
        return f"ended: {fact.outcome}" + (f" ({fact.why})" if fact.why else "")
    return None


def _line(block: Block) -> str:
    return f"{block.step}: {block.reason}" if block.step else block.reason


def _name(run: Run) -> str:
    plan, state = run.plan, run.state
    return f"{plan.runbook} {state.run} {plan.source} -> {plan.target} in {plan.environment}"
