"""What a run looks like at one moment: a record per step and a few facts about the whole.

The fold owns these objects and is the only one that writes them; everybody else reads. They are a function of the
plan and of the facts taken so far, nothing else. Times (`*_t`) are seconds on the run's clock, which stands still
while no runner is alive; `wall(t)` gives the UTC instant in seconds since the epoch.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from drkit.model.events import LeaseChanged, Ordered
from drkit.model.plan import Plan, PlanStep
from drkit.model.values import Json

Person = dict[str, Json]


class Status(StrEnum):
    """Where a step stands, in the words of screens and reports."""

    PENDING = "pending"
    WAITING = "waiting"
    RUNNING = "running"
    SKIPPED = "skipped"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    COMPENSATED = "compensated"
    UNCERTAIN = "uncertain"


class Phase(StrEnum):
    """What a step is in the middle of; finer than its status."""

    IDLE = "idle"  # its needs are not done
    HELD = "held"  # could go on, but the run is paused, waits for its lease, or stops before it
    PREPARING = "preparing"  # being observed; nothing was sent
    COPYING = "copying"  # intent durable; nothing was sent: waits for the copy in the state store
    APPLYING = "applying"  # intent durable; the call may have been sent
    OBSERVING = "observing"  # a probe step
    RECOVERING = "recovering"  # finding out what an earlier attempt left
    ASKING = "asking"  # the question is being put together
    ASKED = "asked"  # waits for people
    BACKOFF = "backoff"  # waits before a retry
    BLOCKED = "blocked"  # failed or uncertain: an operator decides
    ENDED = "ended"


#: Somebody is at work and will report.
BUSY = frozenset({Phase.PREPARING, Phase.COPYING, Phase.APPLYING, Phase.OBSERVING, Phase.RECOVERING, Phase.ASKING})

STATUS_OF: dict[Phase, Status] = {
    Phase.IDLE: Status.PENDING,
    Phase.HELD: Status.PENDING,
    Phase.PREPARING: Status.RUNNING,
    Phase.COPYING: Status.RUNNING,
    Phase.APPLYING: Status.RUNNING,
    Phase.OBSERVING: Status.RUNNING,
    Phase.RECOVERING: Status.RUNNING,
    Phase.BACKOFF: Status.RUNNING,
    Phase.ASKING: Status.WAITING,
    Phase.ASKED: Status.WAITING,
}

Purpose = Literal["gate", "override-fence", "done", "uncopied", "changed", "step"]


@dataclass(slots=True)
class Ask:
    """A question to people: who may answer, how many different persons must, and what exactly they are shown."""

    purpose: Purpose
    role: str | None = None
    """Role the answer must be given in; None: any person."""
    approvals: int = 1
    timeout_s: float | None = None
    shown: dict[str, Json] = field(default_factory=dict)
    shown_hash: str | None = None
    """Set when the question was put; an answer binds to it."""
    asked_t: float | None = None
    answers: list[dict[str, Json]] = field(default_factory=list)
    """Those given so far: `by`, `answer`, `reason`, `t`."""
    escalation: tuple[tuple[float, str], ...] = ()
    """Seconds after it was put, and the role that is asked too from then on."""
    escalated: list[str] = field(default_factory=list)
    """Roles that are asked too by now."""

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles in which it may be answered now; empty: anybody may."""
        return () if self.role is None else (self.role, *self.escalated)

    @property
    def approved_by(self) -> list[Person]:
        """Different persons who said yes."""
        return [answer["by"] for answer in self.answers if isinstance(answer["by"], dict)]


