"""Two regions, the users' traffic, some values, and the way there. Outlives every process of drkit.

Two promises hold here, as in the real world, and no others: what is sent shows within SETTLE_S or never, however late
it takes effect and however old a look is; and what is seen is never older than what anybody has seen before.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

import anyio

from drkit.context import Context, Provider, Secrets
from drkit.engine.simulated import Chance
from drkit.errors import OutcomeUnknown, Refused, StepFailed, Unobservable, Unreachable
from drkit.model.environment import Environment
from simulation.machines import Process

SETTLE_S = 2.0
LATEST_S, OLDEST_S = 0.6 * SETTLE_S, 0.35 * SETTLE_S
"""How late something takes effect, and how old a look is, at most: together less than it may take to show."""
DEAD_MAN_S = 15.0
"""A region that is cut off stops writing by itself after this."""
WITNESSED_S = DEAD_MAN_S + 3.0
"""Only after this does the witness say so."""

WRITES = {
    "refuse": 0.04, "turn-away": 0.05, "shut": 0.03,
    "fail": 0.03, "hang": 0.02, "hang-sent": 0.02, "lose": 0.06, "lost-unsent": 0.04, "late": 0.06,
    "lie": 0.02, "fail-late": 0.04,
}  # fmt: skip
LATE = WRITES | {"late": 0.3, "lost-unsent": 0.1}
"""Where answers are lost more often than not, and effects show late."""
READS = {"blind": 0.04, "stale": 0.06}
SECRET = "hunter2-of-everybody"
"""Some errors quote it; nobody else may."""
SIDES = ("east", "west")


@dataclass(slots=True, eq=False)
class Sent:
    """One change on its way, with what was so at the instant when it left its process."""

    t: float
    name: str
    value: int
    process: Process
    step: str
    attempt: int
    token: str
    once: bool
    checked: bool
    """Its target refuses a holder whose lease is over."""
    lease_s: float
    durable: int
    """Rows in the sender's journal."""
    journal: object
    copied: int
    """Rows in the state store."""
    frozen: bool = False
    """Its process was frozen between the look at the lease and the send."""
    fencing: int = 0
    not_after: float = math.inf
    landed: float = math.inf
    """When it took effect."""
    late: bool = False
    """It takes effect after it was called failed."""
    fate: str = "under way"
    """Then: done, known (its token was seen before), refused, dropped."""


@dataclass(frozen=True, slots=True)
class Absence:
    """What was sent for a step is reported to have had no effect, and never to have one."""

    t: float
    step: str
    left: int
    """So many changes had left their processes by then."""


@dataclass
class World:
    """True values over true time."""

    writing: Chance
    reading: Chance
    cut_at: float = math.inf
    """When east is lost: nothing reaches it, nobody sees it, and its dead man's lease runs out."""
    values: dict[str, int] = field(default_factory=lambda: {"east": 1, "west": 0, "users": 0})
    sent: list[Sent] = field(default_factory=list)
    absences: list[Absence] = field(default_factory=list)
    by_hand: set[str] = field(default_factory=set)
    """Names that a person changed with own hands."""
    wrong: list[tuple[str, str]] = field(default_factory=list)
    """What must never be so, when it was: which rule, and how it came about."""

    def __post_init__(self) -> None:
        self._way: list[tuple[float, int, Sent]] = []
        self._past: dict[str, list[tuple[float, int]]] = defaultdict(lambda: [(-math.inf, 0)])
        self._past["east"] = [(-math.inf, 1)]
        self._shown: dict[str, int] = {}
        self._tokens: set[str] = set()
        self._newest: dict[str, int] = {}

    def put_under_way(self, sent: Sent, arrives: float) -> None:
        """It will take effect then, whatever becomes of its sender."""
        heapq.heappush(self._way, (arrives, len(self.sent), sent))

    def on_its_way(self, name: str) -> bool:
        """Whether something may still change it."""
        self._arrive()
        return any(sent.name == name for _, _, sent in self._way)

    def now(self, name: str) -> int:
        """What is true."""
        self._arrive()
        return self.values.get(name, 0)

    def seen(self, name: str, age_s: float) -> int | None:
        """What is seen of it by a look that is `age_s` old; None: nothing."""
        self._arrive()
        now = anyio.current_time()
        if name == "east" and now >= self.cut_at:
            return 0 if now >= self.cut_at + WITNESSED_S else None
        past = self._past[name]
        place = max(n for n, (t, _) in enumerate(past) if t <= now - age_s or n == self._shown.get(name, 0))
        self._shown[name] = place
        return past[place][1]

    def is_lost(self, name: str) -> bool:
        """Whether nothing reaches it any more."""
        return name == "east" and anyio.current_time() >= self.cut_at

    def set_by_hand(self, name: str, value: int) -> None:
        """A person does it."""
        self._arrive()
        self.by_hand.add(name)
        self._become(anyio.current_time(), name, value, "a person's hands")

    def note_absence(self, step: str) -> None:
        """What was sent for a step is reported to be absent."""
        self.absences.append(Absence(anyio.current_time(), step, len(self.sent)))

    def unchanged_since(self, sent: Sent, until: float) -> bool:
        """Whether nothing else changed its name between its effect and that instant."""
        return not any(sent.landed < t <= until for t, _ in self._past[sent.name])

    def finish(self) -> None:
        """Everything that was on its way has arrived."""
        self._arrive(anyio.current_time() + SETTLE_S)

    def _arrive(self, until: float | None = None) -> None:
        now = anyio.current_time() if until is None else until
        while self._way and self._way[0][0] <= now:
            t, _, sent = heapq.heappop(self._way)
            self._dead_man(t)
            sent.fate = self._take(t, sent)
        self._dead_man(now)

    def _dead_man(self, now: float) -> None:
        if self.values["east"] and now >= self.cut_at + DEAD_MAN_S:
            self._become(self.cut_at + DEAD_MAN_S, "east", 0, "its dead man's lease")

    def _take(self, t: float, sent: Sent) -> str:
        if sent.name == "east" and t >= self.cut_at:
            return "dropped"
        if sent.checked:
            if t > sent.not_after or sent.fencing < self._newest.get(sent.name, 0):
                return "refused"
            self._newest[sent.name] = sent.fencing
        if sent.once and sent.token in self._tokens:
            return "known"
        self._tokens.add(sent.token)
        sent.landed = t
        self._become(t, sent.name, sent.value, f"{sent.step} of {sent.process}")
        return "done"

    def _become(self, t: float, name: str, value: int, why: str) -> None:
        self.values[name] = value
        self._past[name].append((t, value))
        if name in SIDES and value and all(self.values[side] for side in SIDES):
            self.wrong.append(("two_writable", f"both sides can write since {t:.1f}, by {why}"))
        if name == "users" and not self.values[SIDES[value]]:
            self.wrong.append(("users", f"users are sent to {SIDES[value]}, which cannot write, at {t:.1f} by {why}"))


