"""Made-up runbooks: whatever a seed says, but sound (a promotion has its fence before it, traffic moves after both).

A maker adds one step, or several, to a draft; another kind of step is another maker in MAKERS. Steps that stand for
several are in `scopes`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

from drkit.model.plan import Plan
from drkit.model.runbook import Retry
from simulation import scopes
from simulation.drafts import Draft

NAMES = ("a", "b", "c")
PAUSE_MOSTLY = ("pause", "pause", "pause", "pause", "retry", "skip", "rollback", "abort")
TIMEOUTS_S = (8.0, 8.0, 8.0, 4.0, 2.5)
Maker = Callable[[Draft], None]


def change(draft: Draft) -> None:
    """Any change that can be taken back, or now and then one that cannot."""
    r = draft.r
    uses = r.choice(["sim.put", "sim.put", "sim.once", "sim.ask", "sim.ask", "sim.checked"] + ["sim.final"] * 1)
    if uses == "sim.final" and r.random() < 0.5:
        uses = "sim.put"
    name = draft.called(r.choice(NAMES))
    before = draft.last.get(name)
    value = 1 if before is None else before.value + 1
    more: dict[str, Any] = {"on_failure": r.choice(PAUSE_MOSTLY), "optional": r.random() < 0.1}
    more["timeout_s"] = r.choice(TIMEOUTS_S)
    if r.random() < 0.3:
        more["retry"] = Retry(times=r.choice([1, 2]), backoff=r.choice([0.5, 3.0]))
    if r.random() < 0.15:
        more["hold_s"] = 1.0
    if before is not None and draft.read_by_name(before.step) and r.random() < 0.2:
        more["when"] = f"steps.{draft.local(before.step)}.value == {r.choice([value - 1, value - 1, 99])}"
    draft.change(uses, name, value, (), **more)


def look(draft: Draft) -> None:
    """A probe that waits until something is as it should be."""
    if not draft.last:
        return
    name = draft.r.choice(list(draft.last))
    before = draft.last[name]
    draft.add(
        "sim.value", "probe", {"name": name}, [before.step], verify=f"now.value == {before.value}",
        on_failure=draft.r.choice(["pause", "retry", "skip"]), hold_s=draft.r.choice([0.0, 0.0, 1.0]),
    )  # fmt: skip


def gate(draft: Draft) -> None:
    """One or two persons must say yes; if they do not, others may be asked too."""
    r = draft.r
    params: dict[str, Any] = {"role": r.choice(["ic", "ic", "dba", "cto"])}
    if params["role"] == "ic":
        params["approvals"] = r.choice([1, 2])
    if params["role"] == "cto" or r.random() < 0.4:  # nobody is cto: somebody else must be asked
        after_s = r.choice([1.0, 4.0, 9.0])
        other = "dba" if params["role"] == "ic" else "ic"
        params["escalate"] = [{"after": after_s, "role": other}]
        if r.random() < 0.4:
            third = next(role for role in ("cto", "dba") if role not in (params["role"], other))
            params["escalate"].append({"after": after_s + 3.0, "role": third})
        if r.random() < 0.5:
            params["timeout"] = after_s + r.choice([20.0, 60.0])
    draft.add("gate.approve", "gate", params, ())


def move(draft: Draft) -> None:
    """Fence, promote and move the traffic, with anything in between, each of them in a runbook of its own or not.

    Once a plan, and where no condition stands above it.
    """
    if draft.mild or "users" in draft.last:
        return
    wrap(draft, lambda inner: inner.change("sim.fence", "east", 0, ()))
    between(draft)
    fence = draft.last["east"].step
    wrap(draft, lambda inner: inner.change("sim.promote", "west", 1, [fence]))
    between(draft)
    promote = draft.last["west"].step
    wrap(draft, lambda inner: inner.change("sim.checked", "users", 1, [promote]))


def fault(draft: Draft) -> None:
    """Something is broken on purpose, as in a drill; what heals it follows at the end."""
    if draft.outer is None:
        params = {"name": f"fault{len(draft.own)}", "to": 1}
        draft.add("sim.break", "action", params, (), part="inject", on_failure=draft.r.choice(PAUSE_MOSTLY))


def heal_all(draft: Draft) -> None:
    """A heal for each fault: as soon as that is there, or behind all that nothing else waits for."""
    for inject in [step for step in draft.steps if step.part == "inject"]:
        needed = {need for step in draft.steps for need in step.needs}
        last = [id for id in draft.own if id not in needed]
        needs, id = draft.r.choice([[inject.id], last]), draft.next_id()
        params = {"name": inject.params["name"], "to": 0}
        made = draft.made(
            id, "sim.heal", "action", params, needs, part="heal", heals=inject.id, retry=Retry(times=2, backoff=1.0)
        )  # fmt: skip
        # Whatever the runbook says of its steps: a heal is never skipped as already so, and never given up by itself.
        own = {"skippable": False, "optional": False, "on_failure": "pause"}
        draft.put(id, [made.model_copy(update=own)])


def wrap(draft: Draft, maker: Callable[[Draft], object]) -> None:
    """Do it here, or in a nested runbook with other steps beside it."""
    if draft.r.random() > 0.2 or draft.depth == scopes.DEPTH_MAX:
        maker(draft)
        return
    inner = draft.inside(draft.next_id())
    between(inner)
    maker(inner)
    between(inner)
    draft.close(inner)


def between(draft: Draft) -> None:
    """Perhaps another step."""
    if draft.r.random() < 0.4:
        draft.r.choice([change, gate, look])(draft)


def some(draft: Draft, count: int) -> None:
    """So many makers, whatever they make; at least one step."""
    while not draft.own:
        for maker in draft.r.choices(list(MAKERS), [weights[draft.flavour] for weights in MAKERS.values()], k=count):
            maker(draft)


def nested(draft: Draft) -> None:
    """Another runbook, carried out as a step."""
    scopes.nested(draft, some)


def listed(draft: Draft) -> None:
    """Something for each entry of a list."""
    scopes.listed(draft, some, change)


#: How likely each is in a plan that is mostly a checklist, and in one made of others.
MAKERS: dict[Maker, tuple[float, float]] = {
    change: (6, 4), look: (1, 0.5), gate: (1.2, 1), move: (1.5, 0.2), nested: (0.3, 2), listed: (0.3, 3),
    fault: (1, 0.5),
}  # fmt: skip


def random_plan(r: random.Random, on_failure: str | None = None) -> Plan:
    """A plan of one to nine steps, some of which stand for several. `on_failure`: of steps that choose nothing else."""
    flavour = int(r.random() < 0.35)
    draft = Draft(r, flavour=flavour, inherited={} if on_failure is None else {"on_failure": on_failure})
    some(draft, r.randint(1, 6 - 3 * flavour))
    heal_all(draft)
    return Plan.model_validate(
        {
            "schema": "drkit.plan/1", "runbook": "made-up", "runbook_digest": "sha256:0", "environment": "test",
            "environment_kind": "sandbox", "account": "none", "source": "east", "target": "west",
            "steps": tuple(numbered(draft)), "scopes": draft.scopes, "catalog": "sha256:0", "drkit": "0",
            "deadline_s": r.choice([4.0, 15.0, 60.0]) if r.random() < 0.2 else None,
        }
    )  # fmt: skip


def numbered(draft: Draft) -> Iterable[Any]:
    """The steps with their places."""
    return (step.model_copy(update={"number": number}) for number, step in enumerate(draft.steps, 1))
