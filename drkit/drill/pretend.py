"""A made-up world in which stand-ins take effect, in two halves, and where one fault strikes once. Outlives the runs.

What is sent to a host goes on there when whoever sent it is gone; of what takes several calls to AWS, those not made
are missing. Refusals and lost answers are those that the providers would give.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Literal, Self

import anyio

from drkit.context import Provider, Secrets
from drkit.drill.matrix import TAKES, Cell, Fault, Moment
from drkit.drill.reach import Reach
from drkit.engine.simulated import Chance
from drkit.errors import OutcomeUnknown, ShutOut, StepFailed, Unobservable, Unreachable
from drkit.model import written
from drkit.model.environment import Environment

WHOLE = 2
"""Of an effect's two halves."""
LASTS_S: Mapping[Fault, float] = {Fault.HOSTS: 20.0, Fault.THROTTLE: 30.0, Fault.STALE: 10.0, Fault.DISK: 30.0}
"""How long what passes by itself goes on."""
OLD_S = 5.0
"""How old stale looks are."""
WRITE_S = 2.0
"""How long a write of the journal takes on a slow disk."""


class Killed(BaseException):
    """The process is gone."""


@dataclass
class Trouble:
    """The one fault of a cell: whether it struck, and whether it lasts."""

    cell: Cell | None = None
    struck: float | None = None
    granted: bool = False
    """What was denied is permitted again."""

    def meet(self, step: str, moment: Moment) -> bool:
        """This moment of this step has come. Whether the fault strikes now; raises Killed if it is that."""
        cell = self.cell
        if cell is None or self.struck is not None or (cell.step, cell.moment) != (step, moment):
            return False
        self.struck = anyio.current_time()
        if cell.fault is Fault.KILL:
            raise Killed
        return True

    def lasts(self, fault: Fault) -> bool:
        """Whether it is there now."""
        if self.struck is None or self.cell is None or self.cell.fault is not fault:
            return False
        return not self.granted if fault is Fault.DENIED else anyio.current_time() < self.struck + LASTS_S[fault]

    async def pass_by(self) -> None:
        """Wait until it is over; where only a person can end it, one does."""
        self.granted = True
        if self.struck is not None and self.cell is not None:
            end = self.struck + LASTS_S.get(self.cell.fault, 0.0)
            await anyio.sleep(max(0.0, end - anyio.current_time()))


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look shows of one step."""

    parts: int
    running: bool
    """Its target is at work on it."""
    ready: bool
    """All that it builds on is there."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the world's own log."""

    t: float
    step: str
    what: Literal["sent", "whole", "again"]
    """`again`: a half took effect that was there already."""


