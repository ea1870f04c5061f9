"""A run as anybody can see it: its folder, its journal replayed. Reads only, and never holds the runner up."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from drkit.errors import DrkitError, Exit, JournalError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from drkit.engine.fold import Run
    from drkit.engine.runs import RunFolder
    from drkit.engine.state import RunState, StepState
    from drkit.model.events import Row
    from drkit.model.values import Json


@dataclass
class Seen:
    """A run's journal as far as it was read."""

    folder: RunFolder
    run: Run | None = None
    rows: list[Row] = field(default_factory=list)
    starting: Callable[[], bool] = lambda: False
    """A runner that we started is still there, though it may not have said so yet."""

    @property
    def state(self) -> RunState:
        """What the journal says. JournalError if the run never began."""
        if self.run is None:
            raise JournalError(
                f"run {self.folder.id} has no journal: it was asked for, and never began",
                state="Nothing was changed.",
                hint=f"cat {self.folder.log}",
            )
        return self.run.state

    def check_step(self, step: str) -> set[str]:
        """The run's step ids. UsageError if `step` is none of them."""
        from drkit.cli.closest import meant

        known = set(self.state.steps)
        if step not in known:
            raise UsageError(f'run {self.folder.id} has no step "{step}"{meant(step, known)}')
        return known

    def parameters(self, step: StepState) -> dict[str, Json] | None:
        """As recorded when it began, else as they would be filled in now; None: what they read is not known yet."""
        from drkit.engine.scoping import visible

        if step.params is not None:
            return step.params
        assert self.run is not None  # it has this step
        try:
            filled = self.run.render(step.plan.params, visible(self.run, step.plan.scope))
        except (DrkitError, LookupError, TypeError, ValueError):
            return None
        return {**filled, **step.changes}

    @property
    def alive(self) -> bool:
        """A runner carries it out right now, on this machine."""
        from drkit.engine.runs import alive

        return alive(self.folder) or self.starting()

    def take(self, rows: Iterable[Row]) -> None:
        """Read on."""
        from drkit.engine.fold import Run
        from drkit.model.events import Opened
        from drkit.model.plan import Plan

        for row in rows:
            if self.run is None:
                if not isinstance(row.fact, Opened):
                    raise JournalError(f"{self.folder.journal} does not begin with the opening of a run")
                self.run = Run(Plan.model_validate(row.fact.plan))
            self.run.take(row.fact)
            self.rows.append(row)


def find(run: str) -> RunFolder:
    """The folder of a run, or of the last one that began. UsageError with the closest ids."""
    from drkit.engine import runs
    from drkit.engine.journal import Tail

    if run == "last":
        for folder in reversed(runs.all_runs()):
            with Tail(folder.journal) as tail:
                if tail.new(1):  # one that was refused before its first event is nobody's last run
                    return folder
    return runs.find(run)


def read(folder: RunFolder) -> Seen:
    """A run as its journal stands now."""
    from drkit.engine.journal import read_rows

    seen = Seen(folder)
    if folder.journal.exists():
        seen.take(read_rows(folder.journal))
    return seen


def exit_code(seen: Seen) -> Exit:
    """How a run stands, as an exit code: of its outcome once it is over, of what it waits for until then."""
    from drkit.engine.state import Phase, Status

    state = seen.state
    if state.outcome is not None:
        return of_outcome(state.outcome, _met(seen))
    steps = state.steps.values()
    if any(step.status is Status.UNCERTAIN for step in steps):
        return Exit.UNKNOWN
    if not seen.alive:
        sent = any(step.phase is Phase.APPLYING for step in steps)
        return Exit.UNKNOWN if sent else Exit.FAILED
    return {"waiting": Exit.WAITING, "paused": Exit.FAILED}.get(state.phase, Exit.DONE)


def await_verdict(seen: Seen, within_s: float = 60.0) -> None:
    """A run that is over is judged a moment later: until then nobody knows whether its objectives were met."""
    until = time.monotonic() + within_s
    while seen.state.outcome is not None and seen.folder.ended() is None and seen.alive and time.monotonic() < until:
        time.sleep(0.05)


def of_outcome(outcome: str, met: bool | None) -> Exit:
    """The exit code of a run that is over; `met` None: not measured, or nothing to meet."""
    if outcome == "done":
        return Exit.DONE if met in (True, None) else Exit.MISSED
    return Exit.ROLLED_BACK if outcome == "rolled_back" else Exit.FAILED


def _met(seen: Seen) -> bool | None:
    """What the runner found when it ended: it measured, we only read."""
    ended = seen.folder.ended() or {}
    code = ended.get("exit")
    return None if code is None else code != int(Exit.MISSED)


@dataclass(frozen=True, slots=True)
class GoodDrill:
    """A drill that ended well: its run, its runbook, when it ended (seconds since the epoch), how long steps took."""

    run: str
    runbook: str
    finished_wall: float
    seconds: dict[str, float]
    """By step of the runbook."""
    makespan_s: float
    """From the first of them to the end of the last."""


def last_good_drill(environment: str, runbook: str | None = None) -> GoodDrill | None:
    """The newest drill of this environment (and runbook) on this machine that met its objectives."""
    from drkit.engine.runs import all_runs

    for folder in reversed(all_runs()):
        request = folder.request()
        wanted = request.drill and request.environment.name == environment and runbook in (None, request.plan.runbook)
        if not wanted or not any(step.part == "runbook" for step in request.plan.steps):
            continue
        look = read(folder)
        if look.run is not None and look.state.outcome == "done" and exit_code(look) is Exit.DONE:
            return _good(look.state)
    return None


def _good(state: RunState) -> GoodDrill:
    spans = {
        step.id: (step.started_t, step.finished_t)
        for step in state.steps.values()
        if step.plan.part == "runbook" and step.started_t is not None and step.finished_t is not None
    }
    began = min((span[0] for span in spans.values()), default=0.0)
    ended = max((span[1] for span in spans.values()), default=0.0)
    return GoodDrill(
        run=state.run,
        runbook=state.plan.runbook,
        finished_wall=state.wall(state.finished_t or state.t),
        seconds={id: span[1] - span[0] for id, span in spans.items()},
        makespan_s=ended - began,
    )