@dataclass(slots=True, eq=False)
class StepState:
    """One step of a run."""

    plan: PlanStep
    missing: int
    """How many of its needs have not ended."""
    id: str = ""
    """Its name in the plan; a compensation is called `undo:STEP`."""
    dependents: list[StepState] = field(default_factory=list)
    phase: Phase = Phase.IDLE
    ended: Status = Status.PENDING
    """Final status; counts once the phase is `blocked` or `ended`."""
    attempt: int = 0
    params: dict[str, Json] | None = None
    """Rendered, as recorded in the first intent (and changed by `retry --set` since)."""
    intent: bool = False
    """An intent is journaled: something may have been sent."""
    before: dict[str, Json] | None = None
    after: dict[str, Json] | None = None
    """The observation (a Look) that showed it done, or already so."""
    seen: dict[str, Json] | None = None
    """The last observation of an attempt that did not end well."""
    adopted: bool = False
    by_hand: Person | None = None
    """Who declared it done."""
    overridden: list[Person] = field(default_factory=list)
    """The two persons who passed a fence that was not observed."""
    error: str | None = None
    hint: str | None = None
    world: str | None = None
    reason: str | None = None
    """Why it is skipped, cancelled, held or waiting."""
    started_t: float | None = None
    finished_t: float | None = None
    ask: Ask | None = None
    undo: dict[str, Json] | None = None
    """What takes it back; None: nothing does, or nothing needs to."""
    undoes: StepState | None = None
    """For a compensation: the step that it takes back."""
    # Bookkeeping of the fold.
    next: tuple[str, str] | None = None  # verb and why, while held
    retries: int = 0  # repetitions by itself since a person last decided
    knocks: int = 0  # attempts that were turned away since then
    turned_away_t: float | None = None  # when the first one was
    skip: Ordered | None = None  # skip when its turn comes
    exposed: bool = False  # an attempt ended that may have reached the world
    claim: Ordered | None = None  # a person says it is done; being looked at
    consent: bool = False  # a person permits applying again what is not declared safe to repeat
    agreed: bool = False  # one step at a time: a person said so
    doubtful: bool = False  # the journal's tail is missing: it may have been sent once
    changes: dict[str, Json] = field(default_factory=dict)  # by `retry --set`, before there was an intent
    copy_upto: int = 0
    questions: int = 0
    token: str = ""
    grown: bool = False  # came into being while the run went on, for an entry of a list
    spread: bool = False  # what it is to be done for is known, and has become steps

    def __post_init__(self) -> None:
        self.id = self.plan.id

    @property
    def status(self) -> Status:
        """Where it stands."""
        return STATUS_OF.get(self.phase, self.ended)

    @property
    def result(self) -> Json:
        """What references to this step read: the value of its last observation; None if it has none."""
        return self.after.get("value") if self.after else None


@dataclass(frozen=True, slots=True)
class Block:
    """Why a run does not go on by itself, and the command that would change that."""

    step: str | None
    reason: str
    command: str


