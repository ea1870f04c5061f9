"""The facts of a run, the commands they cause, and the hash chain that holds them together. Pure, plain JSON.

A fact says what happened; facts come from steps, people and timers and are the only thing the fold sees. A row is a
fact with its place in the chain and the commands that the fold answered it with, each with its *why*.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Self

from drkit.errors import JournalError, Tampered
from drkit.model.upgrades import UNMARKED, VERSION, upgraded
from drkit.model.values import canonical, canonical_text, digest_of_bytes

if TYPE_CHECKING:
    from drkit.model.values import Json

SCHEMA = f"drkit.events/{VERSION}"
_MARK: dict[str, Json] = {} if VERSION == UNMARKED else {"v": VERSION}
_MARK_TEXT = f',"v":{VERSION}' if _MARK else ""
GENESIS = "sha256:" + "0" * 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """Something that happened. `t` is seconds on the run's clock, stamped by the driver when the fact is drained."""

    kind: ClassVar[str] = ""
    t: float = 0.0

    def to_json(self) -> dict[str, Json]:
        """Plain JSON with `kind` first; `t` included, unset optional fields included as null."""
        return {"kind": self.kind, **{name: getattr(self, name) for name in _NAMES[type(self)]}}

    def to_text(self) -> str:
        """`to_json` in canonical form: as it stands in a row's body."""
        return canonical_text(self.to_json())

    def at(self, t: float) -> Self:
        """The same fact, as of `t` on the run's clock."""
        return type(self)(**{name: getattr(self, name) for name in _NAMES[type(self)]} | {"t": t})

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Fact:
        """The fact that `to_json` gave. JournalError for a kind this version does not know."""
        values = dict(data)
        kind = values.pop("kind")
        if kind not in KINDS:
            raise JournalError(f'unknown kind of event "{kind}": written by a newer drkit?', hint="drkit --version")
        return KINDS[kind](**values)


# Identity, as journaled: {"name": "dana", "uid": 1000, "how": "unix socket peer"}; how is one of
# "unix socket peer", "runner", "drill policy NAME", "terminal". `roles` lists the person's roles in drkit.toml.


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened(Fact):
    """First event of a run: everything that `resume` needs. `plan` is Plan as JSON."""

    kind: ClassVar[str] = "run.opened"
    run: str
    run_kind: str  # failover | failback | drill | run
    plan: dict[str, Json]
    plan_hash: str
    drkit: str
    catalog: str  # digest of the catalog's declarations
    by: dict[str, Json]
    host: str
    wall: float
    drill: bool = False
    parent: str | None = None
    # A drill's recorded answers to gates, by role ("*": any): {"name": "nightly", "incident-commander": "approve"}.
    # One such answer counts for all persons a gate asks for; nothing but a gate is ever answered by it.
    policy: dict[str, Json] | None = None
    incident: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Began(Fact):
    """Somebody said go."""

    kind: ClassVar[str] = "run.began"
    by: dict[str, Json]
    confirmed: str | None = None
    accepted_loss_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed(Fact):
    """A new runner continues a run; what had an intent and no result is uncertain from here."""

    kind: ClassVar[str] = "run.resumed"
    by: dict[str, Json]
    host: str
    wall: float
    fencing_token: int = 0
    from_copy: bool = False  # read back from the state store: the tail may be missing


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseChanged(Fact):
    """The environment's lease was acquired, lost or released by this run."""

    kind: ClassVar[str] = "lease.changed"
    state: str  # held | lost | released
    token: int = 0
    lock_id: str = ""
    detail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied(Fact):
    """Rows up to `upto` are in the state store too; or they could not be copied, and why."""

    kind: ClassVar[str] = "journal.copied"
    upto: int
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared(Fact):
    """A step's intent: its rendered parameters and what was seen before, recorded once, before anything is sent."""

    kind: ClassVar[str] = "step.intent"
    step: str
    attempt: int
    params: dict[str, Json]
    before: dict[str, Json] | None  # a Look as JSON
    undo: dict[str, Json] | None = None  # compensation if the outcome stays unknown; see Done.undo


