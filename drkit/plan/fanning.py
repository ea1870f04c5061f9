"""Steps that stand for several: names of what is done for each entry of a list, and steps put under another. Pure.

A step's place is in its id: `restore/orders` is what `restore` does for `orders`, `restore/orders/dump` a step of the
runbook that it carries out for it. While a list is not known its entries are called `*`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from drkit.model.plan import PlanScope, PlanStep
from drkit.model.values import Json

ANY_ENTRY = "*"
WHEN = "_when"
"""Where a nested runbook's `when` is decided. No id of a file begins like this."""
_KEY = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_NAMES = ("id", "name")


def keys_of(items: Sequence[Json]) -> list[str]:
    """What each entry is called in ids: its own text, or its `id` or `name`, where all have one and no two the same;
    else its place, from 0."""
    for key in (None, *_NAMES):
        found = [_text(item if key is None else item.get(key) if isinstance(item, dict) else None) for item in items]
        if all(each is not None and _KEY.fullmatch(each) for each in found) and len(set(found)) == len(found):
            return [str(each) for each in found]
    return [str(place) for place in range(len(items))]


def _text(value: Json) -> str | None:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None


def renamed(step: PlanStep, name: Callable[[str], str], scope: Callable[[str | None], str | None]) -> PlanStep:
    """The step with every id in it, and the name of its scope, changed."""
    changes: dict[str, object] = {
        "id": name(step.id), "needs": tuple(name(need) for need in step.needs), "scope": scope(step.scope),
    }  # fmt: skip
    if step.kind == "when":
        changes["title"] = needed(str(changes["id"]))
    if step.join is not None and step.join.body:
        body = tuple(renamed(each, name, scope) for each in step.join.body)
        changes["join"] = step.join.model_copy(update={"body": body})
    return step.model_copy(update=changes)


def needed(id: str) -> str:
    """What the step that decides about a nested runbook asks."""
    return f"is {id.rpartition('/')[0]} needed?"


def for_entry(body: Iterable[PlanStep], join: str, key: str) -> list[PlanStep]:
    """What is done for one entry, from what is done for any."""
    change = entry_name(join, key)
    return [renamed(step, change, lambda scope: None if scope is None else change(scope)) for step in body]


def entry_name(join: str, key: str) -> Callable[[str], str]:
    """`JOIN/*` and what is below it, named for an entry; other names stay."""
    old, new = f"{join}/{ANY_ENTRY}", f"{join}/{key}"
    return lambda name: new + name[len(old) :] if name == old or name.startswith(old + "/") else name


def behind(steps: Iterable[PlanStep], root: str, earlier: str | None) -> list[PlanStep]:
    """The steps of one entry, begun only when all that is done for an earlier one has ended."""
    if earlier is None:
        return list(steps)
    return [
        step if any(is_below(need, root) for need in step.needs)
        else step.model_copy(update={"needs": (*step.needs, earlier)})
        for step in steps
    ]  # fmt: skip


def is_below(id: str, root: str) -> bool:
    """Whether this is a step that `root` stands for."""
    return id.startswith(root + "/")


def scopes_of(body: Iterable[PlanStep], scopes: dict[str, PlanScope]) -> Iterator[str]:
    """Names of the scopes that these steps, and what they stand for, read; each once."""
    seen: set[str] = set()
    for step in every(body):
        key = step.scope
        while key is not None and key not in seen:
            seen.add(key)
            yield key
            key = scopes[key].outer


def every(steps: Iterable[PlanStep]) -> Iterator[PlanStep]:
    """All steps, with those that are done for each entry of a list nobody knows yet; such a list's step needs them."""
    for step in steps:
        if step.join is None or not step.join.body:
            yield step
            continue
        body = list(every(begun_by(step, step.join.body, f"{step.id}/{ANY_ENTRY}")))
        yield from body
        yield step.model_copy(update={"needs": (*step.needs, *(each.id for each in body))})


def begun_by(join: PlanStep, steps: Iterable[PlanStep], root: str) -> Iterator[PlanStep]:
    """The steps of one entry; those that need nothing of it need what the whole needs."""
    for step in steps:
        inner = any(is_below(need, root) or need == root for need in step.needs)
        yield step if inner else step.model_copy(update={"needs": join.needs})
