"""What journals say, in a form that can be asked; from the facts alone, because the fold is what is judged."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from drkit.engine.compensation import PREFIX
from drkit.model import events as e
from drkit.model.events import Command, Fact, Row
from drkit.model.plan import Plan, PlanStep
from drkit.model.values import Json, parse_duration
from drkit.plan import fanning
from simulation.history import History

SENDING = ("prepare", "apply", "recover")
STARTING = ("prepare", "observe", "apply", "ask", "decide")
LAST = 10**9


@dataclass(frozen=True)
class Grown:
    """A step for an entry of a list that only the run knew."""

    step: PlanStep
    known: int
    """The event that told the list."""
    keys: tuple[str, ...]
    """What the entries that it is for are called, the outermost first."""


@dataclass
class Account:
    """One machine's journal."""

    machine: str
    plan: Plan
    rows: list[Row]
    texts: list[bytes]
    final: bool
    """It is the one of the process that brought the run to its end."""
    _facts: dict[str, list[tuple[int, Any]]] = field(default_factory=lambda: defaultdict(list))
    _ended: dict[str, float] = field(default_factory=dict)
    _before: dict[str, frozenset[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for row in self.rows:
            self._facts[getattr(row.fact, "step", None) or ""].append((row.seq, row.fact))

    def of(self, step: str, *kinds: type[Fact], upto: int = LAST, after: int = 0) -> Iterator[tuple[int, Any]]:
        """Facts about one step, with their places."""
        return (
            (seq, fact) for seq, fact in self._facts.get(step, ())
            if after < seq <= upto and (not kinds or isinstance(fact, kinds))
        )  # fmt: skip

    def orders(self, *verbs: str, step: str | None = None) -> list[tuple[int, e.Ordered]]:
        """What people ordered and was not refused."""
        return [
            (row.seq, row.fact) for row in self.rows
            if isinstance(row.fact, e.Ordered) and row.fact.verb in verbs and step in (None, row.fact.step)
        ]  # fmt: skip

    def commands(self, *verbs: str) -> Iterator[tuple[int, Command]]:
        """What the fold wanted, with the place of the fact that caused it."""
        return ((row.seq, c) for row in self.rows for c in row.commands if c.verb in verbs)

    @property
    def outcome(self) -> str | None:
        """How it ended."""
        last = self.rows[-1].fact
        return last.outcome if isinstance(last, e.Finished) else None

    # Steps

    @cached_property
    def grown(self) -> dict[str, Grown]:
        """Steps for entries of lists that were seen, by id."""
        found: dict[str, Grown] = {}
        joins: list[tuple[PlanStep, tuple[str, ...]]] = [
            (step, ()) for step in self.plan.steps if step.join is not None and step.join.over is not None
        ]
        for join, keys in joins:
            for key, steps in self._entries(join):
                known, _ = self._list(join) or (0, [])
                found |= {step.id: Grown(step, known, (*keys, key)) for step in steps}
                joins += [(s, (*keys, key)) for s in steps if s.join is not None and s.join.over is not None]
        return found

    def _entries(self, join: PlanStep) -> Iterator[tuple[str, list[PlanStep]]]:
        """What each entry of a list is called, and its steps."""
        assert join.join is not None  # the caller looks
        known = self._list(join)
        roots: list[str] = []
        for place, key in enumerate(fanning.keys_of([] if known is None else known[1])):
            root, at_once = f"{join.id}/{key}", join.join.at_once
            own = fanning.begun_by(join, fanning.for_entry(join.join.body, join.id, key), root)
            earlier = roots[place - at_once] if at_once is not None and place >= at_once else None
            yield key, fanning.behind(own, root, earlier)
            roots.append(root)

    def _list(self, join: PlanStep) -> tuple[int, list[Json]] | None:
        """The list that a step saw, and when; None: it did not."""
        over = None if join.join is None else join.join.over
        seer = re.fullmatch(r"\$\{ steps\.(\w+)\.items \}", over or "")
        assert seer is not None  # so these plans are made
        id = seer[1] if join.scope is None else f"{join.scope}/{seer[1]}"
        return next(((seq, f.after["value"]["items"]) for seq, f in self.of(id, e.Done)), None)

    @cached_property
    def steps(self) -> dict[str, PlanStep]:
        """Every step that there was to do, by id; without compensations."""
        return {step.id: step for step in self.plan.steps} | {id: grown.step for id, grown in self.grown.items()}

    def step(self, id: str) -> PlanStep | None:
        """A step that there was to do; None for compensations, and for what nobody asked for."""
        return self.steps.get(id)

    def needs(self, id: str) -> Iterator[str]:
        """What a step must follow, as far as the lists are known."""
        step = self.steps[id]
        yield from step.needs
        if step.join is not None and step.join.over is not None:
            yield from (f"{id}/{key}" for key, _ in self._entries(step))

    def before(self, id: str) -> frozenset[str]:
        """Everything that a step must follow, directly or not."""
        if id not in self._before:
            needs = set(self.needs(id))
            self._before[id] = frozenset(needs.union(*(self.before(need) for need in needs)))
        return self._before[id]

    def above(self, id: str) -> Iterator[str]:
        """The steps that stand for this one, and itself."""
        parts = id.split("/")
        return ("/".join(parts[:count]) for count in range(1, len(parts) + 1))

    # Ends

    def ended_at(self, id: str) -> float:
        """The first event at which a step may be over, so that what needs it may start; inf: nothing says so."""
        if id not in self._ended:
            own = min(self._own_end(self.steps[id]), self._end_with_others(id))
            self._ended[id] = max([own, *(self.ended_at(need) for need in self.needs(id))])
        return self._ended[id]

    def over_by_itself_at(self, step: PlanStep) -> float:
        """The first event at which it may be over without anybody having skipped it."""
        return min(self._own_end(step), self.not_needed_at(step.id))

    def _own_end(self, step: PlanStep) -> float:
        mild = step.optional or step.on_failure == "skip"
        if step.join is not None:  # it ends with those that it stands for
            known = self._list(step) if step.join.over is not None else (0, [])
            return 0 if mild else math.inf if known is None else known[0]
        return next((seq for seq, fact in self.of(step.id) if self._ends(step, seq, fact, mild)), self._timed_out(step))

    def _ends(self, step: PlanStep, seq: int, fact: Fact, mild: bool) -> bool:
        if isinstance(fact, e.Done | e.AlreadySo | e.NotNeeded):
            return True
        if isinstance(fact, e.Failed | e.Interrupted):
            return mild
        if isinstance(fact, e.Ordered):
            return fact.verb in ("skip", "done", "resolve") or (step.fences and fact.verb == "override-fence")
        return isinstance(fact, e.Answered) and (mild or self._settled_by_people(step, seq))

    def _settled_by_people(self, step: PlanStep, seq: int) -> bool:
        """Whether they said that it is over, not only that it may go on."""
        purpose = [asked.purpose for _, asked in self.of(step.id, e.Asked, upto=seq)][-1:]
        over = ["gate"] if step.kind == "gate" else ["done", "override-fence"]
        return purpose[:1] != [] and purpose[0] in over and self.approved(step, seq) is not None

    def _timed_out(self, step: PlanStep) -> float:
        """When nobody answered a gate that holds nothing back."""
        if step.kind != "gate" or not (step.optional or step.on_failure == "skip"):
            return math.inf
        timers = ((row.seq, row.fact.timer) for row in self.rows if isinstance(row.fact, e.Fired))
        return next((seq for seq, timer in timers if timer.startswith(f"ask {step.id} ")), math.inf)

    def _end_with_others(self, id: str) -> float:
        """When a step that stands for this one was skipped, or came out as not needed."""
        skipped = [seq for above in self.above(id) for seq, o in self.of(above, e.Ordered) if o.verb == "skip"]
        return min([*skipped, self.not_needed_at(id)])

    def not_needed_at(self, id: str) -> float:
        """When a condition that stands above this step came out false."""
        whens = (f"{above}/_when" for above in self.above(id) if not id.startswith(f"{above}/_when"))
        return min((seq for when in whens for seq, _ in self.of(when, e.NotNeeded)), default=math.inf)

    def left_out_at(self, id: str) -> float:
        """When somebody skipped a runbook that this step is in, before its condition was decided."""
        wholes = (above for above in self.above(id) if above != id and f"{above}/_when" in self.steps)
        skips = ((whole, seq) for whole in wholes for seq, o in self.of(whole, e.Ordered) if o.verb == "skip")
        undecided = (seq for whole, seq in skips if not any(self.of(f"{whole}/_when", e.Done, upto=seq)))
        return min(undecided, default=math.inf)

    @cached_property
    def aborted_at(self) -> float:
        """The first event at which it may be at an end by a person's word, or by a step's failure."""
        return next((row.seq for row in self.rows if self._may_abort(row.fact)), math.inf)

    def _may_abort(self, fact: Fact) -> bool:
        if isinstance(fact, e.Ordered):
            return fact.verb == "abort"
        if isinstance(fact, e.Fired) and fact.timer.startswith("ask "):
            step = self.step(fact.timer.split()[1])
        else:
            step = self.step(str(getattr(fact, "step", "")))
        failed = isinstance(fact, e.Failed | e.Interrupted | e.Answered | e.Fired)
        return failed and step is not None and step.on_failure in ("abort", "rollback")

    def heals_early(self, id: str, seq: int) -> bool:
        """Whether it heals something in a run that is at an end: then it waits for nothing but its fault."""
        step = self.step(id)
        return step is not None and step.heals is not None and self.aborted_at <= seq

    def done_at(self, step: str) -> int | None:
        """Where it says that it is done, or was so already."""
        return next((seq for seq, _ in self.of(step, e.Done, e.AlreadySo)), None)

    # People

    def approved(self, step: PlanStep, upto: int = LAST) -> str | None:
        """Why the last question of a step counts as answered with yes; None: it does not."""
        asked = list(self.of(step.id, e.Asked, upto=upto))
        if not asked:
            return None
        seq, question = asked[-1]
        persons: set[Any] = set()
        for _, said in self.of(step.id, e.Answered, upto=upto, after=seq):
            if said.answer != "approve" or said.shown_hash != question.shown_hash:
                continue
            if said.plan_hash != self.plan.hash:
                continue
            roles = roles_after(step, said.t - question.t)
            if str(said.by.get("how", "")).startswith("drill policy"):
                if said.role in roles:
                    return "the drill's policy"
                continue
            if question.purpose != "gate" or (said.role in roles and said.role in said.by.get("roles", [])):
                persons.add(said.by["uid"])
        wanted = int(str(step.params.get("approvals", 1)))
        return "people" if len(persons) >= (wanted if question.purpose == "gate" else 1) else None

    def approved_at(self, step: PlanStep) -> float:
        """The event at which a gate opened."""
        return next((seq for seq, _ in self.of(step.id, e.Answered) if self.approved(step, seq) is not None), math.inf)

    def consents(self, step: str, upto: int = LAST) -> int:
        """How often a person permitted to send it again."""
        said = self.of(step, e.Ordered, upto=upto)
        again: int = sum(o.verb == "retry" or (o.verb == "resolve" and o.args.get("as") == "not-done") for _, o in said)
        everywhere = [o for seq, o in self.orders("resume") if seq <= upto and o.args.get("retry_failed")]
        return again + len(everywhere)

    def overridden(self, fence: str) -> set[Any]:
        """Persons who passed a fence unobserved."""
        said = [o.by["uid"] for _, o in self.of(fence, e.Ordered) if o.verb == "override-fence"]
        if not said:
            return set()
        asked = [seq for seq, fact in self.of(fence, e.Asked) if fact.purpose == "override-fence"]
        yes = self.of(fence, e.Answered, after=min(asked, default=LAST))
        return set(said) | {fact.by["uid"] for _, fact in yes if fact.answer == "approve"}


def roles_after(gate: PlanStep, seconds: float) -> list[str]:
    """Roles in which a gate may be answered so long after the question was put."""
    also: Any = gate.params.get("escalate") or []
    escalated = [each["role"] for each in also if parse_duration(each["after"]) <= seconds + 1e-6]
    return [str(gate.params.get("role")), *escalated]


def is_undo(id: str) -> bool:
    """Whether a step takes another one back."""
    return id.startswith(PREFIX)


def accounts(history: History) -> list[Account]:
    """One for each machine that has a journal; rows as they lie there, their chain unchecked."""
    found = []
    for machine in history.machines:
        texts = machine.disk.texts()
        if texts:
            rows = [Row.from_json(json.loads(text)) for text in texts]
            final = history.current is not None and machine is history.current.process.machine
            found.append(Account(machine.name, history.plan, rows, texts, final))
    return found