@dataclass(frozen=True, slots=True, kw_only=True)
class AlreadySo(Fact):
    """The step's check held before anything was sent: skipped (already so)."""

    kind: ClassVar[str] = "step.already"
    step: str
    params: dict[str, Json]
    seen: dict[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class Done(Fact):
    """The step's check and verify hold; `after` is the observation that showed it."""

    kind: ClassVar[str] = "step.done"
    step: str
    attempt: int
    after: dict[str, Json] | None
    adopted: bool = False  # found done on resume: not known to be done by us
    params: dict[str, Json] | None = None  # probe steps, which have no intent
    undo: dict[str, Json] | None = None  # what takes it back: uses, params, repeat, timeout_s; or error: why unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(Fact):
    """The step did not reach its goal. `seen` is the last observation.

    `world`: untouched, changed, unknown, or turned-away (its last call did nothing, for a reason that passes).
    """

    kind: ClassVar[str] = "step.failed"
    step: str
    attempt: int
    error: str
    world: str
    hint: str | None = None
    seen: dict[str, Json] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncertain(Fact):
    """The call was sent and its result never seen, and looking does not settle it: a person must."""

    kind: ClassVar[str] = "step.uncertain"
    step: str
    attempt: int
    reason: str
    seen: dict[str, Json] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotDone(Fact):
    """Looked after a crash: the intended effect is absent, so applying again is permitted by the action."""

    kind: ClassVar[str] = "step.absent"
    step: str
    attempt: int
    seen: dict[str, Json] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotNeeded(Fact):
    """The step's `when` is false: skipped, nothing was sent."""

    kind: ClassVar[str] = "step.not_needed"
    step: str
    attempt: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupted(Fact):
    """Whoever carried out the step was stopped; `sent`: its effect may be on its way."""

    kind: ClassVar[str] = "step.interrupted"
    step: str
    attempt: int
    sent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked(Fact):
    """A step is waiting for people. An answer binds to step, plan hash and what was shown.

    `purpose`: gate; override-fence (two persons, stated loss); done (declared by hand, two persons); uncopied (go on
    although the state store is down); changed (retry with other parameters); step (run one step at a time).
    """

    kind: ClassVar[str] = "gate.asked"
    step: str
    shown: dict[str, Json]
    shown_hash: str
    purpose: str = "gate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered(Fact):
    """A person (or a drill's recorded policy) answered a gate."""

    kind: ClassVar[str] = "gate.answered"
    step: str
    answer: str  # approve | reject
    by: dict[str, Json]
    role: str
    reason: str
    plan_hash: str
    shown_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered(Fact):
    """An operator's command: pause, resume, retry, skip, done, resolve, abort, override-fence, until, from, step.

    `args` by verb: retry `set` (changed parameters); resume `retry_failed`; resolve `as` (done | not-done); abort
    `rollback`, `to`; override-fence `loss_s` (the stated loss). until and from name a step; step: ask at each one.
    """

    kind: ClassVar[str] = "operator.ordered"
    verb: str
    by: dict[str, Json]
    step: str | None = None
    reason: str | None = None
    args: dict[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal(Fact):
    """A command from a person was not carried out, and why."""

    kind: ClassVar[str] = "operator.refused"
    verb: str
    by: dict[str, Json]
    why: str
    step: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted(Fact):
    """A remark for the record."""

    kind: ClassVar[str] = "operator.noted"
    text: str
    by: dict[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fired(Fact):
    """A timer that the fold set has run out."""

    kind: ClassVar[str] = "timer.fired"
    timer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured(Fact):
    """Which readings file belongs to this run: id, path, head digest, count, summary."""

    kind: ClassVar[str] = "readings.attached"
    readings: dict[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultChanged(Fact):
    """An entry of the fault ledger, between a fault's intent and its outcome, which are those of its step.

    `id` is the step that injects; `state` is `armed` (its lease was seen), `injected`, `healed` (`detail["by"]`: drkit,
    lease or sweep), or `never-injected`: its target knows that there was nothing to heal. What happened at the target
    is told here; that it was observed, is the step's own *done*.
    """

    kind: ClassVar[str] = "fault.changed"
    fault: str
    id: str
    state: str
    detail: dict[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviated(Fact):
    """A steady state that was to hold while faults are held does not (`fail`), or cannot be told (`unknown`)."""

    kind: ClassVar[str] = "hypothesis.deviated"
    expect: str
    reason: str
    verdict: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished(Fact):
    """The run ended. `outcome`: done, failed, aborted, rolled_back."""

    kind: ClassVar[str] = "run.finished"
    outcome: str
    why: str | None = None


KINDS: dict[str, type[Fact]] = {
    fact.kind: fact
    for fact in (
        Opened, Began, Resumed, LeaseChanged, Copied, Prepared, AlreadySo, Done, Failed, Uncertain, NotDone,
        NotNeeded, Interrupted, Asked, Answered, Ordered, Refusal, Noted, Fired, Measured, FaultChanged, Deviated,
        Finished,
    )
}  # fmt: skip
_NAMES = {kind: tuple(field.name for field in fields(kind)) for kind in KINDS.values()}  # looked up for every fact


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What the fold wants done: `verb` prepare | apply | observe | recover | ask | timer | cancel | copy | finish | ...

    A worker needs the command and the environment and nothing else. `why` is for people and for replay.
    """

    verb: str
    why: str
    step: str | None = None
    args: dict[str, Json] = field(default_factory=dict)

    def to_json(self) -> dict[str, Json]:
        """Plain JSON."""
        return {"verb": self.verb, "why": self.why, "step": self.step, "args": self.args}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The command that `to_json` gave."""
        return cls(**data)


@dataclass(frozen=True, slots=True)
class Row:
    """One journal row: `hash` = digest of seq, at, fact, commands and the previous row's hash.

    `body` is the text that the digest was taken over, as a journal keeps it; None: it was not made here, and follows
    from the rest. `older`: fact and commands are what an older version's became; `body` is what that one wrote.
    """

    seq: int
    at: str  # UTC, for people
    fact: Fact
    commands: tuple[Command, ...]
    prev: str
    hash: str
    body: bytes | None = field(default=None, compare=False, repr=False)
    older: bool = field(default=False, compare=False, repr=False)

    @classmethod
    def link(
        cls, seq: int, at: str, fact: Fact, commands: Iterable[Command], prev: str, text: str | None = None
    ) -> Self:
        """The row that continues a chain whose head is `prev`. `text`: the fact's, where it was made already."""
        commands = tuple(commands)
        first = canonical_text({"at": at, "commands": [c.to_json() for c in commands]})
        told = text or fact.to_text()  # keys are sorted
        body = f'{first[:-1]},"fact":{told},"prev":"{prev}","seq":{seq}{_MARK_TEXT}}}'.encode()
        return cls(seq, at, fact, commands, prev, digest_of_bytes(body), body)

    def to_json(self) -> dict[str, Json]:
        """Plain JSON, as it was written; what `drkit events -o jsonl` prints and the state store keeps."""
        if self.older and self.body is not None:
            return {**json.loads(self.body), "hash": self.hash}
        commands: list[Json] = [command.to_json() for command in self.commands]
        return {"seq": self.seq, "at": self.at, "fact": self.fact.to_json(), "commands": commands, "prev": self.prev,
                "hash": self.hash, **_MARK}  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The row that `to_json` gave, of this version or an older one. JournalError for a newer one.

        Its hash is not checked here, see `verified`.
        """
        now = upgraded(data)
        commands = tuple(Command.from_json(command) for command in now["commands"])
        fact = Fact.from_json(now["fact"])
        if now is data:
            return cls(data["seq"], data["at"], fact, commands, data["prev"], data["hash"])
        body = canonical({key: value for key, value in data.items() if key != "hash"})
        return cls(data["seq"], data["at"], fact, commands, data["prev"], data["hash"], body, older=True)

    @property
    def fits(self) -> bool:
        """Whether `hash` is the digest of the rest."""
        if self.older and self.body is not None:
            return digest_of_bytes(self.body) == self.hash
        return Row.link(self.seq, self.at, self.fact, self.commands, self.prev).hash == self.hash


def verified(rows: Iterable[Row], *, prev: str = GENESIS, seq: int = 0) -> Iterator[Row]:
    """The same rows, each only after its place in the chain was checked. Tampered at the first that does not fit."""
    for row in rows:
        seq += 1
        if row.seq != seq:
            raise Tampered(f"event {seq} is missing (found {row.seq})", seq=seq)
        if row.prev != prev or not row.fits:
            raise Tampered(f"event {seq} was changed after it was written", seq=seq)
        prev = row.hash
        yield row
