"""What journals say, in a form that can be asked; from the facts alone, because the fold is what is judged."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from drkit.engine.compensation import PREFIX
from drkit.model import events as e
from drkit.model.events import Command, Fact, Row
from drkit.model.plan import Plan, PlanStep
from simulation.history import History

SENDING = ("prepare", "apply", "recover")
STARTING = ("prepare", "observe", "apply", "ask")


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

    def __post_init__(self) -> None:
        for row in self.rows:
            self._facts[getattr(row.fact, "step", None) or ""].append((row.seq, row.fact))

    def of(self, step: str, *kinds: type[Fact], upto: int = 10**9, after: int = 0) -> Iterator[tuple[int, Any]]:
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

    def may_have_ended(self, step: PlanStep, upto: int) -> bool:
        """Whether anything up to there says that this step is over, so that what needs it may start."""
        for _, fact in self.of(step.id, upto=upto):
            if isinstance(fact, e.Done | e.AlreadySo | e.NotNeeded):
                return True
            if isinstance(fact, e.Failed | e.Interrupted) and (step.optional or step.on_failure == "skip"):
                return True
            if isinstance(fact, e.Ordered) and fact.verb in ("skip", "done", "resolve"):
                return True
            if isinstance(fact, e.Answered) and fact.answer == "approve" and self.approved(step, upto):
                return True
            if isinstance(fact, e.Answered) and (step.optional or step.on_failure == "skip"):
                return True
        return any(o.verb == "override-fence" for _, o in self.of(step.id, e.Ordered, upto=upto) if step.fences)

    def approved(self, step: PlanStep, upto: int = 10**9) -> str | None:
        """Why the last question of a step counts as answered with yes; None: it does not."""
        asked = list(self.of(step.id, e.Asked, upto=upto))
        if not asked:
            return None
        seq, question = asked[-1]
        role, wanted = str(step.params.get("role")), int(str(step.params.get("approvals", 1)))
        persons: set[Any] = set()
        for _, said in self.of(step.id, e.Answered, upto=upto, after=seq):
            if said.answer != "approve" or said.shown_hash != question.shown_hash:
                continue
            if said.plan_hash != self.plan.hash:
                continue
            if str(said.by.get("how", "")).startswith("drill policy"):
                return "the drill's policy"
            if question.purpose != "gate" or (said.role == role and role in said.by.get("roles", [])):
                persons.add(said.by["uid"])
        return "people" if len(persons) >= (wanted if question.purpose == "gate" else 1) else None

    def consents(self, step: str, upto: int = 10**9) -> int:
        """How often a person permitted to send it again."""
        said = self.of(step, e.Ordered, upto=upto)
        again: int = sum(o.verb == "retry" or (o.verb == "resolve" and o.args.get("as") == "not-done") for _, o in said)
        everywhere = [o for seq, o in self.orders("resume") if seq <= upto and o.args.get("retry_failed")]
        return again + len(everywhere)

    def done_at(self, step: str) -> int | None:
        """Where it says that it is done, or was so already."""
        return next((seq for seq, _ in self.of(step, e.Done, e.AlreadySo)), None)

    def overridden(self, fence: str) -> set[Any]:
        """Persons who passed a fence unobserved."""
        said = [o.by["uid"] for _, o in self.of(fence, e.Ordered) if o.verb == "override-fence"]
        if not said:
            return set()
        asked = [seq for seq, fact in self.of(fence, e.Asked) if fact.purpose == "override-fence"]
        yes = self.of(fence, e.Answered, after=min(asked, default=10**9))
        return set(said) | {fact.by["uid"] for _, fact in yes if fact.answer == "approve"}

    def step(self, id: str) -> PlanStep | None:
        """A step of the plan; None for compensations."""
        return None if id.startswith(PREFIX) else self.plan.step(id)


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