class Link(Provider):
    """One process's way to the world: where calls go wrong."""

    def __init__(self, world: World, process: Process) -> None:
        self._world, self._process = world, process

    @classmethod
    def connect(cls, environment: Environment, secrets: Secrets) -> Self:
        raise AssertionError("links are given, not made")

    async def aclose(self) -> None:
        """Nothing to close."""

    async def write(self, ctx: Context, name: str, value: int, *, checked: bool, once: bool = False) -> None:
        """Change a value, more or less."""
        world, process, chance = self._world, self._process, self._world.writing
        word, takes_s = chance.mishap(), min(chance.latency_s(), LATEST_S)
        if word == "refuse":
            await process.sleep(takes_s)
            raise StepFailed("permission denied", world="untouched")
        if word == "turn-away":
            await process.sleep(takes_s)
            raise StepFailed("rate exceeded", world="turned-away")
        if word == "shut":
            await process.sleep(takes_s)
            raise Unreachable("nobody answers the door")
        frozen = await process.about_to_send()
        now = anyio.current_time()
        sent = Sent(
            now, name, value, process, ctx.step, ctx.attempt, ctx.token, once, checked,
            lease_s=process.lease_s(), durable=process.durable(),
            journal=process.disk, copied=process.copied(), frozen=frozen, fencing=ctx.fencing_token,
            not_after=math.inf if ctx.not_after is None else ctx.not_after - process.machine.zero_s,
        )  # fmt: skip
        world.sent.append(sent)
        if word not in ("hang", "lost-unsent", "lie"):
            sent.late = word == "fail-late"
            late_s = LATEST_S if word in ("late", "fail-late") else takes_s / 2
            world.put_under_way(sent, now + late_s)
        else:
            sent.fate = "dropped"
        if word in ("hang", "hang-sent"):
            await process.sleep(math.inf)
        await process.sleep(takes_s)
        _answer(word, sent, world)

    async def read(self, name: str) -> int:
        """What a value is, or was. Unobservable if it does not answer."""
        chance = self._world.reading
        word = chance.mishap()
        await self._process.sleep(chance.latency_s() / 2)
        value = self._world.seen(name, OLDEST_S if word == "stale" else 0.0)
        if word == "blind" or value is None:
            raise Unobservable(f"{name} does not answer")
        return value


def _answer(word: str | None, sent: Sent, world: World) -> None:
    """What the caller is told in the end."""
    world.now(sent.name)
    if word in ("fail", "fail-late"):
        raise StepFailed(f"broke half way: {SECRET} was not taken", world="changed")
    if word == "lost-unsent":
        raise OutcomeUnknown("connection reset before it arrived")
    if word in ("lose", "late"):
        raise ConnectionResetError("connection reset by peer")
    if sent.fate == "refused":
        raise Refused("the lease of whoever sent this is over")


def effects(world: World) -> Iterable[Sent]:
    """What changed something, in the order it was sent."""
    return (sent for sent in world.sent if sent.fate == "done")
