"""A runbook in the making: steps, what they must follow, and the scope that they stand in.

The plan that comes out has the form that `drkit.plan.nesting` gives it: every step under the name of those that stand
for it, their own step behind them, and scopes that say what each of them reads.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from drkit.model.plan import Join, PlanScope, PlanStep
from drkit.model.values import Json
from simulation.actions import catalog
from simulation.world import SETTLE_S

BOOK = "runbook/another"
DECLARED = ("repeat", "irreversible", "unfenced", "fences", "promotes", "skippable")


class Changed(NamedTuple):
    """The step that changes a name last, and what it makes of it."""

    step: str
    value: int


@dataclass
class Draft:
    """One runbook's steps: the run's own, or those of a runbook that a step of `outer` carries out."""

    r: random.Random
    prefix: str = ""
    """What the ids of its steps begin with."""
    outer: Draft | None = None
    text: str | None = None
    """What names in it are made of, so that they are its own; None: it changes the same names as everybody."""
    mild: bool = False
    """It may be left out, or fail, as a whole: nothing that others depend on belongs into it."""
    inherited: dict[str, Any] = field(default_factory=dict)
    """What its steps say if they do not say otherwise."""
    flavour: int = 0
    """Which kind of plan this is part of."""
    steps: list[PlanStep] = field(default_factory=list)
    own: list[str] = field(default_factory=list)
    """Steps of this runbook itself, without those below them."""
    last: dict[str, Changed] = field(default_factory=dict)
    scopes: dict[str, PlanScope] = field(default_factory=dict)
    waits_for: list[str] = field(default_factory=list)
    """Steps outside that must have ended before any of it."""

    @property
    def scope(self) -> str | None:
        """What its steps read."""
        return self.prefix.rstrip("/") or None

    @property
    def depth(self) -> int:
        """How many runbooks it is inside of."""
        return 0 if self.outer is None else self.outer.depth + 1

    def local(self, id: str) -> str:
        """What one of its steps is called in it."""
        return id.removeprefix(self.prefix)

    def read_by_name(self, id: str) -> bool:
        """Whether expressions in it read what this step saw."""
        return any(step.id == id and step.kind == "action" for step in self.steps) and id in self.own

    def called(self, name: str) -> str:
        """A name in the world, for a step of this runbook."""
        return name if self.text is None else f"{self.text}-{name}"

    def next_id(self) -> str:
        """For one more step."""
        return f"{self.prefix}s{len(self.own) + 1}"

    def needs(self, after: Iterable[str]) -> list[str]:
        """What to need so that all of these have ended before; and some steps that it need not."""
        found: dict[str, None] = {}
        for id in after:
            if id.startswith(self.prefix):
                found[self.prefix + self.local(id).partition("/")[0]] = None
            else:  # outside: then all of this runbook waits for it
                self.waits_for.append(id)
        return list(found) + [id for id in self.own if id not in found and self.r.random() < 0.25]

    def put(self, id: str, steps: Iterable[PlanStep]) -> None:
        """A step, and before it those that it stands for."""
        self.steps += steps
        self.own.append(id)

    def add(self, uses: str, kind: str, params: dict[str, Any], after: Iterable[str], **more: Any) -> PlanStep:
        """One more step, after those it must follow."""
        id = self.next_id()
        made = self.made(id, uses, kind, params, self.needs(after), **more)
        self.put(id, [made])
        return made

    def made(self, id: str, uses: str, kind: str, params: dict[str, Any], needs: list[str], **more: Any) -> PlanStep:
        """A step."""
        said = {
            "id": id, "number": 0, "uses": uses, "kind": kind, "params": params, "needs": needs, "scope": self.scope,
            "timeout_s": 8.0, "poll_s": 0.5, "settle_s": SETTLE_S,
        } | more  # fmt: skip
        if kind == "action":
            said |= {key: getattr(catalog().entry(uses), key) for key in DECLARED}
        said["optional"] = said.get("optional", False) or self.inherited.get("optional", False)
        if said.get("on_failure", "pause") == "pause":
            said["on_failure"] = self.inherited.get("on_failure", "pause")
        return PlanStep(**said)

    def change(self, uses: str, name: str, value: int, after: Iterable[str], **more: Any) -> PlanStep:
        """A step that changes the world; steps on one name follow each other."""
        made = self.add(uses, "action", {"name": name, "to": value}, [*after, *self.before(name)], **more)
        self.last[name] = Changed(made.id, value)
        return made

    def before(self, name: str) -> list[str]:
        """The step that changes this name last, if there is one."""
        return [self.last[name].step] if name in self.last else []

    # Runbooks inside

    def inside(
        self, root: str, *, text: str | None = None, mild: bool = False, inherited: dict[str, Any] | None = None
    ) -> Draft:
        """The runbook that step `root` carries out. `text`: its parameter `name`, which is for it alone."""
        params: dict[str, Any] = {"parameters": {"name": text}}
        within = text
        if text is not None and "${" in text:
            params, within = {"later": {"name": text}}, "${ params.name }"
        self.scopes[root] = PlanScope(outer=self.scope, runbook="another", **params)
        last = self.last if within is None else {}
        passed = {**self.inherited, **(inherited or {})}
        return Draft(
            self.r,
            f"{root}/",
            self,
            within,
            mild or self.mild,
            passed,
            flavour=self.flavour,
            last=last,
            scopes=self.scopes,
        )

    def closed(
        self, inner: Draft, needs: list[str], when: str | None, item: PlanScope | None = None
    ) -> list[PlanStep]:  # fmt: skip
        """A runbook's steps, and at their end the one that carries them out. `item`: for this entry of a list."""
        root, first, head = inner.prefix.rstrip("/"), needs, []
        if when is not None:
            scope = self.scope
            if item is not None:
                scope = f"{root}/_when"
                self.scopes[scope] = item
            head = [
                PlanStep(
                    id=f"{root}/_when", number=0, uses=BOOK, kind="when", needs=tuple(needs), when=when, repeat="safe",
                    skippable=False, scope=scope,
                )
            ]  # fmt: skip
            first = [head[0].id]
        below = [s if s.needs else s.model_copy(update={"needs": tuple(first)}) for s in inner.steps]
        return [*head, *below, self.join(root, inner.own, Join(of="runbook"))]

    def close(self, inner: Draft, when: str | None = None, after: Iterable[str] = ()) -> None:
        """That runbook is complete, and a step of this one."""
        id = inner.prefix.rstrip("/")
        self.put(id, self.closed(inner, self.needs([*inner.waits_for, *after]), when))

    def join(self, id: str, needs: Iterable[str], join: Join, **more: Any) -> PlanStep:
        """A step that stands for several."""
        return PlanStep(
            id=id, number=0, uses=BOOK, kind="join", needs=tuple(needs), join=join, repeat="safe", skippable=False,
            timeout_s=0.0, scope=self.scope, **more,
        )  # fmt: skip


def entry_scope(draft: Draft, each: Json, index: int | None) -> PlanScope:
    """What is read for one entry of a list of this runbook."""
    return PlanScope(outer=draft.scope, item=True, each=each, index=index)
