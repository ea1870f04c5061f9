"""What authors of actions test with: a context over fakes, and the contract that every action has to keep.

    async def test_scale() -> None:
        world = FakeKubernetes()
        ctx = testing.context(environment, fakes={Kubernetes: world})
        await testing.keeps_contract(scale, Scale(deployment="checkout", to=24), ctx)

Fakes enter where providers enter; nothing else is replaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from drkit.catalog import Action, Catalog
from drkit.context import Context, Provider, Providers
from drkit.engine.clock import SystemClock
from drkit.errors import PreflightFailed
from drkit.model.environment import Environment, SecretRef
from drkit.model.observation import Observation, State
from drkit.model.params import Params
from drkit.model.ports import Clock

PT = TypeVar("PT", bound=Params)
OT = TypeVar("OT", bound=Observation)


@dataclass
class FakeSecrets:
    """Knows the secrets it is given, by reference."""

    known: Mapping[str, str] = field(default_factory=dict)

    def get(self, ref: SecretRef | str) -> str:
        """The secret. PreflightFailed if it is not known."""
        name = ref if isinstance(ref, str) else ref.ref
        if name not in self.known:
            raise PreflightFailed(f"the test knows no secret {name}")
        return self.known[name]

    def redact(self, text: str) -> str:
        """`text` without any known secret."""
        for secret in self.known.values():
            text = text.replace(secret, "[redacted]")
        return text


def context(
    environment: Environment,
    *,
    fakes: Mapping[type[Provider], Provider] | None = None,
    secrets: Mapping[str, str] | None = None,
    clock: Clock | None = None,
    run: str = "test",
    step: str = "step",
    source: str | None = None,
    target: str | None = None,
    drill: bool = True,
) -> Context:
    """A context for one step. Source and target default to the environment's first two regions."""
    known = FakeSecrets(secrets or {})
    regions = (*environment.regions, "", "")
    return Context(
        environment=environment, providers=Providers(environment, known, fakes), secrets=known,
        clock=clock or SystemClock(), run=run, step=step, source=source or regions[0], target=target or regions[1],
        drill=drill,
    )  # fmt: skip


@dataclass(frozen=True)
class Rehearsal:
    """What one action did: the observation before, the one after, and the one after its undo (None without one)."""

    before: Observation
    after: Observation
    undone: Observation | None


async def keeps_contract(
    action: Action[PT, OT], params: PT, ctx: Context, *, catalog: Catalog | None = None
) -> Rehearsal:
    """Carry an action out once and take it back; AssertionError for every promise it does not keep.

    Observing twice in a row must answer the same (it writes nothing); the check must not hold before and must hold
    after; applying a `safe` action again must change nothing; undo must restore what was observed before. `catalog`
    finds the action that undo names, if it is another one.
    """
    before = await action.observe(ctx, params)
    again = await action.observe(ctx, params)
    assert before == again, f"{action.name}: observing changed what is observed: {before} became {again}"
    assert action.state(params, before) is not State.HOLDS, f"{action.name}: nothing to do, so nothing would be shown"
    await action(ctx, params, before)
    after = await action.observe(ctx, params)
    assert action.state(params, after) is State.HOLDS, f"{action.name}: applied, and its check does not hold: {after}"
    if action.repeat == "safe":
        await action(ctx, params, before)
        repeated = await action.observe(ctx, params)
        assert repeated == after, f"{action.name} is declared safe to repeat, and repeating changed {repeated}"
    return Rehearsal(before, after, await _undone(action, params, before, after, ctx, catalog))


async def _undone(
    action: Action[PT, OT], params: PT, before: OT, after: OT, ctx: Context, catalog: Catalog | None
) -> Observation | None:
    if action.undoer is None:
        return None
    use = action.undoer(params, before, after)
    if use is None:
        return None
    back: Action[Any, Any] = action if use.uses == action.name else _action(catalog or Catalog(), use.uses)
    undo = back.params.model_validate(use.params, strict=False)
    await back(ctx, undo, await back.observe(ctx, undo))
    now = await action.observe(ctx, params)
    assert now == before, f"{action.name}: undo left {now} where {before} was"
    return now


def _action(catalog: Catalog, name: str) -> Action[Any, Any]:
    entry = catalog.entry(name)
    assert isinstance(entry, Action), f"undo names {name}, which is no action"
    return entry
