"""Steps that stand for several: nested runbooks, and what is done for each entry of a list, known or not.

What is done for an entry is made from one seed for all of them, as a planner resolves one text for all of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from drkit.model.plan import Join, PlanStep
from drkit.model.values import Json
from drkit.plan import fanning
from simulation.drafts import Changed, Draft, entry_scope

DEPTH_MAX = 3
STEPS_MAX = 16
"""A runbook with more steps grows no further."""
Some = Callable[[Draft, int], None]
Maker = Callable[[Draft], None]


def nested(draft: Draft, some: Some) -> None:
    """Another runbook, carried out as a step, perhaps only under a condition."""
    if draft.depth == DEPTH_MAX or _large(draft):
        return
    r, root = draft.r, draft.next_id()
    when = _when(draft) if r.random() < 0.3 else None
    inner = draft.inside(
        root, text=None if draft.text is None else draft.called(draft.local(root)), mild=when is not None,
        inherited=_told(r),
    )  # fmt: skip
    inner.mild |= bool(inner.inherited)
    some(inner, r.randint(1, 3))
    draft.close(inner, when, draft.own[-1:] if when is not None else ())


def listed(draft: Draft, some: Some, change: Maker) -> None:
    """Something for each entry of a list: one that the plan holds, or one that only a step will have seen."""
    if draft.depth == DEPTH_MAX or _large(draft):
        return
    r = draft.r
    count, at_once = r.choice([0, 1, 2, 2, 3]), r.choice([None, None, 1, 1, 2, 3])
    found = draft.text is not None or r.random() < 0.6
    if not found and at_once == 1 and r.random() < 0.5:
        _one_after_the_other(draft, count)
        return
    whole = draft.depth + 1 < DEPTH_MAX and r.random() < 0.4
    body = _Body(r.getrandbits(32), draft, some if whole else None, change, _told(r), _entry_when(r))
    if found:
        _found(draft, body, count, at_once)
        return
    _known(draft, body, _items(draft, draft.next_id(), count, r), at_once)


class _Body:
    """What is done for each entry."""

    def __init__(
        self, seed: int, draft: Draft, some: Some | None, change: Maker, told: dict[str, Any], when: str | None
    ) -> None:  # fmt: skip
        """`some`: fills a runbook that is carried out for it; None: it is a single step."""
        self._seed, self._draft, self._some, self._change = seed, draft, some, change
        self._told, self._when = told, when

    def steps(self, root: str, text: str, each: Json, index: int | None, needs: list[str]) -> list[PlanStep]:
        """For one entry: `text` is what it is called, or a reference to that."""
        draft, r = self._draft, random.Random(self._seed)
        scope = entry_scope(draft, each, index)
        if self._some is None:
            alone = Draft(r, f"{root}/", draft, text, True, self._told)
            self._change(alone)
            step = alone.steps[0].model_copy(update={"id": root, "needs": tuple(needs), "scope": root})
            draft.scopes[root] = scope
            return [step if self._when is None else step.model_copy(update={"when": self._when})]
        outer = Draft(
            r, draft.prefix, draft.outer, draft.text, True, draft.inherited, flavour=draft.flavour, scopes=draft.scopes
        )
        inner = outer.inside(root, text=text, mild=True, inherited=self._told)
        more = {"item": True, "each": each, "index": index}
        draft.scopes[root] = draft.scopes[root].model_copy(update=more)
        self._some(inner, r.randint(1, 2))
        if r.random() < 0.3:
            listed(inner, self._some, self._change)
        return outer.closed(inner, needs, self._when, scope)


def _known(draft: Draft, body: _Body, items: list[Json], at_once: int | None) -> None:
    """A list that the plan holds."""
    id, needs = draft.next_id(), draft.needs(())
    steps: list[PlanStep] = []
    roots: list[str] = []
    for place, (key, item) in enumerate(zip(fanning.keys_of(items), items, strict=True)):
        root = f"{id}/{key}"
        own = body.steps(root, key, item, place, needs)
        earlier = roots[place - at_once] if at_once is not None and place >= at_once else None
        steps += fanning.behind(own, root, earlier)
        roots.append(root)
    draft.put(id, [*steps, draft.join(id, roots or needs, Join(of="items", at_once=at_once))])


def _found(draft: Draft, body: _Body, count: int, at_once: int | None) -> None:
    """A list that a step sees: as many of these entries as a value in the world says."""
    r, probe = draft.r, draft.next_id()
    text = probe.replace("/", "-") if draft.text is None else draft.called(draft.local(probe))
    items: list[Json] = [f"{text}-{letter}" for letter in "xyz"[:count]]
    if draft.text is None and r.random() < 0.3:
        items = [{"id": item} for item in items]
    of = draft.add(
        "sim.list", "probe", {"name": r.choice("abc"), "of": items}, (),
        on_failure=r.choice(["pause", "pause", "retry", "skip"]), optional=r.random() < 0.1,
    )  # fmt: skip
    id = draft.next_id()
    each, needs = "${ each.id }" if items and isinstance(items[0], dict) else "${ each }", draft.needs([of.id])
    steps = body.steps(f"{id}/{fanning.ANY_ENTRY}", each, None, None, needs)
    over = f"${{ steps.{draft.local(of.id)}.items }}"
    join = Join(of="items", over=over, at_once=at_once, body=tuple(steps))
    policy = r.choice(["pause", "pause", "skip", "abort", "rollback"])
    draft.put(id, [draft.join(id, needs, join, on_failure=policy)])


def _one_after_the_other(draft: Draft, count: int) -> None:
    """A list whose entries change the same name in turn."""
    name = draft.called("c")
    id, needs = draft.next_id(), draft.needs(draft.before(name))
    value = draft.last[name].value if name in draft.last else 0
    steps: list[PlanStep] = []
    for place, key in enumerate("xyz"[:count]):
        root, params = f"{id}/{key}", {"name": name, "to": value + place + 1}
        own = draft.made(root, "sim.put", "action", params, needs, scope=root)
        draft.scopes[root] = entry_scope(draft, key, place)
        steps += fanning.behind([own], root, steps[-1].id if steps else None)
    draft.put(id, [*steps, draft.join(id, [s.id for s in steps] or needs, Join(of="items", at_once=1))])
    if count:
        draft.last[name] = Changed(id, value + count)


def _items(draft: Draft, id: str, count: int, r: random.Random) -> list[Json]:
    text = id.replace("/", "-")
    names: list[Json] = [f"{text}-{letter}" for letter in "xyz"[:count]]
    return [{"name": name} for name in names] if r.random() < 0.3 else names


def _told(r: random.Random) -> dict[str, Any]:
    """What a step says for those that it stands for."""
    told: dict[str, Any] = {}
    if r.random() < 0.15:
        told["optional"] = True
    if r.random() < 0.3:
        told["on_failure"] = r.choice(["skip", "rollback", "retry", "abort"])
    return told


def _when(draft: Draft) -> str:
    """Whether a runbook is needed, by what was seen before."""
    seen = [change for change in draft.last.values() if draft.read_by_name(change.step)]
    if not seen:
        return draft.r.choice(["1 == 1", "1 == 2"])
    change = draft.r.choice(seen)
    return f"steps.{draft.local(change.step)}.value == {draft.r.choice([change.value, change.value, 99])}"


def _entry_when(r: random.Random) -> str | None:
    return r.choice(["index != 1", "index == 0", "index > 5"]) if r.random() < 0.25 else None


def _large(draft: Draft) -> bool:
    while draft.outer is not None:
        draft = draft.outer
    return len(draft.steps) > STEPS_MAX