class RunState:
    """A run at one moment. Read-only for everybody but the fold."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.plan_hash = ""
        self.run = ""
        self.kind = ""
        self.drill = False
        self.policy: dict[str, Json] | None = None
        self.opened_by: Person | None = None
        self.incident: str | None = None
        self.steps: dict[str, StepState] = {}
        """In the order of the plan; compensations follow."""
        self.scopes = dict(plan.scopes)
        """What steps of nested runbooks and for entries of lists read; those known since the run began included."""
        self.results: dict[str, Json] = {}
        """By step: what references read."""
        self.t = 0.0
        self.seq = 0
        self.began_t: float | None = None
        self.finished_t: float | None = None
        self.outcome: str | None = None
        """done | failed | aborted | rolled_back, once the run has ended."""
        self.why: str | None = None
        self.paused: Ordered | None = None
        self.overdue = False
        """The run's deadline has passed."""
        self.chosen: dict[str, Ordered] = {}
        """By failed step: what its `on_failure` orders; while the run is paused that waits for `resume`."""
        self.aborting: Ordered | None = None
        self.rolling_back = False
        self.announcing: int | None = None
        """The row that must be in the state store before the first compensation starts."""
        self.finishing = False
        """Nothing is left to do; the end is being recorded."""
        self.until: str | None = None
        self.step_by_step = False
        self.lease: LeaseChanged | None = None
        self.fencing_token = 0
        self.resumed = 0
        self.point_of_no_return: str | None = None
        """The first irreversible step whose intent is journaled."""
        self.overrides: list[dict[str, Json]] = []
        """Fences passed without being observed: step, persons, stated loss."""
        self.notes: list[dict[str, Json]] = []
        self.heals: list[StepState] = []
        """The steps that heal what others of this run inject."""
        # Counted by the fold, so that no question about the whole costs more than a look.
        self.busy = 0
        self.unsettled = 0
        self.backing_off = 0
        self._anchors: list[tuple[float, float]] = []

    def anchor(self, t: float, wall: float) -> None:
        """The run's clock read `t` when the wall clock read `wall` (at opening and at each resume)."""
        self._anchors.append((t, wall))

    def wall(self, t: float) -> float:
        """Seconds since the epoch at `t` on the run's clock. A run that was resumed stood still in between."""
        if not self._anchors:
            return 0.0
        place = max(bisect_right(self._anchors, t, key=lambda anchor: anchor[0]) - 1, 0)
        at, wall = self._anchors[place]
        return wall + t - at

    @property
    def lease_lost(self) -> bool:
        """This run held the environment's lease and does not any more."""
        return self.lease is not None and self.lease.state != "held"

    @property
    def phase(self) -> str:
        """opened | running | pausing | paused | waiting | aborting | rolling_back | finished.

        waiting: only people's answers are missing; paused: an operator must decide or say `resume`.
        """
        if self.outcome is not None:
            return "finished"
        if self.began_t is None:
            return "opened"
        if self.busy or self.backing_off or self.finishing:
            if self.aborting:
                return "rolling_back" if self.rolling_back else "aborting"
            if self.finishing:
                return "running"
            return "pausing" if self.paused or self.lease_lost else "running"
        if self.paused or self.lease_lost or any(s.phase in (Phase.BLOCKED, Phase.HELD) for s in self.steps.values()):
            return "paused"
        return "waiting" if any(s.phase is Phase.ASKED for s in self.steps.values()) else "running"

    def having(self, status: Status) -> list[StepState]:
        """Steps that stand so, in the plan's order."""
        return [step for step in self.steps.values() if step.status is status]

    def asks(self) -> Iterator[StepState]:
        """Steps that wait for an answer now."""
        return (step for step in self.steps.values() if step.phase is Phase.ASKED)

    def blocks(self) -> tuple[Block, ...]:
        """Everything that keeps the run from going on by itself; the first is the one to show."""
        found: list[Block] = []
        for step in self.steps.values():
            if step.phase in (Phase.BLOCKED, Phase.ASKED):
                found.append(_block(self, step))
            if step.phase is Phase.BLOCKED and step.plan.fences:
                found.append(_way_past(self, step))
        if self.lease_lost:
            lost = "this run no longer holds the environment's lease"
            found.insert(0, Block(None, lost, f"drkit resume {self.run} --take-over"))
        if self.paused is not None:
            by = self.paused.by.get("name", "somebody")
            because = f": {self.paused.reason}" if self.paused.reason else ""
            waits = "".join(
                f"; then it is {'rolled back' if order.args['rollback'] else 'aborted'}: {order.reason}"
                for order in list(self.chosen.values())[:1]
            )
            found.append(Block(None, f"paused by {by}{because}{waits}", f"drkit resume {self.run}"))
        elif not found and self.until is not None and not self.busy:
            found.append(Block(None, f"stops after {self.until}, as ordered", f"drkit resume {self.run}"))
        return tuple(found)


def _block(state: RunState, step: StepState) -> Block:
    run, name = state.run, step.id
    if step.phase is Phase.ASKED and step.ask is not None:
        who = " or ".join(step.ask.roles) or ("another person" if step.ask.approved_by else "a person")
        if step.ask.escalated:
            who += f", as {step.ask.role} has not answered"
        left = step.ask.approvals - len(step.ask.approved_by)
        what = _QUESTIONS.get(step.ask.purpose, "approval")
        if step.ask.purpose == "override-fence":
            stated = step.ask.shown
            what += f" and {stated.get('loss_s')} s of writes lost, as {stated.get('asked_by')} stated,"
        return Block(
            name, f"waits for {what} by {who}{f' ({left} persons)' if left > 1 else ''}", f"drkit approve {run} {name}"
        )
    if step.ended is Status.UNCERTAIN:
        return Block(name, f"outcome unknown: {step.error}", f"drkit inspect {run} {name}")
    return Block(name, f"failed: {step.error}", f"drkit retry {run} {name}")


def _way_past(state: RunState, fence: StepState) -> Block:
    past = "two persons of drkit.toml may go on without it observed; both state the loss they accept"
    return Block(fence.id, past, f'drkit override-fence {state.run} {fence.id} --accept-data-loss DUR --reason "..."')


_QUESTIONS = {
    "gate": "approval",
    "override-fence": "approval to go on without the fence observed",
    "done": "confirmation that it was done by hand",
    "uncopied": "approval to go on although the state store is down",
    "changed": "approval of its changed parameters",
    "step": "the word to start it",
}