@dataclass
class World(Provider):
    """What has taken effect, by step, and when."""

    reaches: Mapping[str, Reach]
    builds_on: Mapping[str, frozenset[str]]
    """By step: the actions that must be in effect before it."""
    chance: Chance
    trouble: Trouble = field(default_factory=Trouble)
    parts: dict[str, int] = field(default_factory=dict)
    log: list[Entry] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._due: dict[str, float] = {}  # what its target finishes by itself, and when
        self._known: set[tuple[str, int]] = set()
        self._past: dict[str, list[tuple[float, int]]] = defaultdict(list)

    @classmethod
    def connect(cls, environment: Environment, secrets: Secrets) -> Self:
        """Never: it is given."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Nothing to close."""

    async def write(self, step: str, parts: int, token: str, *, once: bool) -> None:
        """Make both halves take effect. `once`: a target that knows the token does not repeat what it did for it."""
        await anyio.sleep(self.chance.latency_s())
        self.trouble.meet(step, Moment.BEFORE)
        self._answer(step)
        self._tell(step, "sent")
        at_target = bool(self.reaches[step].effect & TAKES[Fault.HOSTS])
        with nullcontext() if at_target else written.writing(f"the first half of {step}"):
            self._take(step, min(1, parts), token, once)
        rest_s = self.chance.latency_s()
        if at_target:
            self._due[step] = anyio.current_time() + rest_s
        if self.trouble.meet(step, Moment.DURING):
            self._answer(step, sent=at_target)
        await anyio.sleep(rest_s)
        if at_target:
            self._arrive()
        else:
            self._answer(step)
            self._take(step, parts, token, once)
        if self.trouble.meet(step, Moment.AFTER) and not self.trouble.lasts(Fault.DISK):
            raise OutcomeUnknown(f"{step}: no answer; it may have been carried out.")
        self._answer(step, sent=True)

    async def look(self, step: str, *, probes: bool) -> Seen:
        """What is seen of a step. Unobservable. `probes`: the step is this look, so its moments are too."""
        await anyio.sleep(self.chance.latency_s() / 4)
        if probes:
            self.trouble.meet(step, Moment.BEFORE)
        self._show(step)
        lost = probes and self.trouble.meet(step, Moment.DURING)
        await anyio.sleep(self.chance.latency_s() / 4)
        lost = (probes and self.trouble.meet(step, Moment.AFTER)) or lost
        self._show(step)
        if lost and not (self.trouble.lasts(Fault.DISK) or self.trouble.lasts(Fault.STALE)):
            raise Unobservable(f"{step}: no answer.")
        self._arrive()
        stale = self.trouble.lasts(Fault.STALE)
        at = anyio.current_time() - OLD_S if stale else anyio.current_time()
        ready = all(self._was(one, at) == WHOLE for one in self.builds_on[step])
        return Seen(self._was(step, at), step in self._due and not stale, ready)

    def finish(self) -> None:
        """Whatever is at work comes to its end."""
        self._arrive(anyio.current_time() + max(self._due.values(), default=0.0))

    def _was(self, step: str, at: float) -> int:
        return next((parts for t, parts in reversed(self._past[step]) if t <= at), 0)

    def _tell(self, step: str, what: Literal["sent", "whole", "again"]) -> None:
        self.log.append(Entry(anyio.current_time(), step, what))

    def _take(self, step: str, parts: int, token: str, once: bool) -> None:
        if once and (token, parts) in self._known:
            return
        self._known.add((token, parts))
        if parts and self.parts.get(step, 0) >= parts:
            self._tell(step, "again")
        else:
            self._become(step, parts)

    def _become(self, step: str, parts: int) -> None:
        self.parts[step] = parts
        self._past[step].append((anyio.current_time(), parts))
        if parts == WHOLE:
            self._tell(step, "whole")

    def _arrive(self, until: float | None = None) -> None:
        now = anyio.current_time() if until is None else until
        for step, at in list(self._due.items()):
            if at <= now:
                del self._due[step]
                if self.parts.get(step, 0) < WHOLE:
                    self._become(step, WHOLE)

    # What the fault makes of a call

    def _answer(self, step: str, *, sent: bool = False) -> None:
        """Nothing if a call of the step's effect comes through; `sent`: its target has taken it already."""
        ways = self.reaches[step].effect
        trouble = self.trouble
        if trouble.lasts(Fault.HOSTS) and ways & TAKES[Fault.HOSTS]:
            if sent:
                raise OutcomeUnknown(f"{step}: the host dropped the connection. It may have run.")
            raise Unreachable(f"{step}: the host did not answer within 3 s.")
        if sent:
            return
        if trouble.lasts(Fault.THROTTLE) and ways & TAKES[Fault.THROTTLE]:
            raise _refused_by_aws(step, "ThrottlingException", 400, "Rate exceeded", writes=True)
        if self._denied(step):
            raise _denied(step, ways, writes=True)

    def _show(self, step: str) -> None:
        """Nothing if a look at the step comes through."""
        ways = self.reaches[step].look
        if self.trouble.lasts(Fault.HOSTS) and ways & TAKES[Fault.HOSTS]:
            raise Unreachable(f"{step}: the host did not answer within 3 s.")
        if self.trouble.lasts(Fault.THROTTLE) and ways & TAKES[Fault.THROTTLE]:
            raise _refused_by_aws(step, "ThrottlingException", 400, "Rate exceeded", writes=False)
        if self._denied(step):
            raise _denied(step, ways, writes=False)

    def _denied(self, step: str) -> bool:
        cell = self.trouble.cell
        return cell is not None and cell.step == step and self.trouble.lasts(Fault.DENIED)


def _denied(step: str, ways: frozenset[str], *, writes: bool) -> Exception:
    if "Aws" in ways:
        return _refused_by_aws(step, "AccessDeniedException", 403, "not authorized to perform this", writes=writes)
    if "Ssh" in ways:
        return ShutOut(f"{step}: the host cannot be logged in to: it refused the login: Permission denied.")
    if writes:
        return StepFailed(f"{step}: refused: permission denied", world="untouched")
    return Unobservable(f"{step}: refused: permission denied")


def _refused_by_aws(step: str, code: str, status: int, message: str, *, writes: bool) -> Exception:
    """As boto3 says it and the provider translates it."""
    from botocore.exceptions import ClientError

    from drkit.providers.aws import translated

    answer = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return translated(ClientError(answer, "Call"), step, writes)  # type: ignore[arg-type]
